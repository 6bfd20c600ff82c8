"""What memory holds: answers, users with their answers, and the counts of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.core.model import Entry

# What an Entry costs besides its text, in bytes; good enough for a gauge.
_OVERHEAD = 600


@dataclass(slots=True)
class Slot:
    """`until` is in monotonic seconds: a wall clock that is set back must not keep a copy beyond its cap."""

    entry: Entry
    until: float | None = None

    def over(self, now: float, monotonic: float) -> bool:
        """Whether its time is up, at this wall clock and this monotonic clock."""
        return self.entry.dead <= now or (self.until is not None and self.until <= monotonic)

    @property
    def size(self) -> int:
        """Bytes, approximately."""
        entry = self.entry
        return _OVERHEAD + len(entry.body) + sum(len(name) + len(value) for name, value in entry.headers)


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


@dataclass(slots=True)
class HeldUser:
    """A user's answers by slot, and the aliases they prove. `changes` counts whatever was done to them."""

    id: str
    slots: dict[str, Slot] = field(default_factory=dict)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    changes: int = 0


@dataclass(frozen=True, slots=True)
class TieredStats:
    """The tiers' counters; `outages` since the start, `pending` evictions now, `restarts` noticed."""

    memory: MemoryStats
    redis: Any
    outages: int
    restarts: int
    pending: int
