"""What memory knows of aliases that nobody has: the marks of look-ups under way, and stored answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from proxy.core.model import Ref
from proxy.store.codec import Nobody
from proxy.store.slot import Slot

Alias = tuple[str, str]


class Nobodies:
    """Marks and "nobody" records, each bounded by `limit`, the least recently used go first.

    `over` says whether a slot's time is up. `dropped` counts records that went for want of room.
    """

    def __init__(self, limit: int, over: Callable[[Slot], bool]) -> None:
        self._limit = limit
        self._over = over
        self._records: OrderedDict[Alias, tuple[Nobody, Slot]] = OrderedDict()
        self._marks: OrderedDict[Alias, int] = OrderedDict()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._records)

    def look(self, alias: Alias) -> tuple[Nobody, Slot] | None:
        """The record, dead or alive."""
        return self._records.get(alias)

    def use(self, alias: Alias) -> None:
        """A record was read."""
        self._records.move_to_end(alias)

    def mark(self, alias: Alias, fresh: int) -> int | None:
        """The mark that is at the alias now: an older one, or `fresh`; None where a live record is."""
        held = self._records.get(alias)
        if held is not None:
            if not self._over(held[1]):
                return None
            self.remove(alias)
        # Look-ups of one alias share the mark that the first of them left.
        mark = self._marks.setdefault(alias, fresh)
        self._marks.move_to_end(alias)
        if len(self._marks) > self._limit:
            # Its look-ups cannot store "nobody" any more, which is safe.
            self._marks.popitem(last=False)
        return mark

    def marked(self, alias: Alias, mark: int | None) -> bool:
        """Whether the mark is still there."""
        return self._marks.get(alias) == mark

    def put(self, ref: Ref, slot: Slot, mark: int) -> bool:
        """Stores a record in place of its mark; False where the mark is gone."""
        alias = (ref.key, ref.value)
        if self._marks.get(alias) != mark:
            return False
        del self._marks[alias]
        self._records[alias] = (Nobody(ref.key, ref.value, ref.slot, slot.entry), slot)
        self.bytes += slot.size
        if len(self._records) > self._limit:
            self.remove(next(iter(self._records)))
            self.dropped += 1
        return True

    def remove(self, alias: Alias) -> bool:
        """Removes a record; says whether there was one."""
        held = self._records.pop(alias, None)
        if held is None:
            return False
        self.bytes -= held[1].size
        return True

    def free(self, alias: Alias) -> bool:
        """Removes mark and record: somebody may have this key now. Says whether there was a record."""
        self._marks.pop(alias, None)
        return self.remove(alias)

    def cap(self, until: float) -> None:
        """Ends every record at that monotonic second at the latest."""
        for _, slot in self._records.values():
            slot.until = until if slot.until is None else min(slot.until, until)

    def sweep(self) -> None:
        """Removes the least recently used record if its time is up."""
        oldest = next(iter(self._records), None)
        if oldest is not None and self._over(self._records[oldest][1]):
            self.remove(oldest)

    def clear(self) -> None:
        """Removes everything."""
        self._records.clear()
        self._marks.clear()
        self.bytes = 0
