"""A resource: answered from its stored copy, revalidated, or asked for once for all who wait (RFC 9111)."""

from __future__ import annotations

import math

from msgspec.structs import replace

from proxy.core import policy
from proxy.core.cachecontrol import RequestDirectives, request_directives
from proxy.core.errors import ClientError, UpstreamError, UpstreamTimeout
from proxy.core.headers import Headers
from proxy.core.model import Absent, Entry, Found, Outcome, Reason, Ref, Reply, XCache
from proxy.core.resourcekeys import resource_ref, variant_ref
from proxy.core.resources import Kept, decide, entry_of, keep, names_of, updated, windows_of
from proxy.core.served import from_resource
from proxy.core.settings import Resource
from proxy.core.targeted import directives
from proxy.core.tokenplace import in_target
from proxy.core.validation import describes
from proxy.core.variants import variant
from proxy.leases import Shared
from proxy.steps import body as bodies
from proxy.steps.callers import Caller, admitted
from proxy.steps.exchange import Exchange
from proxy.steps.lookup import STALE_IF_STATUS
from proxy.steps.offers import offered_resource
from proxy.steps.passing import vouched_bypass
from proxy.steps.refill import CHOOSING, Fill, Look, without_secrets

_PRECONDITIONS = ("if-match", "if-unmodified-since")
# How often a reader whose key turns out to vary looks again before it asks upstream by itself.
_TURNS = 3


async def resource(x: Exchange, rule: Resource, unkeyed: Reason | None) -> Reply:
    """Answers GET and HEAD of a resource route; `unkeyed` is what makes one mean something else."""
    if unkeyed is None and in_target(x.request.target, x.services.settings.token_from):
        unkeyed = Reason.CREDENTIALS
    if unkeyed is not None:
        return await bypass(x, rule, unkeyed)
    asked = request_directives(x.request.headers)
    if asked.no_store:
        return await bypass(x, rule, Reason.REQUEST_NO_STORE)
    if any(name in x.request.headers for name in _PRECONDITIONS):
        # Only the origin can tell (RFC 9110 §13.1.1).
        return await bypass(x, rule, Reason.REQUEST_PRECONDITION)
    caller = await admitted(x)
    if caller.note is not None and caller.denied is not None:
        view = x.services.settings.views.get(x.services.user_view)
        ttl = 0.0 if view is None else view.ttl
        return await vouched_bypass(x, caller.note, ttl, caller.denied)
    if caller.denied is not None:
        return await bypass(x, rule, caller.denied)
    x.outcome.x_cache = XCache.MISS
    base = resource_ref(x.request.target, x.request.headers)
    for _ in range(_TURNS):
        reply = await _turn(x, rule, caller, base, asked)
        if reply is not None:
            return reply
    return await bypass(x, rule, Reason.VARY_MISS)


async def _turn(
    x: Exchange, rule: Resource, caller: Caller, base: Ref, asked: RequestDirectives
) -> Reply | None:
    seen = x.services.cache.leases.landed
    look = await look_up(x, rule, caller, base)
    spare: Found | None = None
    if look.found is not None:
        now = x.services.now()
        match decide(look.found.entry, rule, asked, now):
            case policy.Fresh(_, ttl):
                x.outcome.x_cache, x.outcome.tier, x.outcome.ttl = XCache.HIT, look.found.tier, ttl
                x.outcome.reason = None
                hit = from_resource(x.request, look.found.entry, now)
                return replace(hit, offer=offered_resource(x, base, look.ref, look.found, asked, hit))
            case policy.Stale(_, revalidate):
                if revalidate:
                    _refresh(x, look)
                return _stale(x, look.found)
            case policy.Expired(reason, stale_if_error):
                x.outcome.reason = reason
                spare = look.found if stale_if_error else None
    if asked.only_if_cached:
        x.outcome.refused = True
        raise ClientError(
            504, "only-if-cached", "Nothing fresh is stored, and the request forbids to ask upstream."
        )
    try:
        reply = await (_head(x, look) if x.request.method == "HEAD" else _filled(x, look, asked, seen))
    except UpstreamError as error:
        if spare is not None:
            return _stale(x, spare)
        if look.found is not None and windows_of(look.found.entry, rule).never:
            # RFC 9111 §5.2.2.2: nothing stale, and the status for that is 504.
            raise UpstreamTimeout(error.detail, executed=error.executed) from None
        raise
    if reply is not None and spare is not None and reply.status in STALE_IF_STATUS:
        await bodies.close(reply.body)
        return _stale(x, spare)
    return reply


async def look_up(x: Exchange, rule: Resource, caller: Caller, base: Ref) -> Look:
    """What is stored for this request, and where; why there is nothing is noted in the outcome."""
    ref = base
    looked = await x.services.cache.get(base)
    if isinstance(looked, Found) and (names := names_of(looked.entry)) is not None:
        ref = variant_ref(base, variant(x.request.headers, names))
        looked = await x.services.cache.get(ref)
        if isinstance(looked, Absent) and looked.reason is Reason.ABSENT:
            looked = Absent(Reason.VARY_MISS)
    if isinstance(looked, Found) and caller.guarded:
        said, _ = directives(Headers(looked.entry.headers), rule.targeted)
        if policy.shareable(x.request.headers, said, x.services.settings.credential_headers) is not None:
            looked = Absent(Reason.CREDENTIALS)
    if isinstance(looked, Absent):
        x.outcome.reason = looked.reason
        return Look(rule, caller, base, ref, None)
    return Look(rule, caller, base, ref, looked)


def _stale(x: Exchange, found: Found) -> Reply:
    now = x.services.now()
    x.outcome.x_cache, x.outcome.tier = XCache.STALE, found.tier
    x.outcome.ttl = math.floor(found.entry.expires - now)
    return from_resource(x.request, found.entry, now)


async def _filled(x: Exchange, look: Look, asked: RequestDirectives, seen: int) -> Reply | None:
    """Upstream's answer, stored where it may be; None: look again, another reader's answer is there."""
    leases = x.services.cache.leases
    chooses = look.found is None and any(name.decode() in x.request.headers for name in CHOOSING)
    never_fresh = look.found is not None and look.found.entry.expires <= look.found.entry.stored
    alone = look.caller.guarded or asked.no_cache or asked.max_age is not None or chooses or never_fresh
    load = Fill(x, look)
    result = await (leases.alone(look.ref, load) if alone else leases.fill_once(look.ref, seen, load))
    if isinstance(result, Shared):
        entry, now = result.found.entry, x.services.now()
        if names_of(entry) is not None or entry.expires <= now:
            return None
        x.outcome.x_cache, x.outcome.tier = XCache.HIT, result.found.tier
        x.outcome.collapsed, x.outcome.ttl = result.collapsed, int(entry.expires - now)
        return from_resource(x.request, entry, now)
    x.outcome.stored = result.stored
    if result.refused is not None:
        x.outcome.skipped = result.refused
    return result.value


def _refresh(x: Exchange, look: Look) -> None:
    """Asks upstream behind a stale answer, once however many readers come by."""
    cache = x.services.cache
    if cache.leases.under_way(look.ref):
        return
    quiet = replace(x.request, method="GET", body=None, interim=None)
    background = Exchange(x.services, quiet, x.route, x.values, Outcome())

    async def refresh() -> None:
        result = await cache.leases.fill_once(look.ref, cache.leases.landed, Fill(background, look))
        if not isinstance(result, Shared):
            await bodies.close(result.value.body)

    cache.in_background(refresh())


async def _head(x: Exchange, look: Look) -> Reply:
    """A HEAD goes to upstream as it is; what it says of the stored copy is taken over (RFC 9111 §4.3.5)."""
    cache, found = x.services.cache, look.found
    if found is None or found.entry.status != 200:
        return await x.forward()
    ticket = await cache.ticket(look.ref)
    began = x.services.now()
    reply = await x.forward()
    if reply.status != 200 or "range" in x.request.headers:
        return reply
    now, head = x.services.now(), Headers(reply.headers)
    old = found.entry
    if not describes(Headers(old.headers), old.body, head):
        # Upstream has another version: the copy is stale from now on.
        await cache.fill(look.ref, replaced_as_stale(old, now), ticket)
        return reply
    lines = Headers(updated(old, policy.stored_headers(head, changed=False, body=b"")))
    kept = keep(
        look.rule,
        status=200,
        request=x.request.headers,
        reply=lines,
        authorized_by_rule=not look.caller.guarded,
        credential_headers=x.services.settings.credential_headers,
        asked=began,
        now=now,
    )
    if isinstance(kept, Kept):
        entry = entry_of(kept, look.base.value, 200, lines, old.body, now)
        x.outcome.stored = await cache.fill(look.ref, entry, ticket) is None
    return reply


def replaced_as_stale(old: Entry, now: float) -> Entry:
    """The copy, of use only to be revalidated."""
    return Entry(
        user_id=old.user_id,
        status=old.status,
        headers=old.headers,
        body=old.body,
        stored=now,
        expires=now,
        dead=max(old.dead, now),
        age=old.age,
    )


async def bypass(x: Exchange, rule: Resource, reason: Reason) -> Reply:
    """Upstream's answer for this request alone, still without secret-looking fields."""
    x.outcome.x_cache, x.outcome.reason = XCache.BYPASS, reason
    reply = await x.forward()
    return reply if x.request.method == "HEAD" else await without_secrets(x, rule, reply, read=False)
