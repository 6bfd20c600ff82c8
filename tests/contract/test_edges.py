"""Edges of the stores' promises: second tries, changes in between, what is forgotten first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import redis.asyncio

from proxy.core.model import Absent, Evicted, Reason
from proxy.store import codec
from proxy.store.link import connect
from proxy.store.memory import MemoryStore
from proxy.store.redis import _MEND, RedisStore
from tests.contract.kit import Clock, Kit, by
from tests.valkey import Valkey

ID = by("id", "42")
EMAIL = by("email", "u42@x")
NONE = by("email", "none@x")
USER_KEY, EMAIL_KEY = "user:id:42", "user:email:u42@x"


@pytest.fixture
async def raw(valkey: Valkey) -> Any:
    """A client, to look at and to spoil keys with."""
    client = redis.asyncio.Redis.from_url(valkey.url, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
async def redis_kit(raw: Any) -> Kit:
    """A store in Redis that holds user 42."""
    clock = Clock()
    kit = Kit("redis", RedisStore(raw, now=clock, deadline=5.0), clock)
    await kit.put(kit.entry())
    return kit


def memory_kit(max_users: int) -> Kit:
    """A small store in memory."""
    clock = Clock()
    return Kit("memory", MemoryStore(max_users, now=clock, monotonic=clock), clock)


async def test_nobody_is_not_stored_where_a_user_was_known_from_the_start(kit: Kit) -> None:
    """The alias led to somebody when the look-up began, so it left no mark."""
    await kit.put(kit.entry())
    ticket = await kit.store.ticket(EMAIL)
    assert Reason.STALE_FILL == await kit.store.fill(EMAIL, kit.entry(None), ticket)
    assert b"{}" == await kit.body(EMAIL)


async def test_an_answer_with_a_bottomless_end_is_removed(redis_kit: Kit, raw: Any) -> None:
    """More fields than known are skipped, and these nest deeper than the decoder goes."""
    blob = await raw.hget(USER_KEY, "v:users")
    one_more = bytes([blob[0] + 1])
    await raw.hset(USER_KEY, "v:users", one_more + blob[1:] + b"\x91" * 100_000 + b"\xc0")
    assert Absent(Reason.CORRUPT) == await redis_kit.store.get(EMAIL)


async def test_an_answer_that_changed_meanwhile_stays(redis_kit: Kit) -> None:
    """What could not be read is filled again before it is removed."""
    await redis_kit.store.link.run(_MEND.call(USER_KEY, "v:users", b"garbage", "120000"))
    assert b"{}" == await redis_kit.body(ID)


async def test_a_nobody_about_somebody_is_not_served(redis_kit: Kit, raw: Any) -> None:
    """A record that names a user is none."""
    epoch = (await redis_kit.store.ticket(ID)).epoch
    record = codec.encode_nobody(EMAIL, msgspec.structs.replace(redis_kit.entry(), epoch=epoch))
    await raw.set(EMAIL_KEY, record)
    assert Absent(Reason.CORRUPT) == await redis_kit.store.get(EMAIL)


async def test_a_nobody_stored_twice_is_stored(redis_kit: Kit) -> None:
    """The reply to the first try was lost on the way."""
    ticket = await redis_kit.store.ticket(NONE)
    entry = redis_kit.entry(None)
    for _ in range(2):
        assert None is await redis_kit.store.fill(NONE, entry, ticket)


async def test_an_eviction_by_alias_removes_an_alias_to_nothing(redis_kit: Kit, raw: Any) -> None:
    """It goes and is counted, though no answer names it."""
    await raw.set("user:email:other@x", "7")
    assert Evicted(aliases=1) == await redis_kit.store.evict([], [("email", "other@x")])
    assert 0 == await raw.exists("user:email:other@x")


async def test_a_floor_that_lost_its_end_gets_one(redis_kit: Kit, raw: Any) -> None:
    """A short answer does not take the floor along when it goes."""
    await redis_kit.store.evict(["42"])
    await raw.persist(USER_KEY)
    await redis_kit.put(redis_kit.entry(dead=redis_kit.clock.time + 5))
    assert 110_000 < await raw.pttl(USER_KEY) <= 120_000


async def test_an_eviction_does_not_keep_a_floor_from_the_future(redis_kit: Kit, raw: Any) -> None:
    """After the eviction the next fill is stored at once (trap 45)."""
    await raw.hset(USER_KEY, "floor", "9" * 16)
    await redis_kit.store.evict(["42"])
    await redis_kit.put(redis_kit.entry(body=b"new"))
    assert b"new" == await redis_kit.body(ID)


async def test_an_overlong_epoch_is_replaced(redis_kit: Kit, raw: Any) -> None:
    """It would be carried by every entry."""
    await raw.set("user:epoch", "x" * 65)
    assert 8 == len((await redis_kit.store.ticket()).epoch or "")


async def test_connections_of_a_given_client_stay_open(valkey: Valkey) -> None:
    """Closing the store leaves them as they are."""
    client = connect(valkey.url)
    store = RedisStore(client)
    await store.ticket()
    await store.close()
    assert [True] == [one.is_connected for one in client.connection_pool._available_connections]
    await client.aclose()
    await client.connection_pool.aclose()


async def test_the_oldest_floor_is_forgotten_first() -> None:
    """Raising a floor again makes it young, so that as few fills as possible are refused for nothing."""
    kit = memory_kit(2)
    await kit.store.evict(["1"])
    await kit.store.evict(["2"])
    ticket = kit.store.begin()
    await kit.store.evict(["1"])
    await kit.store.evict(["3"])
    assert None is kit.store.put(by("id", "4"), kit.entry("4"), ticket)


async def test_a_nobody_that_is_over_makes_room() -> None:
    """A look-up that no read came before stores its 404 in place of the dead one."""
    kit = memory_kit(100)
    # The sweep, which looks at the oldest, must not be what makes the room.
    await kit.put(kit.entry(None, dead=kit.clock.time + 600), by("email", "long@x"))
    await kit.put(kit.entry(None), NONE)
    held = kit.store.stats.bytes
    kit.clock.time += 60
    await kit.put(kit.entry(None), NONE)
    assert held == kit.store.stats.bytes


async def test_users_who_went_hold_no_answers() -> None:
    """The list that sweeps walk along still knows them, their bodies are gone."""
    kit = memory_kit(100)
    for number in range(10):
        await kit.put(kit.entry(str(number)))
    await kit.store.evict([str(number) for number in range(10)])
    assert 0 == sum(len(user.slots) for user in kit.store._ring)
