"""What the walk would decide of a request, decided at once, as far as this process knows by itself.

These are the walk's own functions, asked without a request: whatever would have to wait is the walk's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from proxy.cache import UserCache
from proxy.core.errors import InvalidToken
from proxy.core.headers import Headers
from proxy.core.model import Entry, Found, Looked, Outcome, Reason, Ref, Request, Tier
from proxy.core.packed import Packed
from proxy.core.ports import NotAtHandError
from proxy.core.settings import Introspect, Lookup, Route
from proxy.steps import introspect, lookup
from proxy.steps.exchange import Exchange, Services

T = TypeVar("T")

_PLAIN: Final = Request("GET", "/", Headers())


class Opened(NamedTuple):
    """The copy that a caller may have, if `usable` has nothing against it (see lookup.Plan)."""

    ref: Ref
    usable: Callable[[Found], Reason | None] | None = None

    def takes(self, copy: Entry | Packed, tier: Tier) -> bool:
        """Whether the copy that was found may be given."""
        entry = copy if isinstance(copy, Entry) else copy.entry()
        if entry is None:
            return False
        try:
            return self.usable is None or self.usable(Found(entry, tier)) is None
        except InvalidToken:
            return False


class _AtHand(UserCache):
    """What is read of the cache on the way to a hit; raises NotAtHandError instead of waiting."""

    async def get(self, ref: Ref) -> Looked:
        """See UserCache."""
        return self.store.peek(ref)

    async def token_state(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """See UserCache."""
        return self.store.peek_token(user_id, token, until, issued)


class AtOnce:
    """Decides for routes of one version of the settings."""

    def __init__(self, services: Services) -> None:
        self.settings = services.settings
        self._store = services.cache.store
        self._services = replace(services, cache=_AtHand(services.cache.store, now=services.now))

    def opened(self, route: Route, ref: Ref | None, token: str | None) -> Opened | None:
        """What a request may have that asks this route for `ref`, or with this token; None: walk."""
        x = Exchange(self._services, _PLAIN, route, {}, Outcome(), token)
        try:
            match route.action:
                case Lookup() as action if ref is not None:
                    plan = _at_once(lookup.planned(x, action, ref))
                case Introspect() as action:
                    plan = _at_once(introspect.planned(x, action))
                case _:
                    return None
        except NotAtHandError:
            return None
        # Who is to be vouched for is not answered from here.
        if not isinstance(plan, lookup.Plan) or plan.caller.denied is not None:
            return None
        return Opened(plan.ref, plan.usable)

    def found(self, ref: Ref) -> Entry | None:
        """The copy in memory; None where there is none, or none that may be used."""
        try:
            looked = self._store.peek(ref)
        except NotAtHandError:
            return None
        return looked.entry if isinstance(looked, Found) else None


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    coroutine.close()
    raise NotAtHandError
