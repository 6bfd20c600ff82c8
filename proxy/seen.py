"""Which heads have come before: most that come once never come again, and nothing is kept of them."""

from __future__ import annotations

from array import array
from typing import Final

# Places, each for the last of the heads that share it: a quarter of a megabyte.
_PLACES: Final = 1 << 15


class Seen:
    """Remembers heads by their hashes; a head may be forgotten, and none is taken for another."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * _PLACES))

    def again(self, key: bytes) -> bool:
        """Whether it was asked before for the head of this hash."""
        name = int.from_bytes(key[:8])
        place = name % _PLACES
        if self._places[place] == name:
            return True
        self._places[place] = name
        return False
