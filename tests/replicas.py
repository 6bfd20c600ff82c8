"""Several caches on one server, as several processes have them, and what they promise together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.cache import UserCache
from proxy.core.model import Absent, Batch, Found, Ref, Tier
from tests.valkey import known, patient

USER = {"id": 42, "email": "ada@example.com", "username": "ada", "phone": "+4930"}


@asynccontextmanager
async def replicas(url: str, count: int = 2) -> AsyncIterator[list[UserCache]]:
    """Caches of several processes, all of them listening, and none waits for a table of members to age."""
    if url.startswith("unix://"):
        known(url)
    with patient():
        caches = [UserCache(url, wait_timeout=10.0) for _ in range(count)]
    try:
        for cache in caches:
            await cache.ticket()
            async with asyncio.timeout(10):
                await cache.store._feed.proven()  # type: ignore[attr-defined]
        yield caches
    finally:
        for cache in caches:
            await cache.close()


async def promises(url: str) -> None:
    """A user stored by one is found by the other by every key, from memory the second time, until written."""
    ref = Ref("email", "ada@example.com", "users")
    async with replicas(url) as (one, other):
        assert await one.cache_user(USER)
        for key in (ref, Ref("id", "42", "users"), Ref("phone", "+4930", "users")):
            found = await other.get(key)
            assert isinstance(found, Found), key
        again = await other.get(ref)
        assert isinstance(again, Found)
        assert Tier.MEMORY is again.tier

        fence = await one.fence(Batch(("42",)))
        assert isinstance(await other.get(ref), Absent)
        ticket = await other.ticket(ref)
        assert not await other.cache_user(USER, ticket=ticket)
        evicted = await one.settle(fence, Batch(("42",)))

        assert (1, 3, True) == (evicted.entries, evicted.aliases, evicted.delivered)
        assert isinstance(await other.get(ref), Absent)
        assert await other.cache_user(USER)
        assert USER == await one.get_user_by_username("ada")
        await one.evict(everything=True)
        assert await other.get_user_by_username("ada") is None
