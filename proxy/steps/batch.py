"""Many users in one answer: the cached ones, and one upstream call for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.core import policy
from proxy.core.admission import Verdict, clean, whose_user
from proxy.core.batches import BatchRules, elements, with_list
from proxy.core.cachecontrol import request_directives
from proxy.core.credentials import reflected
from proxy.core.errors import ClientError
from proxy.core.headers import Headers
from proxy.core.keys import Identified, user_id
from proxy.core.model import Entry, Found, Reason, Ref, Reply, Ticket, XCache
from proxy.core.replies import VIA, phrase
from proxy.core.representation import reflects_host, stored_headers
from proxy.core.settings import Lookup, View
from proxy.steps import body as bodies
from proxy.steps.callers import admitted
from proxy.steps.exchange import Exchange
from proxy.steps.keepable import keepable
from proxy.steps.offers import Unchanged, offered_together
from proxy.steps.passing import bypass, vouched_bypass

# What describes upstream's array and not each user in it.
_OF_THE_ARRAY = (b"etag", b"last-modified", b"content-location", b"link", b"x-total-count", b"accept-ranges")


@dataclass(slots=True)
class _Gathered:
    """The members found so far, as written, and the oldest one's age and remaining freshness in seconds."""

    members: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    found: list[tuple[Ref, Found]] = field(default_factory=list)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    age: int = 0
    ttl: int | None = None


class Batches:
    """What was learnt of each batch route; one object for the process."""

    def __init__(self) -> None:
        self._rules: dict[str, BatchRules] = {}

    def of(self, route: str) -> BatchRules:
        """The rules of that route."""
        return self._rules.setdefault(route, BatchRules())


async def batch(x: Exchange, action: Lookup, batches: Batches) -> Reply:
    """Answers `GET` of an array of users; a caller who may not have the shared copies is forwarded."""
    view = x.services.settings.views[action.view]
    x.outcome.view = view.name
    asked = x.values[action.var]
    ids = [user_id(one) for one in asked] if isinstance(asked, tuple) else []
    if not ids or None in ids:
        return await bypass(x, Reason.KEY_UNUSABLE)
    wanted = [one for one in ids if one is not None]
    if len(set(wanted)) != len(wanted):
        return await bypass(x, Reason.BATCH_DUPLICATES)
    if x.request.method == "HEAD":
        return await bypass(x, Reason.REQUEST_METHOD)
    caller = await admitted(x)
    if caller.owner is not None and set(wanted) != {caller.owner}:
        return await bypass(x, Reason.NOT_OWNER)
    if caller.copy:
        # An array for one caller is put together of nobody else's copies.
        return await bypass(x, Reason.CALLER_COPY)
    if caller.note is not None and caller.denied is not None:
        return await vouched_bypass(x, caller.note, view.ttl, caller.denied)
    if caller.denied is not None or caller.guarded:
        return await bypass(x, caller.denied or Reason.CREDENTIALS)
    directives = request_directives(x.request.headers)
    if directives.no_store:
        return await bypass(x, Reason.REQUEST_NO_STORE)
    x.outcome.x_cache = XCache.MISS
    rules = batches.of(x.route.name)
    arranged = rules.arrange(wanted)
    cached = await _cached(x, view, wanted, rules)
    missing = [one for one in wanted if one not in cached.members and one not in cached.gone]
    if directives.only_if_cached and (missing or arranged is None):
        x.outcome.refused = True
        raise ClientError(
            504, "only-if-cached", "Not all of it is stored, and the request forbids to ask upstream."
        )
    if arranged is None:
        x.outcome.reason = Reason.BATCH_ORDER
        return await _ask(x, view, action, wanted, wanted, rules, None)
    if not missing:
        x.outcome.x_cache, x.outcome.ttl = XCache.HIT, cached.ttl
        reply = _put_together(rules, arranged, cached)
        if not cached.gone:
            reply = replace(reply, offer=offered_together(x, cached.found, directives, Unchanged(rules)))
        return reply
    x.outcome.reason = Reason.ABSENT if len(missing) == len(wanted) else Reason.PARTIAL
    return await _ask(x, view, action, wanted, missing, rules, cached)


async def _cached(x: Exchange, view: View, ids: Sequence[str], rules: BatchRules) -> _Gathered:
    directives = request_directives(x.request.headers)
    now = x.services.now()
    gathered = _Gathered()
    refs = [Ref("id", one, view.name) for one in ids]
    for ref, looked in zip(refs, await x.services.cache.get_many(refs), strict=True):
        one = ref.value
        if not isinstance(looked, Found):
            continue
        plan = policy.plan(looked.entry, view, directives, now)
        if not isinstance(plan, policy.Fresh):
            continue
        if looked.entry.status == 404:
            # Left out only where upstream was seen to do so.
            if rules.leaves_out_absent:
                gathered.gone.add(one)
            continue
        gathered.members[one] = looked.entry.body
        gathered.headers = gathered.headers or looked.entry.headers
        gathered.age = max(gathered.age, plan.age)
        gathered.ttl = plan.ttl if gathered.ttl is None else min(gathered.ttl, plan.ttl)
        gathered.found.append((ref, looked))
        x.outcome.tier = looked.tier
    return gathered


async def _ask(
    x: Exchange,
    view: View,
    action: Lookup,
    wanted: Sequence[str],
    missing: Sequence[str],
    rules: BatchRules,
    cached: _Gathered | None,
) -> Reply:
    """One upstream call for `missing`; the whole request again where its answer can't be merged."""
    target = x.request.target
    if len(missing) < len(wanted):
        target = with_list(x.route.template, x.request.target, action.var, missing)
    ticket = await x.services.cache.ticket()
    began = x.services.now()
    reply = await x.forward(fill=True, target=target)
    came = x.services.now()
    body = await bodies.read(reply, x.services.settings.user.max_size * 16)
    if isinstance(body, bodies.Rest):
        x.outcome.skipped = Reason.TOO_LARGE
        if len(missing) < len(wanted):
            await body.aclose()
            return await bypass(x, Reason.TOO_LARGE)
        return replace(reply, body=body)
    verdict = clean(x.services.redactor, x.route.secrets, reply, body)
    x.outcome.taken = verdict.taken
    users = None if verdict.reason is not None or reply.status != 200 else _users(x, view, verdict)
    if users is None:
        x.outcome.skipped = verdict.reason or (Reason.STATUS if reply.status != 200 else Reason.NOT_A_USER)
        x.outcome.stored = False
        if len(missing) < len(wanted):
            return await bypass(x, x.outcome.skipped)
        return replace(reply, headers=verdict.headers, body=verdict.body)
    rules.learn(missing, list(users), verdict.body, [raw for raw, _ in users.values()])
    await _store(x, view, verdict, reply, missing, users, ticket, (began, came))
    if len(missing) == len(wanted) or cached is None:
        return replace(reply, headers=verdict.headers, body=verdict.body)
    arranged = rules.arrange(wanted)
    if arranged is None:
        return await bypass(x, Reason.BATCH_ORDER)
    cached.members.update((one, raw) for one, (raw, _) in users.items())
    x.outcome.ttl = None
    return _put_together(rules, arranged, cached)


def _users(x: Exchange, view: View, verdict: Verdict) -> dict[str, tuple[bytes, Identified]] | None:
    """id → (member as written, who it is), in upstream's order; None where any member is no user."""
    raws = elements(verdict.body)
    if raws is None or not isinstance(verdict.document, list):
        return None
    users: dict[str, tuple[bytes, Identified]] = {}
    for raw, document in zip(raws, verdict.document, strict=True):
        identified = whose_user(x.services.settings.user, view, None, document)
        if isinstance(identified, Reason) or identified.user_id in users:
            return None
        users[identified.user_id] = (raw, identified)
    return users


async def _store(
    x: Exchange,
    view: View,
    verdict: Verdict,
    reply: Reply,
    missing: Sequence[str],
    users: dict[str, tuple[bytes, Identified]],
    ticket: Ticket,
    times: tuple[float, float],
) -> None:
    now = times[1]
    storable = keepable(x, view, reply, times)
    if storable is None:
        x.outcome.stored = False
        return
    kept = stored_headers(Headers(reply.headers), changed=bool(verdict.taken), body=verdict.body)
    headers = Headers(kept).without(_OF_THE_ARRAY).raw
    asked = frozenset(missing)
    x.outcome.stored = True
    fills = []
    for one, (raw, identified) in users.items():
        if one not in asked or _reflects(x, raw):
            continue
        entry = Entry(
            user_id=one,
            keys=identified.keys,
            active=identified.active,
            status=200,
            headers=headers,
            body=raw,
            stored=now,
            expires=now + storable.lifetime,
            dead=now + storable.dead_after,
            age=storable.age,
        )
        fills.append(x.services.cache.fill(Ref("id", one, view.name), entry, ticket))
    x.outcome.skipped = next((why for why in await asyncio.gather(*fills) if why is not None), None)


def _reflects(x: Exchange, raw: bytes) -> bool:
    more = x.services.settings.credential_headers
    return reflects_host(x.request.headers, raw) or reflected(x.request.headers, more, raw)


def _put_together(rules: BatchRules, arranged: Sequence[str], gathered: _Gathered) -> Reply:
    headers = gathered.headers or ((b"Content-Type", b"application/json"),)
    kept = Headers(headers).without((*_OF_THE_ARRAY, b"date"))
    age = ((b"Age", str(gathered.age).encode("ascii")),)
    return Reply(200, phrase(200), (*kept.raw, VIA, *age), rules.write(arranged, gathered.members))
