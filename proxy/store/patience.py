"""A bound on the time that something takes, of which this process must have seen the end."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

# A timer that goes off so many seconds too late says that this process stood still: it was frozen, or had no
# turn. What it waits for may have come long ago.
LATE: Final = 0.1


class Patience:
    """`async with Patience(seconds)` raises TimeoutError like `asyncio.timeout`, but gives the time once more
    where this process stood still when it was over: a replica that was frozen must not take Redis for lost.
    """

    __slots__ = ("_again", "_cancelling", "_due", "_expired", "_handle", "_loop", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._again = self._expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("patience is a task's")
        self._task, self._cancelling = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._arm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        # Somebody else's wish that the task ends comes first.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _arm(self) -> None:
        self._due = self._loop.time() + self._seconds
        self._handle = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        if not self._again and self._loop.time() - self._due > LATE:
            self._again = True
            self._arm()
        else:
            self._expired = True
            self._task.cancel()
