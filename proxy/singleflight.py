"""One flight per key: the first caller leads, the others wait for what it brings, with bounds.

Knows nothing of caching. A leader that fails, is cancelled or brings nothing shareable frees all waiters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flight(Generic[V]):
    """What the waiters of one key wait for.

    `land` ends it; leaving the `with` block without it abandons it, which frees the waiters as well.
    """

    __slots__ = ("_done", "_remove", "waiters")

    def __init__(self, remove: Callable[[], None]) -> None:
        self._done: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._remove = remove
        self.waiters = 0

    def land(self, value: V | None) -> None:
        """Gives `value` to every waiter; None means abandoned: try again. Later calls do nothing."""
        if not self._done.done():
            self._remove()
            self._done.set_result(value)

    async def wait(self, timeout: float) -> V | None:
        """What the leader landed, None where it abandoned the flight.

        Raises TimeoutError after `timeout` seconds.
        """
        self.waiters += 1
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._done)
        finally:
            self.waiters -= 1

    def __enter__(self) -> Flight[V]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.land(None)


class SingleFlight(Generic[K, V]):
    """The flights under way, by key.

    `landed` counts the flights that have ended. A caller that looked a key up while it stood at n, found
    nothing, and now leads while it stands above n must look again: it may have missed the fill it wants.
    """

    def __init__(self, max_waiters: int) -> None:
        self.flights: dict[K, Flight[V]] = {}
        self.landed = 0
        self._max_waiters = max_waiters

    def join(self, key: K) -> tuple[Flight[V], bool] | None:
        """(flight, True) for the leader, (flight, False) for a waiter, None where too many wait already."""
        flight = self.flights.get(key)
        if flight is None:
            flight = self.flights[key] = Flight(partial(self._landed, key))
            return flight, True
        if flight.waiters >= self._max_waiters:
            return None
        return flight, False

    def _landed(self, key: K) -> None:
        self.landed += 1
        del self.flights[key]

    def __repr__(self) -> str:
        return f"SingleFlight({len(self.flights)} under way, {self.landed} landed)"
