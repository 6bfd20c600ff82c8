"""Stored answers of a user as they were found, so that a later hit can be sure that they are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from proxy.core.model import Entry, Ref
from proxy.core.offers import HeldEntry
from proxy.store.localfences import LocalFences
from proxy.store.slot import HeldUser, Slot, World


class Keeper(Protocol):
    """The memory that holds them."""

    fences: LocalFences
    world: World
    used: Callable[[str], None]
    """Is told of each read."""

    def keeps(self, ref: Ref, user: HeldUser, slot: Slot) -> bool:
        """Whether a look-up would find this very answer now."""
        ...


class Held(msgspec.Struct, eq=False, gc=False):
    """See core.offers.HeldEntry. `trusted` says whether memory may be used at all, where that can change.

    While nothing of the user has changed, nothing but the fences and the clocks can say otherwise.
    """

    keeper: Keeper
    user: HeldUser
    ref: Ref
    slot: Slot
    more: tuple[tuple[Ref, Slot], ...] = ()
    trusted: Callable[[], bool] | None = None
    seen: int = -1
    timed: bool = False

    def __post_init__(self) -> None:
        self._note()

    @property
    def source(self) -> World:
        """See Hold."""
        return self.keeper.world

    @property
    def entry(self) -> Entry:
        """What was found, first of all."""
        return self.slot.entry

    @property
    def places(self) -> tuple[tuple[Ref, Slot], ...]:
        """All that was found, and where."""
        return ((self.ref, self.slot), *self.more)

    def behind(self, trusted: Callable[[], bool]) -> Held:
        """The same, where memory is to be used only while `trusted`."""
        return Held(self.keeper, self.user, self.ref, self.slot, self.more, trusted)

    def joined(self, other: HeldEntry) -> Held | None:
        """Both as one, which costs no more to ask; None where they are of two users."""
        if not isinstance(other, Held) or other.user is not self.user:
            return None
        more = tuple(place for place in other.places if place not in self.places)
        return Held(self.keeper, self.user, self.ref, self.slot, (*self.more, *more), self.trusted)

    def stands(self, now: float) -> bool:  # noqa: ARG002 - the offer looks at the wall clock itself
        """The lease on the feed and the memory's own clock are read here, on each hit (design §7.5)."""
        if self.trusted is not None and not self.trusted():
            return False
        user, keeper = self.user, self.keeper
        if user.changes != self.seen or self.timed or keeper.fences.standing:
            for ref, slot in self.places:
                if not keeper.keeps(ref, user, slot):
                    return False
            self._note()
        return True

    def touch(self) -> None:
        """See Hold."""
        self.keeper.used(self.user.id)

    def lasts(self) -> float:
        """See Hold."""
        return 0.0 if self.timed or self.keeper.fences.standing else math.inf

    def _note(self) -> None:
        self.seen = self.user.changes
        self.timed = False
        for _, slot in self.places:
            if slot.until is not None:
                self.timed = True

    def __repr__(self) -> str:
        return f"Held({1 + len(self.more)})"
