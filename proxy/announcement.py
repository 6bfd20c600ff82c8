"""One announcement of this replica on the feed, and who has acknowledged it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from proxy.store.link import Command


class Announcement:
    """See ports.Announcement. `hear` waits for the replicas, given the seconds left of their leases."""

    __slots__ = ("_acked", "_changed", "_hear", "command", "number")

    def __init__(
        self,
        number: int,
        command: Command,
        hear: Callable[[Announcement, dict[str, float]], Awaitable[None]],
    ) -> None:
        self.number = number
        self.command = command
        self._hear = hear
        self._acked: set[str] = set()
        self._changed = asyncio.Event()

    def ack(self, replica: str) -> None:
        """That replica has dropped what this announcement names."""
        self._acked.add(replica)
        self._changed.set()

    async def heard(self, reply: Any) -> None:
        """`reply`: replica, microseconds left of its lease, replica, …; returns when none can be stale."""
        left = {reply[i].decode(): int(reply[i + 1]) / 1e6 for i in range(0, len(reply), 2)}
        await self._hear(self, left)

    async def acked_by(self, replicas: Collection[str], seconds: float) -> set[str]:
        """Waits for them, `seconds` at most; the ones that have not acknowledged."""
        missing = set(replicas) - self._acked
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while missing:
                    self._changed.clear()
                    await self._changed.wait()
                    missing -= self._acked
        return missing
