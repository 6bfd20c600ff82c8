"""Redis as people run it: one server, one behind Sentinel, or a Cluster, each as a Link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from proxy.core.errors import StoreError
from proxy.store import codec
from proxy.store.link import Command, Link, Pool, Process, connect
from proxy.store.mux import Multiplexer

# All that replicas tell each other goes through the one server that has this key, so that it stays in order.
FEED_KEY = codec.MEMBERS_KEY
# How often the feed looks whether that key is still where it listens, in seconds.
_LOOK = 0.5
_COUNTS: Command = ("INFO", "stats")
_MOVED = (MovedError, AskError, ClusterDownError, TryAgainError)


def open_link(url: str, *, pool_size: int, pool_timeout: float, deadline: float) -> Link:
    """A link to `redis://`, `rediss://`, `unix://`, `redis+sentinel://h:p,h:p/service`, `redis+cluster://h:p,h:p`.

    Connects on first use. Times are seconds. A password in the URL is that of the data servers.
    """
    scheme = url.partition("://")[0]
    if scheme == "redis+sentinel":
        return SentinelLink(url, deadline=deadline)
    if scheme == "redis+cluster":
        return ClusterLink(url, pool_size=pool_size, pool_timeout=pool_timeout, deadline=deadline)
    process = Process()
    client = connect(url, pool_size, pool_timeout, deadline, process)
    mux = Multiplexer(client.connection_pool, patience=deadline)
    return Link(client, deadline=deadline, process=process, mux=mux)


def hosts(url: str) -> list[tuple[str, int]]:
    """The servers that a URL of several names. Raises ValueError where one has no port."""
    places = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    found = []
    for place in places.split(","):
        parts = urlsplit(f"//{place}")
        if not parts.hostname or parts.port is None:
            raise ValueError(f"each server is host:port; {place!r} is not")
        found.append((parts.hostname, parts.port))
    return found


def service(url: str) -> str:
    """The master's name in `redis+sentinel://…/service`; "" without one."""
    return unquote(url.partition("://")[2].partition("/")[2])


def _account(url: str) -> dict[str, Any]:
    parts = urlsplit("//" + url.partition("://")[2].partition("/")[0].partition(",")[0])
    name = unquote(parts.username) if parts.username else None
    return {"username": name, "password": unquote(parts.password) if parts.password else None}


class SentinelLink(Link):
    """The master that Sentinel names. After a failover the new one answers with another run id."""

    def __init__(self, url: str, *, deadline: float) -> None:
        once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        # A sentinel that hangs must leave time to ask the next one.
        asking = {**once, "socket_timeout": deadline / 3, "socket_connect_timeout": deadline / 3}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            hosts(url), sentinel_kwargs=asking, socket_connect_timeout=deadline, **once, **_account(url)
        )
        process = Process()
        client: Redis = self._sentinel.master_for(service(url), redis_connect_func=process.greet)
        mux = Multiplexer(client.connection_pool, patience=deadline)
        super().__init__(client, deadline=deadline, process=process, mux=mux)

    async def _drop_idle(self) -> None:
        await self._client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Closes the master's connections and those to the sentinels."""
        await super().close()
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class ClusterLink(Link):
    """A Cluster: each command goes to the server that has its key.

    redis-py's cluster client knows where the slots are; the commands travel on connections of our own, one
    pipeline a server, as its own pipeline retries for longer than our deadline.
    """

    ordered = False

    def __init__(self, url: str, *, pool_size: int, pool_timeout: float, deadline: float) -> None:
        account = _account(url)
        nodes = [ClusterNode(host, port) for host, port in hosts(url)]
        self._cluster = RedisCluster(
            startup_nodes=nodes,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=deadline,
            socket_timeout=deadline,
            **account,
        )
        self._account = account
        self._settings = (pool_size, pool_timeout, deadline)
        self._servers: dict[tuple[str, int], Redis] = {}
        super().__init__(self._cluster, deadline=deadline)  # type: ignore[arg-type]

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if self._cluster.get_default_node() is None:
            await self._cluster.initialize()
        replies = await self._once(commands)
        moved = [index for index, reply in enumerate(replies) if isinstance(reply, _MOVED)]
        if moved:
            await self._look_again()
            again = await self._once([commands[index] for index in moved])
            for index, reply in zip(moved, again, strict=True):
                replies[index] = reply
        return replies

    async def _once(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        if any(command[:2] == ("INFO", "server") for command in commands):
            return [{"run_id": await self._run_ids()} for _ in commands]
        if any(command[0] == "SCRIPT" for command in commands):
            await asyncio.gather(*(self._pipe(server, commands) for server in self._primaries()))
            return replies
        if _COUNTS in commands:
            rest, counts = await asyncio.gather(
                self._once([command for command in commands if command != _COUNTS]), self._evicted()
            )
            taken = iter(rest)
            return [counts if command == _COUNTS else next(taken) for command in commands]
        batches: dict[tuple[str, int], list[int]] = {}
        for index, command in enumerate(commands):
            batches.setdefault(self._place(command), []).append(index)
        answers = await asyncio.gather(
            *(self._pipe(place, [commands[i] for i in indexes]) for place, indexes in batches.items())
        )
        for indexes, answer in zip(batches.values(), answers, strict=True):
            for index, reply in zip(indexes, answer, strict=True):
                replies[index] = reply
        return replies

    @property
    def figures(self) -> dict[str, int]:
        """See Link; `limit` is that of all servers together."""
        return super().figures | {"limit": sum(pool.max_connections for pool in self._pools)}

    @property
    def _pools(self) -> Sequence[Pool]:
        pools = [server.connection_pool for server in self._servers.values()]
        return [pool for pool in pools if isinstance(pool, Pool)]

    async def _pipe(self, place: tuple[str, int], commands: Sequence[Command]) -> list[Any]:
        async with self._server(place).pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    def _place(self, command: Command) -> tuple[str, int]:
        if command[0] in ("PUBLISH", "PING"):
            key: str | bytes = FEED_KEY
        else:
            key = command[3] if command[0] == "EVALSHA" else command[1]
        node = self._cluster.get_node_from_key(key.decode() if isinstance(key, bytes) else key)
        if node is None:
            raise ClusterDownError("CLUSTERDOWN no server has that slot")
        return str(node.host), int(node.port)

    def _primaries(self) -> list[tuple[str, int]]:
        return [(str(node.host), int(node.port)) for node in self._cluster.get_primaries()]

    def _server(self, place: tuple[str, int]) -> Redis:
        server = self._servers.get(place)
        if server is None:
            host, port = place
            name = f"[{host}]" if ":" in host else host
            server = self._servers[place] = connect(
                f"redis://{name}:{port}", *self._settings, **self._account
            )
        return server

    async def _run_ids(self) -> str:
        """The run ids of all primaries: another one anywhere, and answers may be older than they look."""
        await self._look_again()
        infos = await asyncio.gather(
            *(self._server(place).info("server") for place in sorted(self._primaries()))
        )
        return ",".join(sorted(str(info.get("run_id", "")) for info in infos))

    async def _evicted(self) -> str:
        """Each primary's count of keys that it has thrown out: any of them may be the one that holds a floor.

        "" would refuse nothing, so a server that doesn't say is one that matches nothing.
        """
        infos = await asyncio.gather(
            *(self._pipe(place, [("INFO", "stats"), ("INFO", "server")]) for place in self._primaries())
        )
        return ",".join(self.counted(info) for info in infos) or "none"

    @property
    def counting(self) -> list[Command]:
        """See Link."""
        return [_COUNTS]

    def counted(self, replies: Sequence[Any]) -> str:
        """See Link."""
        return replies[0] if isinstance(replies[0], str) else super().counted(replies)

    async def _look_again(self) -> None:
        await self._cluster.nodes_manager.initialize()

    async def _drop_idle(self) -> None:
        servers, self._servers = self._servers, {}
        for server in servers.values():
            await server.connection_pool.disconnect(inuse_connections=False)
        await self._look_again()

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Link; on the server that has the feed's key, for as long as it has it."""
        async with self.bounded():
            await self._look_again()
            place = self._place(("GET", FEED_KEY))
        host, port = place
        name = f"[{host}]" if ":" in host else host
        own = Link(
            connect(f"redis://{name}:{port}", 1, *self._settings[1:], **self._account),
            deadline=self.deadline,
        )
        try:
            async with own.listening(*channels) as messages:
                yield self._while_there(messages, place)
        finally:
            await own.close()

    async def _while_there(
        self, messages: AsyncIterator[bytes], place: tuple[str, int]
    ) -> AsyncIterator[bytes]:
        following = asyncio.ensure_future(anext(messages))
        try:
            while True:
                done, _ = await asyncio.wait((following,), timeout=_LOOK)
                if done:
                    yield following.result()
                    following = asyncio.ensure_future(anext(messages))
                try:
                    there = self._place(("GET", FEED_KEY)) == place
                except RedisError:
                    there = False
                if not there:
                    raise StoreError("the feed's key has moved to another server")
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def close(self) -> None:
        """Closes the connections to all servers."""
        for server in self._servers.values():
            await server.aclose()
            await server.connection_pool.aclose()
        await self._cluster.aclose()
