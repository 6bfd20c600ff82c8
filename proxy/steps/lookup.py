"""A look-up of one stored answer: hit, or one upstream call for all who ask meanwhile."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace

from proxy.core import policy
from proxy.core.admission import Rules, Verdict, admit
from proxy.core.cachecontrol import RequestDirectives, parse, request_directives
from proxy.core.errors import UpstreamError
from proxy.core.headers import Headers
from proxy.core.keys import key_value
from proxy.core.model import Entry, Found, Outcome, Reason, Ref, Reply, Request, Ticket, XCache
from proxy.core.replies import from_entry
from proxy.core.settings import Lookup, Settings, View
from proxy.leases import Loaded, Shared
from proxy.steps import body as bodies
from proxy.steps.callers import Caller, admitted, vouch
from proxy.steps.exchange import Exchange
from proxy.steps.forms import FormBody
from proxy.steps.misses import within_budget
from proxy.steps.offers import offered
from proxy.steps.passing import bypass, not_cached

# RFC 5861 §4: what counts as an error that a stale answer may stand in for.
STALE_IF_STATUS = frozenset({500, 502, 503, 504})


def make_ref(settings: Settings, action: Lookup, value: str | tuple[str, ...]) -> Ref | None:
    """What is stored of the user with that key; None where the value can't be one."""
    kept = key_value(settings.user, action.by, value) if isinstance(value, str) else None
    return None if kept is None else Ref(action.by, kept, action.view)


class Plan(msgspec.Struct, frozen=True):
    """How one stored answer is looked up, refilled and judged; made by the route's kind.

    `usable` may turn a stored answer down with a reason; `loaded` is told of the status and the judgement of
    what upstream said to this caller. `unkept`: why "not found" may not be kept.
    """

    ref: Ref
    view: View
    rules: Rules
    caller: Caller
    usable: Callable[[Found], Reason | None] | None = None
    loaded: Callable[[int, Verdict], None] | None = None
    unkept: Reason | None = None


async def lookup(x: Exchange, action: Lookup) -> Reply:
    """Answers `GET` of one user by any of its keys."""
    x.outcome.view = action.view
    ref = make_ref(x.services.settings, action, x.values[action.var])
    plan = Reason.KEY_UNUSABLE if ref is None else await planned(x, action, ref)
    return await (bypass(x, plan) if isinstance(plan, Reason) else answer(x, plan))


async def planned(x: Exchange, action: Lookup, ref: Ref) -> Plan | Reason:
    """How this caller is answered who asks for `ref`, or why upstream decides."""
    view = x.services.settings.views[action.view]
    caller = await admitted(x)
    if caller.denied is not None and caller.note is None:
        return caller.denied
    if caller.owner is not None and ref.key == "id" and ref.value != caller.owner:
        return Reason.NOT_OWNER
    ref = replace(ref, slot=caller.slot(view.name))
    return Plan(ref, view, rules_of(x, view, caller, exp=caller.exp), caller, usable=_owned(caller))


def _owned(caller: Caller) -> Callable[[Found], Reason | None] | None:
    """Turns down the copy of another user than the one that alone may be had."""
    if caller.owner is None:
        return None
    return lambda found: None if found.entry.user_id == caller.owner else Reason.NOT_OWNER


def rules_of(
    x: Exchange,
    view: View,
    caller: Caller,
    *,
    per_token: bool = False,
    exp: float | None = None,
    opaque: tuple[tuple[str, ...], ...] = (),
    sent: tuple[str, ...] = (),
) -> Rules:
    """What this route says about its answers, for the admission."""
    return Rules(
        view=view,
        model=x.services.settings.user,
        redactor=x.services.redactor,
        secrets=x.route.secrets,
        credentials_checked=not caller.guarded,
        per_token=per_token,
        opaque=opaque,
        token_exp=exp,
        private=caller.private,
        credential_headers=x.services.settings.credential_headers,
        sent=sent,
    )


async def answer(x: Exchange, plan: Plan) -> Reply:
    """Serves `plan.ref` from the cache, or from upstream through it."""
    directives = request_directives(x.request.headers)
    if directives.no_store:
        return await bypass(x, Reason.REQUEST_NO_STORE)
    x.outcome.x_cache = XCache.MISS
    if plan.caller.note is not None:
        return await _vouched(x, plan, plan.caller.note)
    seen = x.services.cache.leases.landed
    spare: Found | None = None
    looked = await x.services.cache.get(plan.ref)
    if isinstance(looked, Found):
        served, spare = _served(x, plan, looked, directives)
        if served is not None:
            return served
    else:
        x.outcome.reason = looked.reason
    if directives.only_if_cached:
        raise not_cached(x)
    if x.request.method == "HEAD":
        # The answer to a HEAD has no body to store; a GET fills the entry that both are answered from.
        if plan.loaded is None:
            return await x.forward()
        x = replace(x, request=replace(x.request, method="GET"))
    alone = plan.caller.guarded or directives.no_cache or directives.max_age is not None

    async def ask(nobody: bool) -> Reply:
        unkept = None if nobody else Reason.TOO_MANY_MISSES
        return await _filled(x, replace(plan, unkept=unkept), None if alone else seen)

    try:
        # Who may have a stale answer asks for somebody who was there.
        reply = await (within_budget(x, ask) if spare is None else ask(True))
    except UpstreamError:
        if spare is None:
            raise
        return _stale(x, spare)
    if spare is not None and reply.status in STALE_IF_STATUS:
        await bodies.close(reply.body)
        return _stale(x, spare)
    return reply


async def _vouched(x: Exchange, plan: Plan, note: Ref) -> Reply:
    """Lets upstream judge a caller nobody knows yet, once for all of that user's requests meanwhile."""
    x.outcome.reason = plan.caller.denied
    leases = x.services.cache.leases
    accepted: list[Entry] = []

    def loaded(_: int, verdict: Verdict) -> None:
        # A page that asks to log in is no user, and who is shown to be inactive was not accepted.
        if (shown := verdict.entry) and not (shown.user_id == note.value and shown.active is False):
            accepted.append(shown)

    async def ask(_: bool) -> Reply:
        # "Not found" may be said of the caller, whom nobody knows.
        return await _filled(x, replace(plan, unkept=plan.caller.denied, loaded=loaded), None)

    async def judge(_: Ticket) -> Loaded[Reply]:
        reply = await within_budget(x, ask)
        return Loaded(reply, vouch(x, note, reply.status, plan.view.ttl) if accepted else None)

    result = await leases.fill_once(note, leases.landed, judge)
    if isinstance(result, Shared):
        # Upstream accepted a token; whether it was this one, and all else, is looked at anew.
        caller = await admitted(x)
        if caller.denied is not None:
            return await bypass(x, caller.denied)
        return await answer(x, replace(plan, caller=caller))
    return result.value


def _served(
    x: Exchange, plan: Plan, found: Found, directives: RequestDirectives
) -> tuple[Reply | None, Found | None]:
    """(reply, None) where the stored answer may be served now, else (None, what to fall back on)."""
    if (why := unusable(x, plan, found)) is not None:
        x.outcome.reason = why
        return None, None
    now = x.services.now()
    match policy.plan(found.entry, plan.view, directives, now):
        case policy.Fresh(_, ttl):
            x.outcome.x_cache, x.outcome.tier, x.outcome.ttl = XCache.HIT, found.tier, ttl
            reply = from_entry(x.request, found.entry, now)
            offer = offered(x, plan.ref, found, directives, reply)
            return reply if offer is None else replace(reply, offer=offer), None
        case policy.Stale(_, revalidate):
            if revalidate:
                _refresh(x, plan)
            return _stale(x, found), None
        case policy.Expired(reason, stale_if_error):
            x.outcome.reason = reason
            return None, found if stale_if_error else None


def unusable(x: Exchange, plan: Plan, found: Found) -> Reason | None:
    """Why this caller may not have the copy that was found, though the route's rule let them in."""
    if plan.caller.guarded and not _public(x, found.entry):
        return Reason.CREDENTIALS
    return plan.usable(found) if plan.usable is not None else None


def _stale(x: Exchange, found: Found) -> Reply:
    x.outcome.x_cache, x.outcome.tier = XCache.STALE, found.tier
    x.outcome.ttl = math.floor(found.entry.expires - x.services.now())
    return from_entry(x.request, found.entry, x.services.now())


def _public(x: Exchange, entry: Entry) -> bool:
    # RFC 9111 §3.5: only an answer that says so may serve requests with credentials of others; what it says
    # of must-revalidate, it says of Authorization alone.
    control = parse(Headers(entry.headers).joined("cache-control"))
    if "public" in control or "s-maxage" in control:
        return True
    others = ("cookie", *x.services.settings.credential_headers)
    return "must-revalidate" in control and not any(name in x.request.headers for name in others)


async def _filled(x: Exchange, plan: Plan, seen: int | None) -> Reply:
    """Asks upstream and stores; with `seen` (see `Leases.fill_once`) shares the call with all who ask."""
    loader = _loader(x, plan)
    leases = x.services.cache.leases
    result = await (
        leases.alone(plan.ref, loader) if seen is None else leases.fill_once(plan.ref, seen, loader)
    )
    if isinstance(result, Shared):
        entry, now = result.found.entry, x.services.now()
        if (why := unusable(x, plan, result.found)) is not None:
            return await bypass(x, why)
        x.outcome.x_cache, x.outcome.tier = XCache.HIT, result.found.tier
        x.outcome.collapsed, x.outcome.ttl = result.collapsed, int(entry.expires - now)
        return from_entry(x.request, entry, now)
    x.outcome.stored = result.stored
    if result.refused is not None:
        x.outcome.skipped = result.refused
    return result.value


def _loader(x: Exchange, plan: Plan) -> Callable[[Ticket], Awaitable[Loaded[Reply]]]:
    async def load(_: Ticket) -> Loaded[Reply]:
        began = x.services.now()
        reply = await x.forward(fill=True)
        came = x.services.now()
        body = await bodies.read(reply, x.services.settings.user.max_size)
        if isinstance(body, bodies.Rest):
            x.outcome.skipped = Reason.TOO_LARGE
            return Loaded(replace(reply, body=body), None)
        verdict = admit(plan.rules, plan.ref, x.request.headers, reply, body, asked=began, now=came)
        x.outcome.taken = verdict.taken
        if plan.loaded is not None:
            plan.loaded(reply.status, verdict)
        if verdict.entry is not None and reply.status == 404 and plan.unkept is not None:
            verdict = replace(verdict, entry=None, reason=plan.unkept)
        if verdict.entry is not None and plan.caller.owner not in (None, verdict.entry.user_id):
            # Upstream showed this caller another's; who else may see it is not known here.
            verdict = replace(verdict, entry=None, reason=Reason.NOT_OWNER)
        return Loaded(_judged(x, reply, verdict), verdict.entry)

    return load


def _judged(x: Exchange, reply: Reply, verdict: Verdict) -> Reply:
    if verdict.entry is not None:
        x.outcome.ttl = round(verdict.entry.expires - verdict.entry.stored)
        return from_entry(x.request, verdict.entry, None)
    x.outcome.skipped = verdict.reason
    return replace(reply, headers=verdict.headers, body=verdict.body)


def _refresh(x: Exchange, plan: Plan) -> None:
    """Asks upstream behind a stale answer, once however many readers come by."""
    cache = x.services.cache
    if cache.leases.under_way(plan.ref):
        return
    # The client's connection ends with its answer, so what runs behind it has an outcome of its own.
    background = Exchange(x.services, _without_body(x.request), x.route, x.values, Outcome())

    async def refresh() -> None:
        result = await cache.leases.fill_once(plan.ref, cache.leases.landed, _loader(background, plan))
        if not isinstance(result, Shared):
            await bodies.close(result.value.body)

    cache.in_background(refresh())


def _without_body(request: Request) -> Request:
    # A form is part of the question, and here already.
    if isinstance(request.body, FormBody):
        return replace(request, interim=None)
    return replace(request, method="GET", body=None, interim=None)
