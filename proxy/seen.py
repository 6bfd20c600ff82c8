"""Which heads have come before: most that come once never come again, and nothing else is kept of them."""

from __future__ import annotations

from struct import Struct
from typing import Final

# Heads that share a row: the oldest goes first.
_ROW: Final = Struct("4I")


class Seen:
    """Remembers `most` heads by parts of their hashes; some are forgotten sooner, or taken for another."""

    __slots__ = ("_places", "_rows")

    def __init__(self, most: int) -> None:
        self._rows = max(1, most)
        # Memory that nobody has written to yet costs nothing.
        self._places = bytearray(_ROW.size * self._rows)

    def again(self, key: bytes) -> bool:
        """Whether it was asked before for the head of this hash."""
        name, number = int.from_bytes(key[:4]), int.from_bytes(key[4:12])
        at = number % self._rows * _ROW.size
        row = _ROW.unpack_from(self._places, at)
        if name in row:
            return True
        _ROW.pack_into(self._places, at, name, *row[:3])
        return False
