"""How often somebody acts, by the clock of the loop: a load has a rate, whatever it takes to serve it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress


class Pace:
    """Turns that come `rate` times a second on average, as those of many people do. Late ones are not made up
    for."""

    def __init__(self, rate: float, rng: random.Random) -> None:
        self._rate = rate
        self._rng = rng
        self._due = 0.0

    async def turn(self, stop: asyncio.Event) -> None:
        """Returns when it is time, or at `stop`."""
        now = asyncio.get_running_loop().time()
        self._due = max(now, self._due + self._rng.expovariate(self._rate))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._due - now):
                await stop.wait()
