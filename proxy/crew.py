"""The workers of one proxy, and when those that died are started again."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

log = logging.getLogger("proxy")

# A worker that died is started again after this many seconds, and after twice as many each time it dies
# young, so that it can't take the machine.
RESTART_DELAY, LONGEST_DELAY = 1.0, 30.0
YOUNG = 10.0


class Crew:
    """The living and the dead. Times are monotonic seconds."""

    def __init__(self, workers: list[SpawnProcess], start: Callable[[int], SpawnProcess]) -> None:
        self.workers = workers
        self._start = start
        self._born = dict.fromkeys(range(len(workers)), time.monotonic())
        self._delay = dict.fromkeys(range(len(workers)), RESTART_DELAY)
        self._due: dict[int, float] = {}

    def signal(self, number: int) -> None:
        """Sends it to all that live."""
        for process in self.workers:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    @property
    def sentinels(self) -> list[int]:
        """What becomes ready when a living worker dies."""
        return [process.sentinel for at, process in enumerate(self.workers) if at not in self._due]

    def pause(self, *, watching: bool) -> float | None:
        """How long to wait for the next event; None for as long as it takes."""
        if watching:
            return 0.05
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def mend(self, now: float) -> None:
        """Notes who has died, and starts those whose time has come."""
        for index, process in enumerate(self.workers):
            if index in self._due:
                if self._due[index] <= now:
                    del self._due[index]
                    self._born[index] = now
                    self.workers[index] = self._start(index)
            elif not process.is_alive():
                if now - self._born[index] >= YOUNG:
                    self._delay[index] = RESTART_DELAY
                self._due[index] = now + self._delay[index]
                log.error(
                    "worker died",
                    extra={
                        "worker": index,
                        "exit_code": process.exitcode,
                        "again_in_seconds": self._delay[index],
                    },
                )
                self._delay[index] = min(self._delay[index] * 2, LONGEST_DELAY)
