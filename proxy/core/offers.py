"""A hit that may be given again to the same request, and all that must still be true on that day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from proxy.core.model import Entry, Outcome


class Hold(Protocol):
    """Something that an offer rests on. It is asked on each use; nobody tells it of changes."""

    def stands(self, now: float) -> bool:
        """Whether it is still as it was when the offer was made; `now` is wall-clock seconds."""
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


class Offer(msgspec.Struct, frozen=True):
    """`entry` was a fresh hit. It may be again from `begins` until before `ends` (wall-clock seconds), while
    all `holds` stand. `outcome` is what such a hit is counted as."""

    entry: Entry
    holds: tuple[Hold, ...]
    begins: float
    ends: float
    outcome: Outcome

    def good(self, now: float) -> bool:
        """Whether the pipeline would say the same now."""
        if not self.begins <= now < self.ends:
            return False
        return all_stand(self.holds, now)


def all_stand(holds: Sequence[Hold], now: float) -> bool:
    """Whether everything is as it was."""
    for hold in holds:  # noqa: SIM110 - a generator costs more than the checks
        if not hold.stands(now):
            return False
    return True
