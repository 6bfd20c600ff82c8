"""One answer as memory holds it."""

from __future__ import annotations

from dataclasses import dataclass

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
