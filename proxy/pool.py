"""Connections that are kept for the next request: at most so many, the last one used first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from proxy.core.errors import UpstreamBusy, UpstreamRefused

# Servers close idle connections after 5 to 75 s; being first keeps a request from meeting a closing one.
IDLE_SECONDS: Final = 15.0


class Pooled(Protocol):
    """What a pool asks of a connection."""

    def is_alive(self) -> bool:
        """False if the peer closed it or spoke out of turn."""
        ...

    def abort(self) -> None:
        """Closes at once."""
        ...


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """Lends connections, and waits for one at most `patience` seconds where `limit` are lent out.

    `connect` makes a new one, within a time of its own.
    """

    def __init__(self, connect: Callable[[], Awaitable[C]], *, limit: int, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._limit = limit
        self._patience = patience
        self._open = 0  # lent, idle or being made
        self._lent: set[C] = set()
        self._idle: list[tuple[C, float]] = []  # with the loop time since when, oldest first
        self._waiters: deque[asyncio.Future[C | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._opened = 0
        self._given_up = 0

    @property
    def figures(self) -> dict[str, int]:
        """What there is now, and how many were ever `opened` and waits `given_up`."""
        return {
            "limit": self._limit,
            "in_use": len(self._lent),
            "idle": len(self._idle),
            "opening": self._open - len(self._lent) - len(self._idle),
            "waiting": sum(not waiter.done() for waiter in self._waiters),
            "opened": self._opened,
            "given_up": self._given_up,
        }

    def __repr__(self) -> str:
        return f"<Pool open={self._open} idle={len(self._idle)} waiting={len(self._waiters)}>"

    async def acquire(self, *, fresh: bool = False) -> tuple[C, bool]:
        """A connection, and whether it was used before (never with `fresh`).

        Raises UpstreamBusy, UpstreamRefused, and whatever `connect` raises.
        """
        if self._closed:
            raise UpstreamRefused("The proxy is shutting down.", executed=False)
        if not fresh:
            used = self.take()
            if used is not None:
                return used, True
        if self._open < self._limit:
            self._open += 1
        elif self._idle:
            self._idle.pop(0)[0].abort()
        else:
            handed = await self._wait()
            if handed is not None and not fresh and handed.is_alive():
                self._lent.add(handed)
                return handed, True
            if handed is not None:
                handed.abort()
        return await self._new(), False

    def release(self, connection: C, *, reusable: bool) -> None:
        """Takes a lent connection back; one that is not reusable is closed."""
        if connection not in self._lent:
            return
        self._lent.remove(connection)
        if not reusable or self._closed:
            connection.abort()
            self._vacate()
        elif not self._hand_over(connection):
            self._idle.append((connection, self._loop.time()))
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(IDLE_SECONDS, self._sweep)

    def forget(self, connection: C) -> None:
        """Drops an idle connection that was lost."""
        for index, (idle, _) in enumerate(self._idle):
            if idle is connection:
                del self._idle[index]
                self._vacate()
                return

    def close(self) -> None:
        """Closes every connection, lent ones too; later requests are refused."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            self._open -= 1
            connection.abort()
        for lent in self._lent:
            lent.abort()
        while self._hand_over(None):
            pass

    def take(self) -> C | None:
        """A connection that lies idle, if there is one."""
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_alive():
                self._lent.add(connection)
                return connection
            connection.abort()
            self._open -= 1
        return None

    async def _new(self) -> C:
        try:
            if self._closed:
                raise UpstreamRefused("The proxy is shutting down.", executed=False)
            connection = await self._connect()
        except BaseException:
            self._vacate()
            raise
        self._opened += 1
        self._lent.add(connection)
        return connection

    async def _wait(self) -> C | None:
        """A connection handed over, or None: the place of one."""
        waiter: asyncio.Future[C | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._patience):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                # It was given in the moment in which the wait ended.
                handed = waiter.result()
                if handed is not None:
                    handed.abort()
                self._vacate()
            if isinstance(error, TimeoutError):
                self._given_up += 1
                raise UpstreamBusy("No connection to upstream came free in time.", executed=False) from None
            raise

    def _hand_over(self, connection: C | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _vacate(self) -> None:
        # The place itself is handed over, so that nobody overtakes those who wait.
        if not self._hand_over(None):
            self._open -= 1

    def _sweep(self) -> None:
        loop, self._sweeper = self._loop, None
        while self._idle and loop.time() - self._idle[0][1] >= IDLE_SECONDS:
            connection, _ = self._idle.pop(0)
            self._open -= 1
            connection.abort()
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0][1] + IDLE_SECONDS, self._sweep)
