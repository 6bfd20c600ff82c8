"""How long hits take that are answered before the walk: one in a while is timed, and the others cost nothing.

Each of them takes microseconds, so that a clock read twice on each would be seen in the figures it is for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Final

from proxy.core.model import Outcome, Tier
from proxy.core.ports import Glance
from proxy.fastpath import Replays
from proxy.forms import Asker

# Seconds after a timed hit until the next one is timed. Nothing wakes up where there are no hits.
PAUSE: Final = 0.1
_MOST: Final = 1000


class Stopwatch:
    """Times what `replays` answers, from the head in hand to the answer that can be sent, as walks are timed.

    Out of memory and out of Redis, each by itself: nobody may take one for the other.
    """

    def __init__(self, replays: Replays) -> None:
        self._replays = replays
        self._loop = asyncio.get_running_loop()
        self._seconds: dict[Tier | None, deque[float]] = {
            tier: deque(maxlen=_MOST) for tier in (Tier.MEMORY, Tier.REDIS)
        }
        self._arm_answer()
        self._arm_ask()

    def counted(self) -> Iterable[tuple[Outcome, int]]:
        """See Elsewhere."""
        return self._replays.counted()

    def times(self) -> dict[Tier | None, list[float]]:
        """See Elsewhere."""
        found = {tier: list(seconds) for tier, seconds in self._seconds.items()}
        for seconds in self._seconds.values():
            seconds.clear()
        return found

    # An attribute of the one object stands before the method of its class, for a single hit.

    def _arm_answer(self) -> None:
        self._replays.answer = self._answer  # type: ignore[method-assign]

    def _arm_ask(self) -> None:
        self._replays.ask = self._ask  # type: ignore[method-assign]

    def _answer(self, head: bytes) -> bytes | None:
        began = perf_counter()
        ready = Replays.answer(self._replays, head)
        if ready is not None:
            self._seconds[Tier.MEMORY].append(perf_counter() - began)
            del self._replays.answer
            self._loop.call_later(PAUSE, self._arm_answer)
        return ready

    def _ask(self, head: bytes, asker: Asker) -> Glance | None:
        return Replays.ask(self._replays, head, _Timed(self, asker))

    def asked(self, seconds: float) -> None:
        """An answer out of Redis took so long."""
        self._seconds[Tier.REDIS].append(seconds)
        if "ask" in vars(self._replays):
            del self._replays.ask
            self._loop.call_later(PAUSE, self._arm_ask)


class _Timed:
    """The connection that asks, with a look at the clock."""

    __slots__ = ("_asker", "_began", "_watch")

    def __init__(self, watch: Stopwatch, asker: Asker) -> None:
        self._watch = watch
        self._asker = asker
        self._began = perf_counter()

    def given(self, head: bytes, answer: bytes | None) -> bool:
        """See Asker."""
        seconds = perf_counter() - self._began
        taken = self._asker.given(head, answer)
        if taken and answer is not None:
            self._watch.asked(seconds)
        return taken
