"""Connections to Redis as redis-py makes them, with a look at which server process answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError


class Process:
    """Which server process answers, asked on every new connection. `replaced` is told of another one: it may
    have started from an older copy, and what it says is not to be believed yet."""

    def __init__(self) -> None:
        self.run_id = b""
        """Its run id; empty while it is not known."""
        self.changes = 0
        """Times that another one answered."""
        self.replaced: Callable[[], None] = _nobody_asks

    async def greet(self, connection: Any) -> None:
        """What redis-py does with a new connection, and the question. Raises RedisError."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            info = await connection.read_response()
        except ResponseError:
            # INFO is forbidden to many an account; what it would have told is then unknown.
            return
        found = _RUN_ID.search(info if isinstance(info, bytes) else b"")
        if found is None:
            return
        known, self.run_id = self.run_id, found[1]
        if known not in (b"", found[1]):
            self.changes += 1
            self.replaced()


def _nobody_asks() -> None:
    """Nobody wants to know."""


_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Pool(BlockingConnectionPool):
    """A bounded pool that queues callers, and can let go of the connections nobody uses."""

    opened = 0
    waiting = 0

    def make_connection(self) -> Any:
        """See redis-py; counted."""
        self.opened += 1
        return super().make_connection()  # type: ignore[no-untyped-call]

    async def get_connection(self, *args: Any, **more: Any) -> Any:
        """See redis-py; who waits is counted."""
        self.waiting += 1
        try:
            return await super().get_connection(*args, **more)  # type: ignore[no-untyped-call]
        finally:
            self.waiting -= 1

    @property
    def figures(self) -> dict[str, int]:
        """The connections that it keeps, and how many were ever `opened`, those that left it among them."""
        return {
            "limit": self.max_connections,
            "in_use": len(self._in_use_connections),
            "idle": len(self._available_connections),
            "waiting": self.waiting,
            "opened": self.opened,
        }

    async def drop_idle(self) -> None:
        """Closes idle connections. They leave the pool first: one taken while it closes would break."""
        idle, self._available_connections = self._available_connections, []
        for connection in idle:
            await connection.disconnect(nowait=True)


def connect(
    url: str,
    pool_size: int = 10,
    pool_timeout: float = 5.0,
    deadline: float = 0.25,
    process: Process | None = None,
    **account: str | None,
) -> Redis:
    """A client for `redis://`, `rediss://` and `unix://`; connects on first use. Times are seconds.

    `account` may hold `username` and `password`. `process` watches who answers.

    Raises ValueError for another scheme. There is no timeout of each reply, as `Link` bounds the whole
    operation and redis-py takes a task and a timer for each of them.
    """
    pool = Pool.from_url(
        url,
        max_connections=pool_size,
        timeout=min(pool_timeout, deadline),
        protocol=2,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=deadline,
        redis_connect_func=None if process is None else process.greet,
        **{name: value for name, value in account.items() if value is not None},
    )
    return Redis(connection_pool=pool)
