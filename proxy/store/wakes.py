"""Who waits in this process for a fill that another replica has under way."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from proxy.core.model import Ref

Key = tuple[str, str]


class Waiter:
    """One wait; to be entered before the lease is asked for, or the wake may come too soon."""

    __slots__ = ("_future", "_key", "_wakes")

    def __init__(self, wakes: Wakes, key: Key) -> None:
        self._wakes = wakes
        self._key = key
        self._future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def wake(self, *, storable: bool) -> None:
        """The fill has ended."""
        if not self._future.done():
            self._future.set_result(storable)

    async def wait(self, seconds: float) -> bool:
        """False where the fill ended with an answer that can't be stored; True also when time is over."""
        try:
            async with asyncio.timeout(seconds):
                return await self._future
        except TimeoutError:
            return True

    def __enter__(self) -> Self:
        self._wakes.add(self._key, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wakes.remove(self._key, self)


class Wakes:
    """The waits of this process, by key of the user or alias."""

    def __init__(self) -> None:
        self._waiting: dict[Key, set[Waiter]] = {}

    def expect(self, ref: Ref) -> Waiter:
        """A wait for the end of a fill of `ref`."""
        return Waiter(self, (ref.key, ref.value))

    def wake(self, key: str, value: str, storable: bool) -> None:
        """A fill has ended somewhere."""
        for waiter in self._waiting.get((key, value), ()):
            waiter.wake(storable=storable)

    def add(self, key: Key, waiter: Waiter) -> None:
        """For Waiter."""
        self._waiting.setdefault(key, set()).add(waiter)

    def remove(self, key: Key, waiter: Waiter) -> None:
        """For Waiter."""
        waiting = self._waiting[key]
        waiting.discard(waiter)
        if not waiting:
            del self._waiting[key]

    def __repr__(self) -> str:
        return f"Wakes({sum(map(len, self._waiting.values()))})"
