"""A hit that may be given again to the same request, and all that must still be true on that day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from proxy.core.model import Entry, Outcome


class Source(Protocol):
    """Something that offers rest on. While `generation` is what it was, nothing here has changed."""

    @property
    def generation(self) -> int:
        """Counts changes, so it only grows."""
        ...


class Hold(Protocol):
    """Something that an offer rests on. It is asked on each use; nobody tells it of changes."""

    @property
    def source(self) -> Source:
        """Whose changes may end it."""
        ...

    @property
    def trusted(self) -> Callable[[], bool] | None:
        """To be asked on each use as well, whatever the source says; None where there is nothing to ask."""
        ...

    def stands(self, now: float) -> bool:
        """Whether it is still as it was when the offer was made; `now` is wall-clock seconds."""
        ...

    def touch(self) -> None:
        """It was used: what is used least is forgotten first. Only while it stands."""
        ...

    def lasts(self) -> float:
        """Up to when one that stands is sure to, while its source does not change; 0: only asking tells."""
        ...


class HeldEntry(Hold, Protocol):
    """A stored answer that is where it was."""

    @property
    def entry(self) -> Entry:
        """The answer."""
        ...

    def joined(self, other: HeldEntry) -> HeldEntry | None:
        """Both as one Hold, where they can be; `entry` stays."""
        ...


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A fresh hit. It may be one again from `begins` until before `ends` (wall-clock seconds), while all
    `holds` stand. Its Age is counted from `born`, its ttl up to `expires`. `outcome` is what such a hit is
    counted as, `users` how many of them it is put together of, or weighs as much as. `copy` is the stored
    answer, where it is one. `grant`: see there."""

    holds: tuple[Hold, ...]
    begins: float
    ends: float
    born: float
    expires: float
    outcome: Outcome
    users: int = 1
    copy: Entry | None = None
    grant: Grant | None = None

    def good(self, now: float) -> bool:
        """Whether the pipeline would say the same now."""
        if not self.begins <= now < self.ends:
            return False
        return all_stand(self.holds, now)


class Grant(msgspec.Struct, frozen=True):
    """The field lines of a request ask for nothing on this route that a fresh copy could not answer, whatever
    stands in place of a bearer token: that is judged anew. `outcome` is what such a hit is counted as."""

    outcome: Outcome


def all_stand(holds: Sequence[Hold], now: float) -> bool:
    """Whether everything is as it was."""
    for hold in holds:  # noqa: SIM110 - a generator costs more than the checks
        if not hold.stands(now):
            return False
    return True
