"""One upstream call per cold key over all replicas: leases in Redis, woken through the feed. Real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.cache import UserCache
from proxy.core.errors import StoreError, UpstreamRefused
from proxy.core.model import Entry, Found, Reason, Ref, Ticket
from proxy.leases import Loaded, Own, Shared
from proxy.store import redis as redis_store
from proxy.store.redis import RedisStore
from tests.contract.kit import until
from tests.replicas import replicas
from tests.valkey import Valkey

ID = Ref("id", "42", "users")
EMAIL = Ref("email", "ada@example.com", "users")
TOKEN = Ref("id", "42", "me#aa")

Loader = Callable[[Ticket], Awaitable[Loaded[str]]]


def entry() -> Entry:
    """User 42, good for a minute."""
    now = time.time()
    return Entry(
        user_id="42",
        keys={"email": "ada@example.com"},
        status=200,
        body=b"{}",
        stored=now,
        expires=now + 60,
        dead=now + 60,
    )


class Upstream:
    """Counts the calls; each one waits until `go` is set and brings what `answer` makes."""

    def __init__(self, answer: Callable[[], Entry | None] = entry) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.ticket = Ticket()
        self._answer = answer

    async def __call__(self, ticket: Ticket) -> Loaded[str]:
        self.calls += 1
        self.ticket = ticket
        await self.go.wait()
        return Loaded("own", self._answer())


def ask(cache: UserCache, ref: Ref, loader: Loader) -> asyncio.Task[Shared | Own[str]]:
    """One reader that found nothing."""
    return asyncio.ensure_future(cache.leases.fill_once(ref, cache.leases.landed, loader))


def waiting(cache: UserCache) -> int:
    """Readers of that replica that wait for another one."""
    return len(cache.store._wakes._waiting)  # type: ignore[attr-defined]


@pytest.mark.parametrize("ref", [ID, EMAIL, TOKEN], ids=["id", "email", "token"])
async def test_three_hundred_readers_cost_one_call(
    valkey: Valkey, ref: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred on each of three replicas: one asks upstream, the others are woken by its fill.

    Three replicas in one process on a busy machine may be late themselves; that is no outage of Redis.
    """
    upstream = Upstream()
    monkeypatch.setattr(redis_store, "LEASE", 30.0)
    async with replicas(valkey.url, 3) as caches:
        for cache in caches:
            cache.store.redis.link.deadline = 5.0  # type: ignore[attr-defined]
        first = ask(caches[0], ref, upstream)
        await until(lambda: upstream.calls == 1)
        readers = [ask(cache, ref, upstream) for cache in caches for _ in range(100)]
        await until(lambda: all(waiting(cache) for cache in caches[1:]))
        upstream.go.set()
        answers = await asyncio.gather(first, *readers)

    assert 1 == upstream.calls
    assert 1 == sum(isinstance(answer, Own) for answer in answers)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
async def test_a_fill_that_redis_was_late_to_answer_sends_nobody_alone(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """It may have been stored all the same; if not, one of those who wait asks upstream, not all of them."""
    upstream = Upstream()
    async with replicas(valkey.url, 1) as (cache,):
        redis: RedisStore = cache.store.redis  # type: ignore[attr-defined]
        filling = redis.fill

        async def late(*fill: Any) -> Reason | None:
            monkeypatch.setattr(redis, "fill", filling)
            if stored:
                await filling(*fill)
            raise StoreError("redis did not answer in time")

        monkeypatch.setattr(redis, "fill", late)
        readers = [ask(cache, ID, upstream) for _ in range(100)]
        await until(lambda: upstream.calls == 1)
        upstream.go.set()
        await asyncio.gather(*readers)

    assert upstream.calls == 1 + (not stored)


async def test_a_fill_by_an_alias_that_is_refused_frees_who_comes_next(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write came in between: the lease, which stands at the alias, ends with the refusal, not by itself."""
    monkeypatch.setattr(redis_store, "LEASE", 30.0)
    upstream, following = Upstream(), Upstream()
    async with replicas(valkey.url, 2) as (one, other):
        first = ask(one, EMAIL, upstream)
        await until(lambda: upstream.calls == 1)
        await other.evict(["42"])
        upstream.go.set()
        refused = await first
        assert isinstance(refused, Own)
        assert Reason.STALE_FILL is refused.refused
        following.go.set()
        async with asyncio.timeout(8):
            assert isinstance(await ask(other, EMAIL, following), Own)


@pytest.mark.parametrize("ref", [ID, EMAIL], ids=["id", "email"])
async def test_an_answer_that_can_not_be_stored_frees_all(valkey: Valkey, ref: Ref) -> None:
    """Nobody waits for a lease that brought nothing, and for a second nobody queues for one."""
    upstream = Upstream(lambda: None)
    async with replicas(valkey.url, 2) as (one, other):
        first = ask(one, ref, upstream)
        await until(lambda: upstream.calls == 1)
        second = ask(other, ref, upstream)
        await until(lambda: waiting(other) == 1)
        upstream.go.set()
        async with asyncio.timeout(redis_store.LEASE / 2):
            await asyncio.gather(first, second)
            held = Upstream(lambda: None)
            queue = [ask(other, ref, held) for _ in range(5)]
            await until(lambda: held.calls == 5)
            held.go.set()
            await asyncio.gather(*queue)

    assert 2 == upstream.calls


async def test_a_failure_of_the_holder_frees_the_others(valkey: Valkey) -> None:
    """Upstream refused one replica's call: another one tries at once."""
    calls = Upstream()

    async def fails(_: Ticket) -> Loaded[str]:
        await calls.go.wait()
        raise UpstreamRefused("no", executed=False)

    async with replicas(valkey.url, 2) as (one, other):
        first = ask(one, ID, fails)
        await until(lambda: one.leases.under_way(ID))
        await until(lambda: valkey.field("user:id:42", "l:users") != "")
        good = Upstream()
        good.go.set()
        second = ask(other, ID, good)
        await until(lambda: waiting(other) == 1)
        calls.go.set()
        with pytest.raises(UpstreamRefused):
            await first
        async with asyncio.timeout(redis_store.LEASE / 2):
            assert isinstance(await second, Own)


@pytest.mark.parametrize("ref", [ID, EMAIL], ids=["id", "email"])
async def test_who_asks_after_the_lease_takes_over(
    valkey: Valkey, ref: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder died: its lease runs out, and the next one asks upstream."""
    monkeypatch.setattr(redis_store, "LEASE", 0.2)
    upstream = Upstream()
    upstream.go.set()
    async with replicas(valkey.url, 2) as (dead, other):
        held = await dead.store.lease(ref, 1.0)
        assert isinstance(held, Ticket)

        answer = await ask(other, ref, upstream)

        assert (Own, 1) == (type(answer), upstream.calls)
        assert (ref is ID) == (upstream.ticket.lease is not None)
        assert isinstance(await dead.get(ref), Found)


async def test_an_eviction_frees_those_who_wait(valkey: Valkey) -> None:
    """What they wait for will be refused, so one of them asks again at once."""
    slow, fresh = Upstream(), Upstream()
    fresh.go.set()
    async with replicas(valkey.url, 2) as (one, other):
        first = ask(one, ID, slow)
        await until(lambda: slow.calls == 1)
        second = ask(other, ID, fresh)
        await until(lambda: waiting(other) == 1)
        await other.evict(["42"])
        async with asyncio.timeout(redis_store.LEASE / 2):
            assert isinstance(await second, Own)
        slow.go.set()
        late = await first

        assert isinstance(late, Own)
        assert (False, Reason.STALE_FILL) == (late.stored, late.refused)


async def test_a_key_that_redis_threw_out_takes_its_lease_along(valkey: Valkey) -> None:
    """With the key, floors may have gone: what was read before is not stored."""
    async with replicas(valkey.url, 1) as (cache,):
        ticket = await cache.store.lease(ID, 1.0)
        assert isinstance(ticket, Ticket)
        await cache.evict(["42"])
        valkey.ask("DEL", "user:id:42")

        assert Reason.STALE_FILL is await cache.fill(ID, entry(), ticket)


async def test_evicted_keys_refuse_what_was_read_by_an_alias(valkey: Valkey) -> None:
    """The id was not known, so any key that was thrown out since may have been the user's floor."""
    async with replicas(valkey.url, 1) as (cache,):
        ticket = await cache.ticket(EMAIL)
        await cache.evict(["42"])
        try:
            used = int(valkey.ask("INFO", "memory")["used_memory"])
            valkey.ask("CONFIG", "SET", "maxmemory", used + 2_000_000)
            valkey.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
            number = 0
            while int(valkey.ask("INFO", "stats")["evicted_keys"]) == int(ticket.evicted.rpartition("=")[2]):
                number += 1
                valkey.ask("SET", f"filler:{number}", b"x" * 100_000)
                assert number < 1000
            valkey.ask("DEL", "user:id:42")
        finally:
            valkey.ask("CONFIG", "SET", "maxmemory", 0)

        assert Reason.STALE_FILL is await cache.fill(EMAIL, entry(), ticket)
        assert await cache.fill(EMAIL, entry(), await cache.ticket(EMAIL)) is None


async def test_waiting_for_another_replica_has_a_bound(valkey: Valkey) -> None:
    """Who has waited long enough goes on without the lease."""
    async with replicas(valkey.url, 2) as (holder, other):
        assert isinstance(await holder.store.lease(ID, 1.0), Ticket)

        ticket = await other.store.lease(ID, 0.01)

        assert isinstance(ticket, Ticket)
        assert ticket.lease is None
        assert await other.fill(ID, entry(), ticket) is None
