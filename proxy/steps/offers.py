"""Which hits may be given again without a walk: those of which all can be asked again, on each hit."""

from __future__ import annotations

from proxy.core.cachecontrol import NO_DIRECTIVES, RequestDirectives
from proxy.core.model import Found, Outcome, Reason, Ref, Reply, Tier
from proxy.core.offers import HeldEntry, Hold, Offer
from proxy.core.settings import Access, Answer, Introspect, Lookup, Route, Write
from proxy.core.tokens import Identity, Verifier
from proxy.steps.callers import VOUCHED, entry_state, good_ref, identify
from proxy.steps.exchange import Exchange

# What a route may say for its hits to be offered. One that says anything else is walked each time.
# What `allow` and `require` ask of a token is in the token: the same head gets the same answer.
_KNOWN = frozenset({"name", "template", "action", "access", "allow", "require", "secrets"})
_OTHERS = tuple(
    (name, default)
    for name, default in zip(Route.__struct_fields__[::-1], Route.__struct_defaults__[::-1], strict=False)
    if name not in _KNOWN
)
_SHARED = frozenset({Access.ANYONE, Access.TOKEN, Access.OWNER, Access.UNSET})


class _Keys:
    """The keys that proved the token are in use."""

    __slots__ = ("_generation", "_verifier")

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._generation = verifier.generation

    def stands(self, now: float) -> bool:
        """See Hold."""
        return self._verifier.generation == self._generation and self._verifier.has_keys(now)


def offered(x: Exchange, ref: Ref, found: Found, directives: RequestDirectives, reply: Reply) -> Offer | None:
    """The offer behind a fresh hit, or None. `ref` is what was looked up."""
    if not x.services.settings.fast_path:
        return None
    request, entry = x.request, found.entry
    plain = request.method == "GET" and request.http_version == "1.1" and directives is NO_DIRECTIVES
    if not plain or found.tier is not Tier.MEMORY or reply.status != 200 or not _plain(x.route):
        return None
    held = x.services.cache.hold(ref)
    if held is None or held.entry is not entry:
        return None
    holds: list[Hold] = [held]
    begins, ends = entry.stored, entry.expires
    if _asks_who(x.route):
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
        holds = [*_merged(held, state[0], good), _Keys(verifier.of(identity))]
        leeway = verifier.of(identity).leeway
        begins, ends = _times(identity, leeway, begins, min(ends, state[1], good.entry.expires))
    counted = Outcome(
        route=x.outcome.route,
        kind=x.outcome.kind,
        method="GET",
        view=x.outcome.view,
        x_cache=x.outcome.x_cache,
        tier=found.tier,
        status=200,
    )
    return Offer(entry, tuple(holds), begins, ends, counted)


def _merged(*each: HeldEntry) -> list[HeldEntry]:
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
    return merged


def _plain(route: Route) -> bool:
    """Whether the route says nothing that this module does not know."""
    return route.access in _SHARED and all(getattr(route, name) == default for name, default in _OTHERS)


def _asks_who(route: Route) -> bool:
    match route.action:
        case Introspect():
            return True
        case Lookup():
            return route.access in (Access.TOKEN, Access.OWNER)
        case Write():
            raise AssertionError("a write is no hit")
        case _:
            return True


def _state(x: Exchange, identity: Identity, ref: Ref) -> tuple[HeldEntry, float] | None:
    """What shows that the caller is active, and until when; None where it is not in memory."""
    now = x.services.now()
    slots = [VOUCHED, x.services.user_view]
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
