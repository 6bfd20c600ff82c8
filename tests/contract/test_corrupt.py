"""What cannot be read is a miss, goes away and is counted; none of it makes a stale fill acceptable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import msgspec
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Absent, Batch, Entry, Found, Reason, Ticket
from proxy.store import codec
from proxy.store.fences import new_fence
from proxy.store.redis import RedisStore
from tests.contract.kit import Clock, Kit, by
from tests.valkey import Valkey

ID = by("id", "42")
EMAIL = by("email", "u42@x")
USER_KEY, EMAIL_KEY = "user:id:42", "user:email:u42@x"


@pytest.fixture(params=["fakeredis", "valkey"])
async def raw(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A client beside the store, to spoil its keys with."""
    if request.param == "fakeredis":
        client: Any = fakeredis.FakeAsyncRedis(protocol=2)
    else:
        server: Valkey = request.getfixturevalue("valkey")
        client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    async with client:
        yield client


@pytest.fixture
async def kit(raw: Any) -> Kit:
    """A store in Redis that holds user 42."""
    clock = Clock()
    kit = Kit("redis", RedisStore(raw, now=clock, deadline=5.0), clock)
    await kit.put(kit.entry())
    return kit


def changed(blob: bytes, index: int, value: Any) -> bytes:
    """An encoded answer with another value at one place."""
    fields = msgspec.msgpack.decode(blob)
    fields[index] = value
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"\xc1\x00garbage",
        lambda blob: blob[:-1],
        lambda blob: changed(blob, 0, 999),
        lambda blob: changed(blob, 2, None),
        lambda blob: changed(blob, 2, "7"),
        lambda blob: changed(blob, 8, "soon"),
        lambda blob: changed(blob, 1, b"\xff"),
        lambda blob: blob.replace(b"u42", b"\xff\xfe\xfd"),
        lambda _: b"\x91" * 100_000,
        lambda _: b"{}",
    ],
    ids=["empty", "garbage", "cut", "version", "nobody", "other-user", "type", "bin", "utf8", "deep", "json"],
)
@pytest.mark.parametrize("ref", [ID, EMAIL], ids=["id", "email"])
async def test_an_unreadable_answer_is_removed(kit: Kit, raw: Any, ref: Any, spoil: Any) -> None:
    """An answer that is not one, is of another version, or is another user's (trap 46) is never served."""
    blob = await raw.hget(USER_KEY, "v:users")
    await raw.hset(USER_KEY, "v:users", spoil(blob))
    assert Absent(Reason.CORRUPT) == await kit.store.get(ref)
    assert 1 == kit.store.stats.corrupt
    assert None is await raw.hget(USER_KEY, "v:users")
    await kit.put(kit.entry(body=b"new"), ref)
    assert b"new" == await kit.body(ref)


async def test_an_answer_copied_under_another_users_key_is_not_served(kit: Kit, raw: Any) -> None:
    """The entry carries its own id, which is checked against the key (trap 46)."""
    await raw.hset("user:id:7", "v:users", await raw.hget(USER_KEY, "v:users"))
    assert Absent(Reason.CORRUPT) == await kit.store.get(by("id", "7"))
    assert b"{}" == await kit.body(ID)


async def test_nobody_copied_under_another_key_is_not_served(kit: Kit, raw: Any) -> None:
    """A stored 404 carries its own key, which is checked as well."""
    await kit.put(kit.entry(None), by("email", "none@x"))
    await raw.set("user:email:other@x", await raw.get("user:email:none@x"))
    assert Absent(Reason.CORRUPT) == await kit.store.get(by("email", "other@x"))
    assert 0 == await raw.exists("user:email:other@x")


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xfe", b"4" * 301, b"!", b"!x", b"!n", b"!n\x93", b"!n" + b"\x91" * 100_000, b"!nnull"],
)
async def test_an_unreadable_alias_is_removed(kit: Kit, raw: Any, value: bytes) -> None:
    """An alias that is no id, mark or "nobody" is deleted."""
    await raw.set(EMAIL_KEY, value)
    assert Absent(Reason.CORRUPT) == await kit.store.get(EMAIL)
    assert (1, 0) == (kit.store.stats.corrupt, await raw.exists(EMAIL_KEY))
    await kit.put(kit.entry(None, b"no"), EMAIL)
    assert b"no" == await kit.body(EMAIL)


async def test_an_alias_of_a_wrong_type_is_removed(kit: Kit, raw: Any) -> None:
    """A list where an alias should be is deleted by the reader."""
    await raw.delete(EMAIL_KEY)
    await raw.rpush(EMAIL_KEY, "x")
    assert Absent(Reason.CORRUPT) == await kit.store.get(EMAIL)
    assert (1, 0) == (kit.store.stats.corrupt, await raw.exists(EMAIL_KEY))


@pytest.mark.parametrize("by_fill", [True, False], ids=["fill", "mark"])
async def test_an_alias_of_a_wrong_type_is_overwritten(kit: Kit, raw: Any, by_fill: bool) -> None:
    """Marks and fills do not trip over a wrong type either."""
    await raw.delete(EMAIL_KEY)
    await raw.rpush(EMAIL_KEY, "x")
    await kit.put(kit.entry() if by_fill else kit.entry(None), ID if by_fill else EMAIL)
    assert isinstance(await kit.store.get(EMAIL), Found)


async def test_an_alias_to_nothing_is_removed(kit: Kit, raw: Any) -> None:
    """An alias whose user is not there at all goes; one whose user was evicted a moment ago may stay."""
    for target in ("999", "not-a-number"):
        await raw.set(EMAIL_KEY, target)
        assert Absent() == await kit.store.get(EMAIL)
        assert 0 == await raw.exists(EMAIL_KEY)
    assert 2 == kit.store.stats.aliases_removed
    await kit.store.evict(["42"])
    await raw.set(EMAIL_KEY, "42")
    assert Absent() == await kit.store.get(EMAIL)
    assert b"42" == await raw.get(EMAIL_KEY)


async def test_an_alias_to_somebody_else_is_removed(kit: Kit, raw: Any) -> None:
    """The user it leads to does not carry it (design §7.2)."""
    await kit.put(kit.entry("7"))
    await raw.set(EMAIL_KEY, "7")
    assert Absent(Reason.ALIAS_UNPROVEN) == await kit.store.get(EMAIL)
    assert (1, 0) == (kit.store.stats.aliases_removed, await raw.exists(EMAIL_KEY))


async def test_an_alias_that_changed_meanwhile_stays(kit: Kit, raw: Any) -> None:
    """Only what was read is removed: a fill in between wins over the clean-up."""
    await raw.set(EMAIL_KEY, "42")
    await kit.store.link.run(("SCRIPT", "FLUSH"))
    await kit.store._unlink(EMAIL, b"7")
    assert b"42" == await raw.get(EMAIL_KEY)


async def test_a_user_key_of_a_wrong_type_refuses_the_fills_that_are_under_way(kit: Kit, raw: Any) -> None:
    """Whoever overwrote the hash took its floor along, so older tickets are refused (trap 45)."""
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["42"])
    await raw.set(USER_KEY, "x")
    assert Absent(Reason.CORRUPT) == await kit.store.get(ID)
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)
    await raw.set(USER_KEY, "x")
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(ID)


@pytest.mark.parametrize("ref", [ID, EMAIL], ids=["id", "email"])
async def test_the_first_fill_on_an_empty_server_waits_for_nobody(kit: Kit, raw: Any, ref: Any) -> None:
    """The counter begins in the middle of the ticket, which is taken again: its lease is its own then."""
    await raw.flushall()
    ticket = await kit.store.ticket(ref, wake=b"woken")
    assert 0 == ticket.busy
    assert (ticket.lease if ref is ID else ticket.mark) is not None
    other = await kit.store.ticket(ref, wake=b"woken")
    assert other.busy > 0
    assert None is await kit.store.fill(ref, kit.entry(), ticket)


async def test_the_fence_of_one_write_outlives_the_eviction_of_another(kit: Kit, raw: Any) -> None:
    """And its key lives for as long as it, and the floor behind it, however short the answers' lives are."""
    one, other = new_fence(Batch(("42",))), new_fence(Batch(("42",)))
    writes = kit.store.writes
    for fence in (one, other):
        await writes.fence(fence, seconds=90.0)
    assert await raw.pttl(USER_KEY) > 200_000
    await writes.settle(one.batch, one)
    assert Absent(Reason.FENCED) == await kit.store.get(ID)
    assert Reason.FENCED == await kit.store.fill(ID, kit.entry(), await kit.store.ticket(ID))
    await writes.settle(other.batch, other)
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(ID)


async def test_a_fill_whose_lease_was_thrown_out_is_refused(kit: Kit, raw: Any) -> None:
    """With the key, under `maxmemory`, and with the floor of a write in between, if there was one."""
    ticket = await kit.store.ticket(ID, wake=b"woken")
    assert ticket.lease is not None
    await raw.delete(USER_KEY)
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)
    ticket = await kit.store.ticket(ID, wake=b"woken")
    assert None is await kit.store.fill(ID, kit.entry(), ticket)


async def test_a_user_key_of_a_wrong_type_is_evicted(kit: Kit, raw: Any) -> None:
    """An eviction puts the floor there whatever was in its place."""
    ticket = await kit.store.ticket(ID)
    await raw.set(USER_KEY, "x")
    await kit.store.evict(["42"])
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)


@pytest.mark.parametrize("floor", ["", "x", "-1", "1e3", "0x10", "nan", "9" * 15, "9" * 16, "9" * 17])
async def test_garbage_in_the_floor_heals(kit: Kit, raw: Any, floor: str) -> None:
    """A floor that is no number of its time refuses what is under way and is put right (trap 45)."""
    ticket = await kit.store.ticket(ID)
    await raw.hset(USER_KEY, "floor", floor)
    if floor != "9" * 15:
        assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(ID)
    await raw.hset(USER_KEY, "floor", floor)
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["42"])
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)
    await kit.put(kit.entry(body=b"new"))


@pytest.mark.parametrize(
    "counter", [None, ["x"], "", "x", "-5", "nan", "1e3", "0", "7", "9" * 15, "9" * 16, "9" * 40, "0x7"]
)
async def test_garbage_in_the_counter_heals_and_goes_on_above(kit: Kit, raw: Any, counter: Any) -> None:
    """A lost or overwritten counter never lets a fill from before an eviction in (trap 45)."""
    old = await kit.store.ticket(ID)
    await raw.delete("user:seq")
    if isinstance(counter, list):
        await raw.rpush("user:seq", *counter)
    elif counter is not None:
        await raw.set("user:seq", counter)
    await kit.store.evict(["42"])
    late = await kit.store.ticket(ID)
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), old)
    assert late.seq > old.seq
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(ID)


async def test_a_counter_from_the_future_raises_the_epoch(kit: Kit, raw: Any) -> None:
    """Tickets above the restarted counter may be out, so all of them end with their epoch."""
    seconds, micros = await raw.time()
    now = seconds * 1_000_000 + micros
    await raw.set("user:seq", now + 59_000_000)
    high = await kit.store.ticket(ID)
    assert high.seq > now + 59_000_000
    await raw.set("user:seq", now + 3600_000_000)
    low = await kit.store.ticket(ID)
    assert (True, True) == (low.seq < high.seq, low.epoch != high.epoch)
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), high)
    assert Absent() == await kit.store.get(ID)


async def test_those_who_find_the_counter_lost_together_raise_the_epoch_once(kit: Kit, raw: Any) -> None:
    """As the first requests on an empty server do: what one of them stores is not ended by the next."""
    await raw.flushall()
    tickets = await asyncio.gather(*(kit.store.ticket(ID) for _ in range(8)))
    assert 1 == len({ticket.epoch for ticket in tickets})
    assert [None] * 8 == [await kit.store.fill(ID, kit.entry(), ticket) for ticket in tickets]


async def test_a_counter_far_ahead_never_stays(kit: Kit, raw: Any) -> None:
    """An eviction heals it as well, and answers are stored again at once."""
    await raw.set("user:seq", "9007199254740992")
    await kit.store.evict(["42"])
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(ID)


async def test_a_ticket_is_good_for_a_minute(kit: Kit, raw: Any) -> None:
    """An older one may be older than the floors that would refuse it; one from the future is nobody's."""
    ticket = await kit.store.ticket(ID)
    for shift, reason in (
        (-59_000_000, None),
        (-61_000_000, Reason.STALE_FILL),
        (90_000_000, Reason.STALE_FILL),
    ):
        other = Ticket(seq=ticket.seq + shift, epoch=ticket.epoch)
        assert reason == await kit.store.fill(ID, kit.entry(), other)


@pytest.mark.parametrize("epoch", [None, ["x"], "", "x" * 65, b"\xff", "a b"])
async def test_garbage_in_the_epoch_drops_everything_and_heals(kit: Kit, raw: Any, epoch: Any) -> None:
    """A lost or unreadable epoch is replaced by a new random one: misses, then hits again."""
    old = await kit.store.ticket(ID)
    await raw.delete("user:epoch")
    if isinstance(epoch, list):
        await raw.rpush("user:epoch", *epoch)
    elif epoch is not None:
        await raw.set("user:epoch", epoch)
    assert isinstance(await kit.store.get(ID), Absent)
    assert isinstance(await kit.store.get(EMAIL), Absent)
    assert old.epoch != (await kit.store.ticket(ID)).epoch
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), old)
    await kit.put(kit.entry(body=b"new"))
    assert b"new" == await kit.body(EMAIL)


async def test_a_lost_epoch_ends_nobodies_too(kit: Kit, raw: Any) -> None:
    """A stored 404 of another epoch is a miss and makes room for the next."""
    await kit.put(kit.entry(None), by("email", "none@x"))
    await raw.delete("user:epoch")
    assert Absent() == await kit.store.get(by("email", "none@x"))
    await kit.put(kit.entry(None, b"again"), by("email", "none@x"))
    assert b"again" == await kit.body(by("email", "none@x"))


async def test_every_key_has_an_end(kit: Kit, raw: Any) -> None:
    """Nothing stays for ever, floors and marks included; reading does not put the end off."""
    await kit.put(kit.entry(None), by("email", "none@x"))
    await kit.store.ticket(by("email", "marked@x"))
    await kit.store.evict(["7"])
    lives = {key: await raw.pttl(key) for key in await raw.keys("*")}
    assert [] == [key for key, life in lives.items() if life <= 0]
    assert 8 == len(lives)
    expected = {b"user:id:42": 60, b"user:email:u42@x": 60, b"user:email:none@x": 60, b"user:id:7": 120}
    expected |= {b"user:email:marked@x": 30, b"user:seq": 7 * 86400, b"user:epoch": 7 * 86400}
    assert {} == {k: lives[k] for k, s in expected.items() if not (s - 5) * 1000 < lives[k] <= s * 1000}


async def test_a_shorter_answer_does_not_shorten_what_is_there(kit: Kit, raw: Any) -> None:
    """Hash and aliases live as long as the longest answer they are needed for; a floor stays 120 s."""
    await kit.put(kit.entry(dead=kit.clock.time + 5), by("id", "42", "me#1"))
    assert [True, True] == [await raw.pttl(key) > 50_000 for key in (USER_KEY, EMAIL_KEY)]
    await kit.put(kit.entry(dead=kit.clock.time + 500))
    assert [True, True] == [await raw.pttl(key) > 400_000 for key in (USER_KEY, EMAIL_KEY)]
    await kit.store.evict(["42"])
    await kit.put(kit.entry(dead=kit.clock.time + 5))
    assert 110_000 < await raw.pttl(USER_KEY) <= 120_000


async def test_the_epoch_is_refreshed_after_a_day(kit: Kit, raw: Any) -> None:
    """Its end is put off, but not with every ticket."""
    await raw.pexpire("user:epoch", 6 * 86400_000 + 60_000)
    await kit.store.ticket()
    assert await raw.pttl("user:epoch") < 6 * 86400_000 + 60_001
    await raw.pexpire("user:epoch", 6 * 86400_000 - 60_000)
    await kit.store.ticket()
    assert await raw.pttl("user:epoch") > 6 * 86400_000 + 60_000


@given(st.binary(max_size=200))
def test_the_decoders_take_any_bytes(blob: bytes) -> None:
    """Whatever a key holds, reading it says an answer or None; nothing escapes."""
    assert isinstance(codec.decode(blob), Entry | None)
    assert isinstance(codec.decode_nobody(codec.NOBODY + blob), codec.Nobody | None)
    assert isinstance(codec.decode_id(blob), str | None)
