"""The running loop's clock, for tests of deadlines that need not last as long as these."""

from __future__ import annotations

import asyncio


def forward(seconds: float) -> None:
    """Puts it on, for the rest of the test: what is due by then happens next, `asyncio.timeout` too."""
    loop = asyncio.get_running_loop()
    was = loop.time
    loop.time = lambda: was() + seconds  # type: ignore[method-assign]
