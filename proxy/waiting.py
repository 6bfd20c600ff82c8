"""What waits in this process for somebody to take it: one count for all connections, and its bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Of what shares its memory with no client.
LARGEST: Final = 2**63


class Waiting:
    """`count` bytes are held for those who are slow, at most about `limit`.

    At the limit no request is begun, and of those in the making nothing more is read before what is
    held of it was taken: each goes on, and ends.
    """

    __slots__ = ("count", "limit")

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.limit = limit

    @property
    def full(self) -> bool:
        """Whether nothing more is begun."""
        return self.count >= self.limit


class Share:
    """The part of one holder. It is given back when the holder is gone, however that comes about."""

    __slots__ = ("_waiting", "held")

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self.held = 0

    def hold(self, count: int) -> None:
        """So many bytes are held now."""
        self._waiting.count += count - self.held
        self.held = count

    def too_much(self, most: int) -> bool:
        """Whether the holder should take no more: it has more than `most`, or anything while all is full."""
        return self.held > most or (self.held > 0 and self._waiting.full)

    def __del__(self) -> None:
        self._waiting.count -= self.held


@contextmanager
def held(waiting: Waiting, count: int) -> Iterator[None]:
    """So many bytes are held meanwhile."""
    waiting.count += count
    try:
        yield
    finally:
        waiting.count -= count
