"""Which hits may be given again without a walk: those of which all can be asked again, on each hit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from proxy.core.cachecontrol import NO_DIRECTIVES, RequestDirectives
from proxy.core.credentials import has_credentials
from proxy.core.model import Found, Outcome, Reason, Ref, Reply, Tier, XCache
from proxy.core.offers import Grant, HeldEntry, Hold, Offer, Source
from proxy.core.resources import names_of
from proxy.core.settings import Access, Answer, Introspect, Lookup, Resource, Route, Write
from proxy.core.tokenplace import Where
from proxy.core.tokens import Identity, Verifier
from proxy.steps.callers import entry_state, good_ref, identify, vouch_ref
from proxy.steps.exchange import Exchange

# What a route may say for its hits to be offered. One that says anything else is walked each time.
# What `allow` and `require` ask of a token is in the token: the same head gets the same answer.
_KNOWN = frozenset({"name", "template", "action", "access", "allow", "require", "secrets"})
_OTHERS = tuple(
    (name, default)
    for name, default in zip(Route.__struct_fields__[::-1], Route.__struct_defaults__[::-1], strict=False)
    if name not in _KNOWN
)
# What a copy is compared with: the same line is met by one and not by another.
_CONDITIONS = ("if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range")
# What a variant may be chosen by: lines of the head, which the fast path knows by its bytes. Of others it may
# set some aside, as those that name a request in a trace.
_CHOOSING = frozenset({"accept", "accept-encoding", "accept-language", "origin"})
# Offers keep what memory may have dropped: larger bodies are walked for, and each counts as what it weighs.
_LARGEST = 16 * 1024
_USER = 4 * 1024
_SHARED = frozenset({Access.ANYONE, Access.TOKEN, Access.OWNER, Access.UNSET})


class Unchanged:
    """A source that has not changed, whatever it was."""

    __slots__ = ("_generation", "source")
    trusted = None

    def __init__(self, source: Source) -> None:
        self.source = source
        self._generation = source.generation

    def stands(self, now: float) -> bool:  # noqa: ARG002 - no clock changes it
        """See Hold."""
        return self.source.generation == self._generation

    def touch(self) -> None:
        """See Hold."""

    def lasts(self) -> float:
        """See Hold."""
        return math.inf


class _Keys(Unchanged):
    """The keys that proved the token are in use."""

    __slots__ = ("_verifier",)

    def __init__(self, verifier: Verifier) -> None:
        super().__init__(verifier)
        self._verifier = verifier

    def stands(self, now: float) -> bool:
        """See Hold."""
        return super().stands(now) and self._verifier.has_keys(now)

    def lasts(self) -> float:
        """See Hold."""
        return self._verifier.keys_until


def offered(
    x: Exchange, ref: Ref, found: Found, directives: RequestDirectives, reply: Reply
) -> Offer | Grant | None:
    """The offer behind a fresh hit, or what one from Redis grants. `ref` is what was looked up."""
    entry = found.entry
    if not _ordinary(x, directives) or reply.status != 200:
        return None
    grant = _granted(x)
    held = x.services.cache.hold(ref) if found.tier is Tier.MEMORY else None
    if held is None or held.entry is not entry:
        return grant
    caller = _caller(x, ref)
    if caller is None:
        return grant
    return Offer(
        holds=(*_merged(held, *caller.state), *caller.keys),
        begins=max(caller.begins, entry.stored),
        ends=min(caller.ends, entry.expires),
        born=entry.stored - entry.age,
        expires=entry.expires,
        outcome=_counted(x) if grant is None else grant.outcome,
        copy=entry,
        grant=grant,
    )


def _granted(x: Exchange) -> Grant | None:
    """What is said beside the target and the token, if that is nothing particular on this route."""
    headers, place = x.request.headers, x.services.settings.token_from.where
    match x.route.action:
        case Introspect(answer=Answer.VIEW, opaque=()):
            careful = False
        case Lookup(many=False):
            careful = x.route.access is Access.UNSET
        case _:
            return None
    if place is Where.QUERY or (place is not Where.HEADER and asks_who(x.route)):
        return None
    if careful and has_credentials(headers, x.services.settings.credential_headers):
        return None
    return None if any(name in headers for name in _CONDITIONS) else Grant(_counted(x))


def offered_resource(
    x: Exchange, base: Ref, ref: Ref, found: Found, directives: RequestDirectives, reply: Reply
) -> Offer | None:
    """The same of a hit on a URL, whose index is at `base` if its answers vary."""
    if not isinstance(reply.body, bytes) or len(reply.body) > _LARGEST:
        return None
    offer = offered(x, ref, found, directives, reply)
    if not isinstance(offer, Offer):
        return None
    offer = replace(offer, users=1 + len(reply.body) // _USER)
    if ref == base:
        return offer
    index = x.services.cache.hold(base)
    names = None if index is None else names_of(index.entry)
    if index is None or names is None or not _CHOOSING.issuperset(names):
        return None
    return replace(offer, holds=(*offer.holds, index), ends=min(offer.ends, index.entry.expires))


def offered_together(
    x: Exchange, found: Sequence[tuple[Ref, Found]], directives: RequestDirectives, rules: Hold
) -> Offer | None:
    """The offer behind an answer put together of fresh hits, as `rules` say; the oldest speaks for all."""
    if not _ordinary(x, directives) or any(one.tier is not Tier.MEMORY for _, one in found):
        return None
    caller = _caller(x, found[0][0])
    if caller is None:
        return None
    parts: list[HeldEntry] = []
    for ref, one in found:
        held = x.services.cache.hold(ref)
        if held is None or held.entry is not one.entry:
            return None
        parts.append(held)
    entries = [one.entry for _, one in found]
    expires = min(entry.expires for entry in entries)
    return Offer(
        holds=(*parts, *caller.state, *caller.keys, rules),
        begins=max(caller.begins, *(entry.stored for entry in entries)),
        ends=min(caller.ends, expires),
        born=min(entry.stored - entry.age for entry in entries),
        expires=expires,
        outcome=_counted(x),
        users=len(parts),
    )


def _ordinary(x: Exchange, directives: RequestDirectives) -> bool:
    """Whether the request is one that the fast path may see again, on a route that it knows all about."""
    request = x.request
    plain = request.method == "GET" and request.http_version == "1.1" and directives is NO_DIRECTIVES
    return x.services.settings.fast_path and plain and _plain(x.route)


def _counted(x: Exchange) -> Outcome:
    return Outcome(
        route=x.outcome.route,
        kind=x.outcome.kind,
        method="GET",
        view=x.outcome.view,
        x_cache=XCache.HIT,
        tier=Tier.MEMORY,
        status=200,
    )


class Right(NamedTuple):
    """What a caller's right to a copy rests on, from when and until when (wall-clock seconds)."""

    state: tuple[HeldEntry, ...] = ()
    keys: tuple[Hold, ...] = ()
    begins: float = -math.inf
    ends: float = math.inf


def _caller(x: Exchange, ref: Ref) -> Right | None:
    """The caller's right to what is found at `ref`; None where it can't be told."""
    if not asks_who(x.route) or ref.key == "token":
        # Under an opaque token, whoever has it finds what upstream said of it, for as long as it leads there.
        return Right()
    identity, verifier = identify(x), x.services.verifier
    if not isinstance(identity, Identity) or verifier is None:
        return None
    state = _state(x, identity, ref)
    if state is None:
        return None
    # Without a note that nobody has logged it out, a token is asked about on each walk.
    good = x.services.cache.hold(good_ref(identity))
    if good is None:
        return None
    own = verifier.of(identity)
    begins, ends = _times(identity, own.leeway, -math.inf, min(state[1], good.entry.expires))
    return Right(_merged(state[0], good), (_Keys(own),), begins, ends)


def _merged(*each: HeldEntry) -> tuple[HeldEntry, ...]:
    """The same with as little to ask as can be: most callers ask about themselves."""
    merged: list[HeldEntry] = []
    for one in each:
        for at, other in enumerate(merged):
            both = other.joined(one)
            if both is not None:
                merged[at] = both
                break
        else:
            merged.append(one)
    return tuple(merged)


def _plain(route: Route) -> bool:
    """Whether the route says nothing that this module does not know."""
    return route.access in _SHARED and all(getattr(route, name) == default for name, default in _OTHERS)


def asks_who(route: Route) -> bool:
    """Whether a hit on it depends on who is asking."""
    match route.action:
        case Introspect():
            return True
        case Lookup() | Resource():
            return route.access in (Access.TOKEN, Access.OWNER)
        case Write():
            raise AssertionError("a write is no hit")
        case _:
            return True


def _state(x: Exchange, identity: Identity, ref: Ref) -> tuple[HeldEntry, float] | None:
    """What shows that the caller is active, and until when; None where it is not in memory."""
    now = x.services.now()
    slots = [x.services.user_view, vouch_ref(x, identity).slot]
    action = x.route.action
    if isinstance(action, Introspect) and action.answer is not Answer.UPSTREAM:
        # What the answer was made of says it itself.
        slots = [ref.slot]
    for slot in slots:
        held = x.services.cache.hold(Ref("id", identity.user_id, slot))
        if held is None or held.entry.expires <= now:
            continue
        why = entry_state(x, Found(held.entry, Tier.MEMORY))
        if why is not Reason.TOKEN_USER_UNKNOWN:
            return (held, held.entry.expires) if why is None else None
    return None


def _times(identity: Identity, leeway: float, begins: float, ends: float) -> tuple[float, float]:
    """The time in which the token is good, within those bounds (RFC 7519 §4.1.4-6)."""
    if identity.exp is not None:
        ends = min(ends, identity.exp + leeway)
    for claim in ("nbf", "iat"):
        begins = max(begins, float(identity.claims.get(claim, 0)) - leeway)
    return begins, ends
