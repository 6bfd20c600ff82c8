"""The hits that are looked at: some are left to upstream, to compare; some are checked behind the answer."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.checks import Verdict
from proxy.core.admission import parse
from proxy.core.cachecontrol import request_directives
from proxy.core.errors import UpstreamError
from proxy.core.keys import aliases_in, dig, user_id
from proxy.core.model import Outcome, Reason, Reply, XCache
from proxy.core.resourcekeys import units
from proxy.core.settings import Access, Answer, Introspect, Lookup, Resource
from proxy.core.tokens import Identity
from proxy.rollout import Look
from proxy.steps import body as bodies
from proxy.steps.callers import identify
from proxy.steps.exchange import Exchange
from proxy.steps.lookup import make_ref
from proxy.steps.passing import bypass
from proxy.steps.refill import unconditional
from proxy.steps.rehearsal import Walk, plain, rehearse
from proxy.steps.resource import bypass as passed_by
from proxy.steps.shadow import differing, limit_of, stripped

# What everybody who may have the copy gets alike; another caller's own answer is nobody's to ask for again.
_SHARED = frozenset({Access.ANYONE, Access.TOKEN, Access.UNSET})
# Statuses that say something about a user, and those that say nothing of a resource, but of the moment.
_TELLING = frozenset({200, 404})
_MOMENTARY = frozenset({206, 304, 401, 403, 407, 408, 421, 425, 429})


class Samples:
    """Walks, and does with a share of the hits what the settings ask for."""

    def __init__(self) -> None:
        self.checking = 0
        """Checks under way."""

    async def __call__(self, x: Exchange, walk: Walk) -> Reply:
        """The walk's answer, or upstream's for a hit that is held back."""
        reply = await walk(x)
        if x.outcome.x_cache is not XCache.HIT or x.outcome.collapsed:
            return reply
        look = x.services.rollout.pick()
        if look is Look.HOLDBACK and not request_directives(x.request.headers).only_if_cached:
            x.outcome.tier = x.outcome.ttl = None
            action = x.route.action
            if isinstance(action, Resource):
                return await passed_by(x, action, Reason.HOLDBACK)
            return await bypass(x, Reason.HOLDBACK)
        if look is Look.TRUTH and _repeatable(x) and self.checking < x.services.settings.truth.concurrency:
            self.checking += 1
            x.services.cache.in_background(self._check(x, walk))
        return reply

    async def _check(self, x: Exchange, walk: Walk) -> None:
        try:
            verdict, fields, theirs, ours = await _ask_twice(x, walk)
            x.services.checks.checked(x.route.name, verdict, fields)
            if verdict is Verdict.DISAGREE:
                await _evict(x, parse(ours), parse(theirs))
        finally:
            self.checking -= 1


def _repeatable(x: Exchange) -> bool:
    action = x.route.action
    if isinstance(action, Introspect) and action.answer is not Answer.VIEW:
        return False
    return x.request.method == "GET" and x.request.body is None and x.route.access in _SHARED


def _telling(action: object, status: int) -> bool:
    if isinstance(action, Resource):
        return status < 500 and status not in _MOMENTARY
    return status in _TELLING


async def _ask_twice(x: Exchange, walk: Walk) -> tuple[Verdict, tuple[str, ...], bytes, bytes]:
    """Whether upstream still says what the cache says; with both bodies where it does not.

    One difference may be a write between two looks, which fences or evicts what it changes: only what would
    be served both before and after upstream spoke, and twice in a row, is stale.
    """
    fields: tuple[str, ...] = ()
    theirs: bytes | None = b""
    ours = b""
    for _ in range(2):
        would = await rehearse(x, walk)
        if would is None or not would.whole:
            return Verdict.EXPLAINED, (), b"", b""
        action = x.route.action
        limit = limit_of(x) * (1 if isinstance(action, Resource) else 16)
        outcome = Outcome(route=x.route.name, method="GET")
        alone = replace(x, request=plain(x.request), outcome=outcome)
        rewrite = unconditional(alone, action) if isinstance(action, Resource) else None
        try:
            reply = await alone.forward(fill=True, rewrite=rewrite)
            body = await bodies.read(reply, limit)
        except UpstreamError:
            return Verdict.UNCOMPARED, (), b"", b""
        if isinstance(body, bodies.Rest):
            await body.aclose()
            return Verdict.UNCOMPARED, (), b"", b""
        differ = differing(x, would, reply, body, limit) if _telling(action, reply.status) else None
        if differ is None:
            return Verdict.UNCOMPARED, (), b"", b""
        fields, theirs = differ, stripped(x, reply, body, limit)
        if not fields:
            return Verdict.AGREE, (), b"", b""
        if await rehearse(x, walk) != would:
            return Verdict.EXPLAINED, (), b"", b""
        ours = would.body
    return Verdict.DISAGREE, fields, theirs or b"", ours


async def _evict(x: Exchange, ours: Any, theirs: Any) -> None:
    """Removes who was asked for, and the users that the two answers show otherwise, with old and new keys."""
    if isinstance(x.route.action, Resource):
        evicted = await x.services.cache.evict(units(x.request.target))
        x.services.checks.evicted(x.route.name, evicted, ())
        return
    model = x.services.settings.user
    ids: set[str] = set()
    aliases: set[tuple[str, str]] = set()
    mine = ours if isinstance(ours, list) else [ours]
    other = theirs if isinstance(theirs, list) else [theirs]
    for user in [one for one in mine if one not in other] + [one for one in other if one not in mine]:
        if isinstance(user, dict):
            whose = user_id(dig(user, model.id))
            ids |= set() if whose is None else {whose}
            aliases.update(aliases_in(model, user))
    action = x.route.action
    if isinstance(action, Lookup) and not action.many:
        ref = make_ref(x.services.settings, action, x.values[action.var])
        if ref is not None and ref.key == "id":
            ids.add(ref.value)
        elif ref is not None:
            aliases.add((ref.key, ref.value))
    identity = identify(x) if isinstance(action, Introspect) else None
    if isinstance(identity, Identity):
        ids.add(identity.user_id)
    evicted = await x.services.cache.evict(sorted(ids), sorted(aliases))
    x.services.checks.evicted(x.route.name, evicted, tuple(sorted(ids)[:5]))
