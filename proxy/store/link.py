"""The line to Redis: pipelined commands, scripts by digest, a deadline, errors translated at this edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from time import perf_counter
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from proxy.core.errors import StoreError
from proxy.histogram import Histogram
from proxy.store.connections import Pool, Process, connect
from proxy.store.mux import Multiplexer, told
from proxy.store.patience import Patience
from proxy.store.scripts import TEXTS, WRONG_TYPE, Command, Script

__all__ = ["WRONG_TYPE", "Command", "Link", "Pool", "Process", "Script", "connect"]

# What is entered around each round trip: set where spans are made of them, and nothing else.
around: Callable[[Sequence[Command]], AbstractContextManager[Any]] | None = None

# Bounds the memory that one burst of replies takes.
_BURST = 500


class Link:
    """Runs commands on a client. Only StoreError leaves `bounded`; its text never holds a key or a value.

    `ordered`: the commands of one `run` take effect in their order. `mux` carries the commands, if given;
    else the client's pool does, a connection for each `run` under way.
    """

    ordered = True

    def __init__(
        self,
        client: Redis,
        *,
        deadline: float,
        process: Process | None = None,
        mux: Multiplexer | None = None,
    ) -> None:
        self._client = client
        self.mux = mux
        self.process = process or Process()
        self.deadline = deadline
        self.latency = Histogram()
        """Seconds of round trips that were answered."""
        self.errors = 0
        self.loads = 0
        """Times that a script was missing: what ran behind it in one pipeline has overtaken it."""

    @property
    def figures(self) -> dict[str, int]:
        """Connections to Redis; `waiting` are callers without a reply, or without a connection."""
        found = {"in_use": 0, "idle": 0, "waiting": 0, "opened": 0}
        for pool in self._pools:
            found = {name: count + pool.figures[name] for name, count in found.items()}
        if self.mux is not None:
            found["opened"] = found["opened"] or self.mux.opened
            if self.mux.wire is not None:
                found["in_use"] += self.mux.wire.usable
                found["waiting"] += self.mux.wire.under_way
        return found

    @property
    def _pools(self) -> Sequence[Pool]:
        pool = self._client.connection_pool
        return [pool] if isinstance(pool, Pool) else []

    @asynccontextmanager
    async def bounded(self, *, any_process: bool = False) -> AsyncIterator[None]:
        """One operation: it ends within the deadline, with the server process that it began with.

        Raises StoreError.
        """
        changes = self.process.changes
        try:
            async with Patience(self.deadline):
                yield
        except TimeoutError:
            self.errors += 1
            # The original names the command with its key, which may be an e-mail address.
            raise StoreError("redis did not answer in time") from None
        except (RedisError, OSError) as error:
            self.errors += 1
            # A pool without a free connection says so with the same error, for want of time.
            gone = isinstance(error, RedisConnectionError | OSError)
            gone = gone and not isinstance(error.__cause__, TimeoutError)
            raise StoreError(f"redis failed: {type(error).__name__}", gone=gone) from None
        if changes != self.process.changes and not any_process:
            raise StoreError("another server process answers", gone=True)

    async def run(self, *commands: Command) -> list[Any]:
        """The replies in order, in one round trip; WRONG_TYPE for a key of another type.

        Commands may be run twice. Raises RedisError or OSError: use it within `bounded`.
        """
        started = perf_counter()
        if around is None:
            replies = await self._run(commands)
        else:
            with around(commands):
                replies = await self._run(commands)
        self.latency.observe(perf_counter() - started)
        return replies

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(commands), _BURST):
            replies += await self._scripted(commands[start : start + _BURST])
        for index, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                # INFO is forbidden to many an account; what it would have told is then unknown.
                if not str(reply).startswith(WRONG_TYPE.value) and commands[index][0] != "INFO":
                    raise reply
                replies[index] = WRONG_TYPE
        return replies

    async def _scripted(self, commands: Sequence[Command]) -> list[Any]:
        replies = await self._try(commands)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            self.loads += 1
            await self._try([("SCRIPT", "LOAD", text) for text in TEXTS.values()])
            again = await self._try([commands[index] for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return replies

    async def _try(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await self._send(commands)
        except (RedisConnectionError, OSError):
            # A pooled connection may have died unseen, and then its neighbours have as well.
            await self._drop_idle()
            return await self._send(commands)

    async def _drop_idle(self) -> None:
        pool = self._client.connection_pool
        if isinstance(pool, Pool):
            await pool.drop_idle()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if self.mux is not None:
            found = await self.mux.send(commands)
            asked = zip(commands, found, strict=True)
            return [told(reply) if command[0] == "INFO" else reply for command, reply in asked]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A connection of its own, subscribed to `channels`: the messages as they come.

        Entered when the server has confirmed all of them. Raises StoreError where the connection is lost.
        """
        pubsub = self._client.pubsub()
        try:
            async with self.bounded():
                await pubsub.subscribe(*channels)
                for _ in channels:
                    await pubsub.get_message(timeout=None)
            yield self._messages(pubsub)
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    @staticmethod
    async def _messages(pubsub: PubSub) -> AsyncIterator[bytes]:
        try:
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
                if message is not None:
                    yield message["data"]
        except (RedisError, OSError) as error:
            raise StoreError(f"the feed was lost: {type(error).__name__}") from None

    @property
    def counting(self) -> list[Command]:
        """What to ask for the count of keys that were thrown out, see `counted`."""
        known = [("INFO", "server")] if not self.process.run_id else []
        return [("INFO", "stats"), *known]

    def counted(self, replies: Sequence[Any]) -> str:
        """The replies to `counting` as `run id=count,…` of all servers; "" if they don't say."""
        told: dict[str, Any] = {}
        for reply in replies:
            told |= reply if isinstance(reply, dict) else {}
        process = told.get("run_id") or self.process.run_id.decode()
        return f"{process}={told['evicted_keys']}" if process and "evicted_keys" in told else ""

    async def close(self) -> None:
        """Closes the client and its pool."""
        if self.mux is not None:
            await self.mux.close()
        await self._client.aclose()
        await self._client.connection_pool.aclose()
