"""How often somebody acts, by the clock of the loop: a load has a rate, whatever it takes to serve it."""

from __future__ import annotations

import asyncio
import random


class Pace:
    """Turns that come `rate` times a second on average, as those of many people do. Late ones are not made up
    for."""

    def __init__(self, rate: float, rng: random.Random) -> None:
        self._rate = rate
        self._rng = rng
        self._due = 0.0

    async def turn(self) -> None:
        """Returns when it is time."""
        now = asyncio.get_running_loop().time()
        self._due = max(now, self._due + self._rng.expovariate(self._rate))
        await asyncio.sleep(self._due - now)
