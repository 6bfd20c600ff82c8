"""The stores that keep one contract, each with a clock that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import fakeredis
import pytest

from proxy.store import codec
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.store.sealing import Sealer
from proxy.store.tiered import TieredStore
from tests.contract.kit import Clock, Kit
from tests.valkey import Valkey


async def make(kind: str, request: pytest.FixtureRequest, stack: AsyncExitStack) -> Kit:
    """Builds one of the stores."""
    clock = Clock()
    if kind == "memory":
        return Kit(kind, MemoryStore(100, now=clock, monotonic=clock), clock)
    if kind == "fakeredis":
        client = fakeredis.FakeAsyncRedis(protocol=2)
        stack.push_async_callback(client.aclose)
        return Kit(kind, RedisStore(client, now=clock, deadline=5.0), clock)
    server: Valkey = request.getfixturevalue("valkey")
    seal = Sealer([bytes(32)]) if kind == "sealed" else codec.PLAIN
    redis = RedisStore(server.url, now=clock, deadline=5.0, seal=seal)
    if kind in ("valkey", "sealed"):
        return Kit(kind, redis, clock)
    # Its watch is looked at in the tests of losing Redis.
    return Kit(kind, TieredStore(MemoryStore(100, now=clock, monotonic=clock), redis), clock)


@pytest.fixture(params=["memory", "fakeredis", "valkey", "sealed", "tiered"])
async def kit(request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """Every store."""
    async with AsyncExitStack() as stack:
        built = await make(request.param, request, stack)
        stack.push_async_callback(built.store.close)
        yield built


@pytest.fixture(params=["fakeredis", "valkey"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """The stores in Redis, without memory in front."""
    async with AsyncExitStack() as stack:
        built = await make(request.param, request, stack)
        stack.push_async_callback(built.store.close)
        yield built
