"""A stored answer as it was found, so that a later hit can be sure that it is the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.core.model import Entry, Ref
from proxy.store.slot import Slot


class Keeper(Protocol):
    """The memory that holds it."""

    def keeps(self, ref: Ref, user_id: str, slot: Slot) -> bool:
        """Whether a look-up would find this very answer now."""
        ...


class Held:
    """See core.offers.Hold. `trusted` says whether memory may be used at all, where that can change."""

    __slots__ = ("_keeper", "_ref", "_slot", "_trusted", "_user_id")

    def __init__(
        self, keeper: Keeper, ref: Ref, user_id: str, slot: Slot, trusted: Callable[[], bool] | None = None
    ) -> None:
        self._keeper = keeper
        self._ref = ref
        self._user_id = user_id
        self._slot = slot
        self._trusted = trusted

    @property
    def entry(self) -> Entry:
        """What was found."""
        return self._slot.entry

    def behind(self, trusted: Callable[[], bool]) -> Held:
        """The same, where memory is to be used only while `trusted`."""
        return Held(self._keeper, self._ref, self._user_id, self._slot, trusted)

    def stands(self, now: float) -> bool:  # noqa: ARG002 - the offer looks at the wall clock itself
        """The lease on the feed and the memory's own clock are read here, on each hit (design §7.5)."""
        if self._trusted is not None and not self._trusted():
            return False
        return self._keeper.keeps(self._ref, self._user_id, self._slot)

    def __repr__(self) -> str:
        return f"Held({self._ref!r})"
