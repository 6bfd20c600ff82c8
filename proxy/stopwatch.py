"""How long hits take that are answered before the walk: one in a while is timed, and the others cost nothing.

Each of them takes microseconds, so that a clock read twice on each would be seen in the figures it is for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Final

from proxy.core.model import Outcome
from proxy.fastpath import Replays

# Seconds after a timed hit until the next one is timed. Nothing wakes up where there are no hits.
PAUSE: Final = 0.1
_MOST: Final = 1000


class Stopwatch:
    """Times replays, from the head in hand to the answer that can be sent, as walks are timed."""

    def __init__(self, replays: Replays) -> None:
        self._replays = replays
        self._loop = asyncio.get_running_loop()
        self._seconds: deque[float] = deque(maxlen=_MOST)
        self._arm()

    def counted(self) -> Iterable[tuple[Outcome, int]]:
        """See Elsewhere."""
        return self._replays.counted()

    def times(self) -> list[float]:
        """See Elsewhere."""
        found = list(self._seconds)
        self._seconds.clear()
        return found

    def _arm(self) -> None:
        # An attribute of the one object stands before the method of its class, for a single hit.
        self._replays.answer = self._timed  # type: ignore[method-assign]

    def _timed(self, head: bytes) -> bytes | None:
        began = perf_counter()
        ready = Replays.answer(self._replays, head)
        if ready is not None:
            self._seconds.append(perf_counter() - began)
            del self._replays.answer
            self._loop.call_later(PAUSE, self._arm)
        return ready
