"""The running loop's clock, for tests of deadlines that need not last as long as these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class _Clock:
    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self.ahead


def forward(seconds: float) -> None:
    """Puts it on, for the rest of the test: what is due by then happens next, `asyncio.timeout` too."""
    loop: Any = asyncio.get_running_loop()
    if not isinstance(loop.time, _Clock):
        loop.time = _Clock(loop.time)
    loop.time.ahead += seconds
