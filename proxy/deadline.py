"""One deadline at a time: its timer is moved only when it goes off, as nearly all deadlines are met."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls back unless it is cleared, or set anew, in time; `due` (loop time) may be put off meanwhile."""

    __slots__ = ("_action", "_loop", "_timer", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: asyncio.AbstractEventLoop | None = loop
        self.due = 0.0
        self._action: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, action: Callable[[], None]) -> None:
        """`action` is called in so many seconds; what was set before is not."""
        loop = self._loop
        if loop is None:
            return
        self.due = due = loop.time() + seconds
        self._action = action
        if self._timer is not None and self._timer.when() > due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(due, self._tick)

    def clear(self) -> None:
        """Nothing is called."""
        self.due = 0.0

    def stop(self) -> None:
        """Nothing is called ever after."""
        self.due = 0.0
        self._loop = self._action = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if not self.due or self._loop is None or self._action is None:
            return
        if self._loop.time() < self.due:
            self._timer = self._loop.call_at(self.due, self._tick)
        else:
            self.due = 0.0
            self._action()
