"""One connection for all commands: what is asked in one tick travels together, replies match by their order.

redis-py opens and greets the connection (TLS, unix socket, account, Sentinel); then its transport is taken
over, as its pool costs a connection and a task's wait for each command under way.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError

from proxy.store.scripts import Command

_MORE: Final = object()
# It is still loading, or not the primary any more: another connection may do better.
_ELSEWHERE: Final = (RedisConnectionError, ReadOnlyError)


class Pool(Protocol):
    """What of redis-py's pool is needed: a new connection, not counted and not kept by it."""

    def make_connection(self) -> Any:
        """A connection that is still to be opened."""
        ...


class Asked(ABC):
    """Commands that were sent together, and what has come back of them."""

    __slots__ = ("count", "replies", "sent")

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.sent = 0.0

    @abstractmethod
    def finished(self) -> None:
        """All replies are there."""

    @abstractmethod
    def failed(self, why: str) -> None:
        """None will come any more: the connection is gone."""


class _Awaited(Asked):
    """Those of one caller."""

    __slots__ = ("future",)

    def __init__(self, count: int, future: asyncio.Future[list[Any]]) -> None:
        super().__init__(count)
        self.future = future

    def finished(self) -> None:
        if not self.future.done():
            self.future.set_result(self.replies)

    def failed(self, why: str) -> None:
        if not self.future.done():
            self.future.set_exception(RedisConnectionError(f"the connection is gone: {why}"))


class Wire(asyncio.Protocol):
    """An open connection. Replies come in the order of the commands, so one that is lost loses all."""

    def __init__(self, connection: Any, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001 - redis-py gives no other way
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MORE
        )
        self._asked: deque[Asked] = deque()
        self._out: list[bytes] = []
        self._heard = 0.0
        self.lost = False
        self._transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether it is open, as far as this end knows."""
        return not (self.lost or self._transport.is_closing())

    @property
    def under_way(self) -> int:
        """Callers whose replies have not come."""
        return len(self._asked)

    def ask(self, commands: Sequence[Command]) -> _Awaited:
        """Whose future are the replies to come, or RedisConnectionError. Only while `usable`."""
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        asked = _Awaited(len(packed), self._loop.create_future())
        self.post(packed, asked)
        return asked

    def post(self, packed: Sequence[bytes], asked: Asked, *, now: bool = False) -> None:
        """Commands as bytes; `now` sends all that waits for the end of this tick. Only while `usable`."""
        if not self._out and not now:
            self._loop.call_soon(self._flush)
        self._out += packed
        asked.sent = self._loop.time()
        self._asked.append(asked)
        if now:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self.usable:
            self._transport.write(b"".join(out))

    def given_up(self, asked: Asked) -> None:
        """Nobody waits for it any more. If that is for want of time, the connection itself is in doubt.

        A caller that went away by itself says nothing: its reply comes and is dropped.
        """
        limit = self._loop.time() - self._patience * 0.9
        if asked.sent <= limit and self._heard <= limit and asked in self._asked:
            self.abort("it does not answer")

    def data_received(self, data: bytes) -> None:
        """Replies, in whole or in part."""
        self._heard = self._loop.time()
        reader, asked = self._reader, self._asked
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _MORE:
                if isinstance(reply, _ELSEWHERE):
                    self.abort(type(reply).__name__)
                    return
                first = asked[0]
                first.replies.append(reply)
                if len(first.replies) == first.count:
                    asked.popleft()
                    first.finished()
        except (InvalidResponse, IndexError):
            self.abort("it does not speak as agreed")

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Whoever waits is told."""
        self._fail("it was closed")

    def abort(self, why: str) -> None:
        """Closes at once."""
        # In this order: a writer that is let go of while it is open complains.
        self._transport.abort()
        self._fail(why)

    def _fail(self, why: str) -> None:
        self.lost = True
        self._connection._reader = self._connection._writer = None  # noqa: SLF001 - it would warn of them
        asked, self._asked = self._asked, deque()
        for one in asked:
            one.failed(why)

    def __repr__(self) -> str:
        return f"Wire({'lost' if self.lost else 'open'}, {len(self._asked)} under way)"


class Multiplexer:
    """Commands over one connection, opened when first used and again after it was lost.

    `patience` (seconds) bounds opening it, and is how long a connection may be silent over a question that
    its caller has given up.
    """

    def __init__(self, pool: Pool, *, patience: float) -> None:
        self._pool = pool
        self._patience = patience
        self.wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None
        self.opened = 0

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The replies in order, errors of Redis among them. Raises RedisError or OSError."""
        if not commands:
            return []
        wire = self.wire
        if wire is None or not wire.usable:
            wire = await self._opened()
        asked = wire.ask(commands)
        try:
            return await asked.future
        except asyncio.CancelledError:
            wire.given_up(asked)
            raise

    async def _opened(self) -> Wire:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._ended)
        # It goes on for the others where one of the callers has no time left.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Wire:
        connection = self._pool.make_connection()
        try:
            async with asyncio.timeout(self._patience):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self.opened += 1
        self.wire = Wire(connection, self._patience)
        return self.wire

    def _ended(self, task: asyncio.Task[Wire]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # all who waited may have gone

    async def close(self) -> None:
        """Closes the connection; idempotent."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self.wire is not None:
            self.wire.abort("this end closes")
            self.wire = None

    def __repr__(self) -> str:
        return f"Multiplexer({self.wire})"


def told(info: object) -> object:
    """The lines of an answer to INFO as a mapping; anything else as it is."""
    if not isinstance(info, bytes):
        return info
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}
