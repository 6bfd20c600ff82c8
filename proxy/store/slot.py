"""What memory holds: answers, users with their answers, and the counts of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.core.model import Entry
from proxy.store.codec import TOKEN_SLOTS, aliases_of, per_token

# What an Entry costs besides its text, in bytes, and what each of its keys does; a test weighs them.
_OVERHEAD, _KEY = 450, 220


class Slot(msgspec.Struct, eq=False, gc=False):
    """`until` is in monotonic seconds: a wall clock that is set back must not keep a copy beyond its cap."""

    entry: Entry
    until: float | None = None

    def over(self, now: float, monotonic: float) -> bool:
        """Whether its time is up, at this wall clock and this monotonic clock."""
        return self.entry.dead <= now or (self.until is not None and self.until <= monotonic)

    @property
    def earliest(self) -> float:
        """When its time may be up, by the wall clock: at any time, where another clock decides."""
        return self.entry.dead if self.until is None else 0.0

    @property
    def size(self) -> int:
        """Bytes, approximately."""
        entry = self.entry
        lines = sum(len(name) + len(value) for name, value in entry.headers)
        return _OVERHEAD + _KEY * len(entry.keys) + len(entry.body) + lines


@dataclass(slots=True)
class MemoryStats:
    """`users` and `bytes` (approximate) are held now; the others are counted since the start."""

    users: int = 0
    bytes: int = 0
    evictions: int = 0
    expirations: int = 0
    aliases_removed: int = 0
    refused_fills: int = 0
    corrupt: int = 0


@dataclass(slots=True)
class RedisStats:
    """What this process saw: unreadable keys, aliases that led astray, late fills, failed operations."""

    corrupt: int = 0
    aliases_removed: int = 0
    refused_fills: int = 0
    errors: int = 0


class HeldUser(msgspec.Struct, eq=False, gc=False):
    """A user's answers by slot. `changes` counts whatever was done to them.

    Before `earliest` (wall-clock seconds) none of the answers is over.
    """

    id: str
    slots: dict[str, Slot] = {}
    changes: int = 0
    earliest: float = math.inf

    def replace(self, name: str, slot: Slot) -> list[Slot]:
        """Puts an answer in its slot; what went for it: the one before, or too many of single tokens."""
        gone: list[Slot] = []
        if name in self.slots:
            gone.append(self.slots.pop(name))
        elif len(self.slots) >= TOKEN_SLOTS and per_token(name):
            tokens = [other for other in self.slots if per_token(other)]
            if len(tokens) >= TOKEN_SLOTS:
                gone += [self.slots.pop(other) for other in tokens]
        self.slots[name] = slot
        self.earliest = min(self.earliest, slot.earliest)
        return gone

    def aliases(self) -> set[tuple[str, str]]:
        """All that the answers prove."""
        return {alias for slot in self.slots.values() for alias in aliases_of(slot.entry)}

    def proves(self, name: str, value: str) -> bool:
        """Whether one of the answers has that key."""
        return any(slot.entry.keys.get(name) == value for slot in self.slots.values())

    def over(self, now: float, monotonic: float) -> list[str]:
        """The slots whose answers are over."""
        over = [name for name, slot in self.slots.items() if slot.over(now, monotonic)]
        left = [slot.earliest for name, slot in self.slots.items() if name not in over]
        self.earliest = min(left, default=math.inf)
        return over


class World:
    """Counts what changes in a memory, of any user: while it stands still, what was found there is there."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0

    def changed(self, user: HeldUser) -> None:
        """Something was done to that user."""
        user.changes += 1
        self.generation += 1


@dataclass(frozen=True, slots=True)
class TieredStats:
    """The tiers' counters; `outages` since the start, `pending` evictions now, `restarts` noticed."""

    memory: MemoryStats
    redis: Any
    outages: int
    restarts: int
    pending: int
