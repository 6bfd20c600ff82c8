"""A fence ends with its write, everywhere: whatever was lost on the way, no user stays cold. Real Valkey."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from proxy import feed
from proxy.cache import UserCache, open_users
from proxy.core.model import Batch, Fence
from proxy.core.settings import RedisSettings
from proxy.store import bracket
from proxy.store.notes import Notes, redeemed
from tests.contract.kit import until
from tests.replicas import USER, replicas
from tests.valkey import Valkey

BATCH = Batch(("42",))


def told(cache: UserCache) -> int:
    """Fences of others that stand there."""
    return int(cache.store.memory.heard.standing)  # type: ignore[attr-defined]


def down(cache: UserCache) -> bool:
    """Redis is not trusted there."""
    return bool(cache.store.recovery.down)  # type: ignore[attr-defined]


async def test_a_replica_whose_feed_was_cut_asks_what_has_ended(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It heard of two fences; one is lifted while it hears nothing, the other one goes on standing."""
    async with replicas(valkey.url, 2) as (one, other):
        ended, going_on = await one.fence(BATCH), await one.fence(Batch(("43",)))
        assert 2 == told(other)
        monkeypatch.setattr(feed, "RECONNECT_AFTER", 0.5)
        valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not other.store._feed.alive)  # type: ignore[attr-defined]
        await one.settle(ended, None)
        assert 2 == told(other)

        await until(lambda: told(other) == 1)
        assert await other.cache_user(USER)
        assert not await other.cache_user(USER | {"id": 43})
        await one.settle(going_on, None)
        await until(lambda: told(other) == 0)


@pytest.mark.parametrize("batch", [None, BATCH], ids=["refused", "done"])
async def test_a_write_that_ended_during_an_outage(valkey: Valkey, batch: Batch | None) -> None:
    """Its fence was raised before; it is lifted before Redis is trusted again, in Redis and everywhere."""
    async with replicas(valkey.url, 2) as (one, other):
        fence = await one.fence(BATCH)
        valkey.ask("SAVE")
        valkey.kill()
        await one.settle(fence, batch)
        await until(lambda: down(one) and down(other))
        valkey.start()

        await until(lambda: not (down(one) or down(other) or told(other)))
        assert 0 == valkey.ask("HEXISTS", "user:id:42", "fence")
        assert await other.cache_user(USER)
    # The next test's server is not to find this one's snapshot.
    valkey.flush()
    valkey.ask("SAVE")


async def test_a_write_that_ends_while_its_fence_is_raised_late(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began in an outage. Nobody renews its fence, or its user would be cold for ever."""
    async with replicas(valkey.url, 1) as (one,):
        valkey.kill()
        fence = await one.fence(BATCH)
        assert down(one)
        writes = one.store.redis.writes  # type: ignore[attr-defined]
        raising = writes.fence

        async def ends(raised: Fence, *commands: Any, **more: Any) -> Any:
            replies = await raising(raised, *commands, **more)
            if raised == fence:
                await one.settle(fence, BATCH)
            return replies

        monkeypatch.setattr(writes, "fence", ends)
        valkey.start()

        await until(lambda: not down(one))
        assert {} == one.store.bracket._timers  # type: ignore[attr-defined]
        assert 0 == valkey.ask("HEXISTS", "user:id:42", "fence")


async def test_a_fence_that_lingers_ends_in_time_though_redis_was_away(valkey: Valkey) -> None:
    """Upstream did not answer, and Redis could not be told for how long the fence is to stand."""
    async with replicas(valkey.url, 2) as (one, other):
        fence = await one.fence(BATCH)
        valkey.ask("SAVE")
        valkey.kill()
        await one.settle(fence, BATCH, linger=1.0)
        valkey.start()
        await until(lambda: not (down(one) or down(other)))

        await until(lambda: not told(other) and not valkey.ask("HEXISTS", "user:id:42", "fence"))
        assert await other.cache_user(USER)
    valkey.flush()
    valkey.ask("SAVE")


async def test_a_fence_outlives_all_that_upstream_may_take(valkey: Valkey) -> None:
    """Its proxy may die at any time before a renewal: what is left then is longer than the patience."""
    store = open_users(RedisSettings(url=valkey.url), 10, patience=60.0)
    fence = await store.fence(BATCH)
    _, _, deadline = valkey.ask("HGET", "user:id:42", "fence").partition(b":")
    until_over = int(deadline) / 1e6 - time.time()
    timer = store.bracket._timers[fence.name]  # type: ignore[attr-defined]
    until_renewed = timer.when() - asyncio.get_running_loop().time()
    assert until_over - until_renewed > 60.0
    await store.settle(fence, None)
    assert timer.cancelled()
    await store.close()


def noted(valkey: Valkey) -> list[bytes]:
    """Notes of writes under way whose users nobody can name: deadline and life in microseconds."""
    fields = [one for one in valkey.ask("HKEYS", "user:members") if one.startswith(b"!")]
    return [valkey.ask("HGET", "user:members", one) for one in fields]


def notes(valkey: Valkey) -> int:
    """How many there are."""
    return len(noted(valkey))


async def test_writes_of_unnamed_users_share_one_note(valkey: Valkey) -> None:
    """Thousands of them are one field of the table that each announcement reads. It goes with the last."""
    async with replicas(valkey.url, 1) as (one,):
        fences = [await one.fence(Batch(unnamed=True)) for _ in range(50)]
        assert 1 == notes(valkey)
        first, *rest = fences
        await asyncio.gather(
            *(one.settle(fence, BATCH if number % 2 else None) for number, fence in enumerate(rest))
        )
        assert 1 == notes(valkey)
        await one.settle(first, None)
        assert 0 == notes(valkey)


def test_nobody_joins_a_note_that_is_about_to_go() -> None:
    """What removes it may come after what a new write says; of two that end at once one removes it."""
    held = Notes()
    first = held.pledged("f", 1.0)[4]
    assert [redeemed(first)] == held.leaving("f")
    second = held.pledged("g", 1.0)[4]
    assert first != second == held.pledged("h", 1.0)[4]
    held.left("f")
    assert ([], [redeemed(second)]) == (held.leaving("g"), held.leaving("h"))
    # Redis did not say that it was done.
    assert ([], [redeemed(second)]) == (held.leaving("g"), held.leaving("h"))
    held.left("h")
    assert ([], 0) == (held.leaving("h"), len(held))


async def test_the_note_of_a_write_that_lingers_stays_and_then_evicts(valkey: Valkey) -> None:
    """Upstream may still be at work: the end evicts once more, whoever else is in the note."""
    async with replicas(valkey.url, 2) as (one, other):
        lost, going_on = [await one.fence(Batch(unnamed=True)) for _ in range(2)]
        await one.settle(lost, Batch(everything=True), linger=0.3)
        await one.settle(going_on, None)
        # Should this process die now, upstream may be at work for that long.
        assert [b"30000000"] == [one.partition(b":")[2] for one in noted(valkey)]
        assert await other.cache_user(USER)
        assert USER == await other.get_user_by_id(42)

        await until(lambda: not notes(valkey))
        assert await other.get_user_by_id(42) is None


async def test_a_renewal_on_its_way_does_not_outlive_the_write(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may travel to another server than the lift does; the lift waits for it."""
    monkeypatch.setattr(bracket, "LIFE", 0.3)
    async with replicas(valkey.url, 1) as (one,):
        writes = one.store.redis.writes  # type: ignore[attr-defined]
        fence = await one.fence(BATCH)
        raising, renewing, gate = writes.fence, asyncio.Event(), asyncio.Event()

        async def late(*given: Any, **more: Any) -> Any:
            renewing.set()
            await gate.wait()
            return await raising(*given, **more)

        monkeypatch.setattr(writes, "fence", late)
        await renewing.wait()
        end = asyncio.ensure_future(one.settle(fence, None))
        await asyncio.sleep(0)
        gate.set()
        await end
        await one.store.bracket.close()  # type: ignore[attr-defined]
        assert 0 == valkey.ask("HEXISTS", "user:id:42", "fence")
