"""Several replicas' stores on one real server: what the feed promises, and what it survives (design §7.5)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import proxy.store.bracket
from proxy import feed
from proxy.cache import open_users
from proxy.core.errors import StoreError
from proxy.core.model import Absent, Batch, Entry, Evicted, Found, Looked, Reason, Ref, Tier
from proxy.core.settings import RedisSettings
from proxy.renewal import MEMBERS
from proxy.store.fences import new_fence
from proxy.store.tiered import TieredStore
from proxy.store.writes import MET
from tests.contract.kit import Clock, Kit, by, until
from tests.valkey import Valkey, known

ID = by("id", "42")
EMAIL = by("email", "u42@x")
ADA = Batch(("42",))
# What a loaded machine may add to a bound.
MARGIN = 5.0
LEASE = 0.6


class Replica(Kit):
    """A store with its end of the feed; its leases are short, so that waiting for one's end is too."""

    store: TieredStore

    def __init__(self, url: str, *, reject: bool = False) -> None:
        store = open_users(RedisSettings(url=url, reject_writes=reject), 1000)
        assert isinstance(store, TieredStore)
        super().__init__("tiered", store, Clock(time.time()))
        assert isinstance(store._feed, feed.Feed)
        self.feed = store._feed
        self.feed._lease, self.feed._renew_every = LEASE, LEASE / 4
        self._open = asyncio.Event()
        self._open.set()
        self.came = asyncio.Event()
        take = self.feed._take

        async def taken(raw: bytes) -> None:
            self.came.set()
            await self._open.wait()
            await take(raw)

        self.feed._take = taken  # type: ignore[method-assign]

    def hold(self) -> None:
        """From now on nothing that the feed brings is processed; `came` says that something is there."""
        self._open.clear()
        self.came.clear()

    def go_on(self) -> None:
        """Ends `hold`."""
        self._open.set()

    async def tier(self, ref: Ref = ID) -> Tier | Reason:
        """Where an answer was found, or why not."""
        looked = await self.store.get(ref)
        return looked.tier if isinstance(looked, Found) else looked.reason

    def copy(self) -> bytes | None:
        """What memory holds of user 42, whether it may be used or not."""
        looked: Looked = self.store.memory.look(ID)
        return looked.entry.body if isinstance(looked, Found) else None

    async def refill(self, body: bytes, ref: Ref = ID) -> Reason | None:
        """A whole miss."""
        return await self.store.fill(ref, self.entry(body=body), await self.store.ticket(ref))


@asynccontextmanager
async def joined(url: str, count: int, *, reject: bool = False) -> AsyncIterator[list[Replica]]:
    """So many replicas whose leases are proven; closed at the end, whatever a test left them in."""
    replicas = [Replica(url, reject=reject) for _ in range(count)]
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(*(one.feed.proven() for one in replicas))
        yield replicas
    finally:
        for one in replicas:
            one.go_on()
        await asyncio.gather(*(one.store.close() for one in replicas))


@pytest.fixture
async def replicas(valkey: Valkey) -> AsyncIterator[list[Replica]]:
    """Three, the first of which is the writer; no write waits for those that a lost table may have held."""
    known(valkey.url)
    async with joined(valkey.url, 3) as started:
        yield started


async def everywhere(replicas: list[Replica], body: bytes) -> None:
    """User 42 is in each replica's memory. Who finds notes lost evicts once more, by and by."""
    async with asyncio.timeout(10):
        while [body] * len(replicas) != [one.copy() for one in replicas]:
            await replicas[0].refill(body)
            await asyncio.gather(*(one.store.get(ID) for one in replicas))


async def test_a_fence_returns_when_the_others_have_dropped_the_user(replicas: list[Replica]) -> None:
    """A replica that has not processed the announcement keeps the writer waiting."""
    writer, other, third = replicas
    await everywhere(replicas, b"old")
    other.hold()
    fence = asyncio.ensure_future(writer.store.fence(ADA))
    await other.came.wait()
    open_ = writer.feed._open
    await until(lambda: any(third.feed.replica in announced._acked for announced in open_.values()))
    assert (False, None, b"old") == (fence.done(), third.copy(), other.copy())
    other.go_on()
    await fence
    assert (None, 0) == (other.copy(), writer.feed.waited_out)


async def test_while_a_fence_stands_nobody_answers_and_nobody_stores(replicas: list[Replica]) -> None:
    """Neither what was there nor what is read from upstream now, by any of the user's keys."""
    await everywhere(replicas, b"old")
    ticket = await replicas[1].store.ticket(ID)
    fence = await replicas[0].store.fence(ADA)
    for one in replicas:
        assert [Reason.FENCED, Reason.FENCED] == [await one.tier(), await one.tier(EMAIL)]
        assert Reason.FENCED == await one.refill(b"too soon")
        assert None is one.copy()
    assert 1 == (await replicas[0].store.settle(fence, ADA)).entries
    assert Reason.STALE_FILL == await replicas[1].store.fill(ID, replicas[1].entry(), ticket)
    assert [Reason.ABSENT] * 3 == [await one.tier() for one in replicas]
    await everywhere(replicas, b"new")


async def test_several_writers_fence_one_user(replicas: list[Replica]) -> None:
    """The user is free when the last of them is done, whoever that is."""
    await everywhere(replicas, b"old")
    fences = await asyncio.gather(*(one.store.fence(ADA) for one in replicas))
    for one, fence in zip(replicas, fences, strict=True):
        assert [Reason.FENCED] * 3 == [await each.tier() for each in replicas]
        await one.store.settle(fence, ADA)
    await everywhere(replicas, b"new")


async def test_a_write_that_changed_nothing_costs_nothing(replicas: list[Replica]) -> None:
    """After a 4xx the copy in Redis is good as before, and the next read brings it back to memory."""
    await everywhere(replicas, b"old")
    fence = await replicas[0].store.fence(ADA)
    assert Evicted() == await replicas[0].store.settle(fence, None)
    for one in replicas[1:]:
        assert Tier.REDIS is await one.tier()
        # Its memory keeps nothing until it has heard that the fence is down.
        await until(lambda one=one: not one.store.memory.heard.standing)  # type: ignore[misc]
        await one.tier()
        assert Tier.MEMORY is await one.tier(EMAIL)


async def test_a_late_acknowledgement_ends_the_wait(replicas: list[Replica]) -> None:
    """Whoever answers within its lease has dropped the user: nobody waits for the rest of it."""
    writer = replicas[0]
    announcement = writer.feed.announcement(ADA)
    asyncio.get_running_loop().call_later(0.6, announcement.ack, "slow")
    async with asyncio.timeout(4):
        await announcement.heard([b"slow", b"5000000", writer.feed.replica.encode(), b"5000000"])
    assert 0 == writer.feed.waited_out


async def test_a_fill_that_redis_did_not_answer_is_not_kept(
    replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began within a write of another, whose floor only Redis knows."""
    writer, other, _ = replicas
    fence = await writer.store.fence(ADA)
    ticket = await other.store.ticket(ID)
    await writer.store.settle(fence, ADA)
    await until(lambda: not other.store.memory.heard.standing)

    async def fails(*_: Any) -> None:
        raise StoreError("redis did not answer in time")

    monkeypatch.setattr(other.store.redis, "fill", fails)
    assert Reason.STORE_DOWN is await other.store.fill(ID, other.entry(body=b"old"), ticket)
    assert None is other.copy()


async def test_a_deaf_replica_is_waited_for_until_its_lease_is_over(replicas: list[Replica]) -> None:
    """It can't renew without hearing, so by then it does not answer from memory, though it has the user."""
    writer, deaf, _ = replicas
    await everywhere(replicas, b"old")
    deaf.hold()
    started = time.monotonic()
    fence = await writer.store.fence(ADA)
    spent = time.monotonic() - started
    assert (False, b"old", 1) == (deaf.feed.alive, deaf.copy(), writer.feed.waited_out)
    assert spent < LEASE * (1 + feed.DRIFT) + MARGIN
    assert Reason.FENCED is await deaf.tier()
    await writer.store.settle(fence, ADA)
    assert Reason.ABSENT is await deaf.tier()
    deaf.go_on()
    await until(lambda: deaf.feed.alive)
    assert None is deaf.copy()


async def test_a_lost_connection_of_the_feed_switches_memory_off(
    replicas: list[Replica], valkey: Valkey
) -> None:
    """It is not asked until the next connection is proven, and has been emptied by then."""
    one = replicas[1]
    await everywhere(replicas, b"old")
    valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: not one.feed.alive)
    one.hold()
    assert [Tier.REDIS, Tier.REDIS] == [await one.tier(), await one.tier()]
    assert b"old" == one.copy()
    one.go_on()
    await until(lambda: one.feed.alive)
    assert None is one.copy()
    assert [Tier.REDIS, Tier.MEMORY] == [await one.tier(), await one.tier()]


async def test_a_fence_that_was_lost_leaves_nothing_stale(replicas: list[Replica], valkey: Valkey) -> None:
    """FLUSHALL between fence and outcome: the others were told of it, and store nothing all the same."""
    writer, other, third = replicas
    await everywhere(replicas, b"old")
    fence = await writer.store.fence(ADA)
    valkey.ask("FLUSHALL")
    assert Reason.FENCED is await other.refill(b"old")
    assert [Reason.ABSENT, None, None] == [await third.tier(), other.copy(), third.copy()]
    await writer.store.settle(fence, ADA)
    assert [Reason.ABSENT] * 3 == [await one.tier() for one in replicas]
    await until(lambda: not any(one.store.memory.heard.standing for one in replicas))
    await everywhere(replicas, b"new")


async def test_who_begins_in_the_middle_of_a_write_is_told_of_its_fence(
    replicas: list[Replica], valkey: Valkey
) -> None:
    """Or, should Redis lose its copy of it, they would store and show what others know to be old."""
    writer = replicas[0]
    fence = await writer.store.fence(ADA)
    async with joined(valkey.url, 1) as (newcomer,):
        await until(lambda: newcomer.store.memory.heard.standing)
        valkey.ask("FLUSHALL")
        assert Reason.FENCED is await newcomer.refill(b"old")
        await writer.store.settle(fence, ADA)
        await until(lambda: not newcomer.store.memory.heard.standing)
        await everywhere([*replicas, newcomer], b"new")


# As a server has it that was started from an old snapshot.
OLD_TABLE = "redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], '@', 'other', '', '1', 'gone', '1')"


@pytest.mark.parametrize(
    "loss",
    [
        ("FLUSHALL",),
        ("DEL", MEMBERS),
        ("SET", MEMBERS, "x"),
        ("EVAL", OLD_TABLE, "1", MEMBERS),
    ],
    ids=["flushed", "evicted", "overwritten", "old"],
)
async def test_a_lost_table_of_members_does_not_hide_a_replica(
    replicas: list[Replica], valkey: Valkey, loss: tuple[str, ...]
) -> None:
    """The writer is in the new table already, a replica whose lease goes on is not: it is waited for."""
    writer, hidden, third = replicas
    await everywhere(replicas, b"old")
    for one in (hidden, third):
        one.feed._renew_every = 3600.0
    # Their last renewals.
    await asyncio.sleep(LEASE / 4)
    for one in (hidden, third):
        one.hold()
    valkey.ask(*loss)
    await until(lambda: valkey.ask("TYPE", MEMBERS) == b"hash")
    await until(lambda: bool(valkey.ask("HEXISTS", MEMBERS, writer.feed.replica)))
    assert hidden.feed.alive
    fence = await writer.store.fence(ADA)
    assert [Reason.FENCED, Reason.FENCED] == [await hidden.tier(), await third.tier()]
    await writer.store.settle(fence, ADA)
    # Who begins from now on need not evict everybody once more.
    await until(lambda: bool(valkey.ask("HEXISTS", MEMBERS, MET)) or loss[0] == "EVAL")


async def test_a_write_after_a_flush_waits_for_nobody_who_answers(
    replicas: list[Replica], valkey: Valkey
) -> None:
    """The table is lost, but each replica knows by itself who may have a lease; a newcomer is among them."""
    writer = replicas[0]
    await until(lambda: bool(writer.feed._roll._listed))
    async with joined(valkey.url, 1) as (newcomer,):
        await everywhere([*replicas, newcomer], b"old")
        valkey.flush()
        began = time.monotonic()
        fence = await writer.store.fence(ADA)
        assert (True, 0) == (time.monotonic() - began < LEASE, writer.feed.waited_out)
        assert [None] * 4 == [one.copy() for one in (*replicas, newcomer)]
        await writer.store.settle(fence, ADA)

        await everywhere([*replicas, newcomer], b"old")
        newcomer.hold()
        valkey.flush()
        await writer.store.settle(await writer.store.fence(ADA), ADA)
        assert (True, b"old") == (time.monotonic() - began > LEASE * 0.9, newcomer.copy())
        assert Reason.ABSENT is await newcomer.tier()
        newcomer.go_on()


async def test_a_script_that_went_missing_does_not_let_the_announcement_go_first(
    replicas: list[Replica], valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server knows one script of two: the announcement passes, a reader is back before the fence is, and
    another comes that has heard of neither."""
    writer, other, _ = replicas
    late = Replica(valkey.url)
    await everywhere(replicas, b"old")
    link = writer.store.redis.link
    sends: list[int] = []
    send = link._send

    async def sent(commands: Any) -> Any:
        replies = await send(commands)
        sends.append(len(commands))
        if len(sends) == 1:
            await until(lambda: other.copy() is None)
            assert Tier.REDIS is await other.tier()
            await late.feed.proven()
            assert (Tier.REDIS, b"old") == (await late.tier(), late.copy())
        return replies

    valkey.ask("SCRIPT", "FLUSH")
    valkey.ask("SCRIPT", "LOAD", feed.ANNOUNCE.text)
    for one in replicas:
        monkeypatch.setattr(one.feed, "_renew_every", 3600.0)
    monkeypatch.setattr(link, "_send", sent)
    fence = await writer.store.fence(ADA)
    assert (Reason.FENCED, Reason.FENCED) == (await other.tier(), await late.tier())
    await writer.store.settle(fence, ADA)
    await late.store.close()
    assert len(sends) > 1


async def test_a_fence_whose_writer_died_evicts_when_its_life_is_over(
    replicas: list[Replica], valkey: Valkey
) -> None:
    """Nobody settles it: until then nobody answers, and after it what was there before is gone."""
    writer, other, _ = replicas
    await everywhere(replicas, b"old")
    announcement = writer.feed.announcement(ADA)
    (reply,), _ = await writer.store.redis.writes.fence(new_fence(ADA), announcement.command, seconds=0.3)
    await announcement.heard(reply)
    ticket = await other.store.ticket(ID)
    seen = [await other.tier()]
    async with asyncio.timeout(5):
        while seen[-1] is Reason.FENCED:
            await asyncio.sleep(0.01)
            seen.append(await other.tier())
    assert {Reason.FENCED: 1, Reason.ABSENT: 1} == dict.fromkeys(seen, 1)
    assert Reason.STALE_FILL == await other.store.fill(ID, other.entry(body=b"old"), ticket)
    assert not valkey.field("user:id:42", "v:users")
    await everywhere(replicas, b"new")


async def test_a_long_write_renews_its_fence(
    replicas: list[Replica], valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream takes longer than a fence lives: it stands all the same, and is gone after the write."""
    monkeypatch.setattr(proxy.store.bracket, "LIFE", 0.3)
    writer, other, _ = replicas
    await everywhere(replicas, b"old")
    fence = await writer.store.fence(ADA)

    def ends() -> int:
        name, _, deadline = valkey.ask("HGET", "user:id:42", "fence").partition(b":")
        assert fence.name.encode() == name
        return int(deadline)

    first = ends()
    await until(lambda: ends() > first + 400_000)
    assert Reason.FENCED is await other.tier()
    await writer.store.settle(fence, ADA)
    assert Reason.ABSENT is await other.tier()
    await everywhere(replicas, b"new")


async def test_a_key_that_is_being_given_away_is_nobodys_no_more(replicas: list[Replica]) -> None:
    """A "nobody has it" is neither answered nor stored while a write may be giving the key to somebody."""
    writer, other, _ = replicas
    nobody: Callable[[], Entry] = lambda: other.entry(None)  # noqa: E731
    await other.put(nobody(), EMAIL)
    assert Tier.MEMORY is await other.tier(EMAIL)
    batch = Batch(("42",), (("email", "u42@x"), ("phone", "+42")))
    early = await other.store.ticket(by("phone", "+42"))
    fence = await writer.store.fence(batch)
    late = await other.store.ticket(EMAIL)
    assert [Reason.FENCED, Reason.FENCED] == [await other.tier(EMAIL), await writer.tier(EMAIL)]
    assert Reason.FENCED == await other.store.fill(by("phone", "+42"), nobody(), early)
    assert Reason.FENCED == await other.store.fill(EMAIL, nobody(), late)
    await writer.store.settle(fence, batch)
    # It may not have heard yet that the fence is down.
    assert await other.store.fill(EMAIL, nobody(), late) in (Reason.FENCED, Reason.STALE_FILL)
    assert Reason.ABSENT is await other.tier(EMAIL)
    await everywhere(replicas, b"new")
    assert Tier.MEMORY is await other.tier(EMAIL)


async def test_a_fence_around_everybody(replicas: list[Replica]) -> None:
    """A bulk write: no replica answers or stores anybody, and after it everybody is cold."""
    writer, other, _ = replicas
    await everywhere(replicas, b"old")
    everybody = Batch(everything=True)
    fence = await writer.store.fence(everybody)
    assert [Reason.FENCED] * 3 == [await one.tier() for one in replicas]
    assert None is not await other.refill(b"too soon")
    assert None is other.copy()
    await writer.store.settle(fence, everybody)
    assert [Reason.ABSENT] * 3 == [await one.tier() for one in replicas]
    await everywhere(replicas, b"new")


async def test_one_who_leaves_is_not_waited_for(replicas: list[Replica], valkey: Valkey) -> None:
    """A closed replica is out of the table at once, so a rollout does not slow the writers."""
    writer, *others = replicas
    await asyncio.gather(*(one.store.close() for one in others))
    assert [writer.feed.replica.encode()] == [key for key in valkey.ask("HKEYS", MEMBERS) if len(key) > 1]
    fence = await writer.store.fence(ADA)
    await writer.store.settle(fence, ADA)
    assert 0 == writer.feed.waited_out


async def test_a_message_that_nobody_can_read_costs_memory_and_nothing_else(
    replicas: list[Replica], valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else writes to the channel: it may have meant anything, so memory is dropped everywhere."""
    await everywhere(replicas, b"old")
    assert [0] * 3 == [one.feed.lapses for one in replicas], "to join is no lapse"
    valkey.ask("PUBLISH", feed.CHANNEL, secrets.token_bytes(8))
    await until(lambda: all(one.feed.lapses == 1 for one in replicas))
    assert [None] * 3 == [one.copy() for one in replicas]
    await until(lambda: all(one.feed.alive for one in replicas))
    assert [Tier.REDIS] * 3 == [await one.tier() for one in replicas]
    assert [] == caplog.records


async def test_it_can_be_left_while_its_connection_ends() -> None:
    """Redis fails at the very moment, and the connection takes its time to end: nobody begins again."""
    ending, begun = asyncio.Event(), []

    class Gone:
        """A link whose server is gone."""

        @asynccontextmanager
        async def bounded(self) -> AsyncIterator[None]:
            raise StoreError("gone")
            yield

    async def messages() -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.Event().wait()
        yield b""

    @asynccontextmanager
    async def listening(*channels: str) -> AsyncIterator[AsyncIterator[bytes]]:
        begun.append(channels)
        if len(begun) > 1:
            # It would never end.
            raise asyncio.CancelledError
        yield messages()

    link: Any = Gone()
    one = feed.Feed(link, listening, drop=lambda _: None, woken=lambda *_, **__: None)
    one.start()
    await ending.wait()
    await one.close()
    assert 1 == len(begun)


async def test_many_writers_and_readers(replicas: list[Replica]) -> None:
    """A counter that all replicas write and read: no read is older than the last write that was answered."""
    upstream, answered = 0, 0
    stop = asyncio.Event()
    mistakes: list[tuple[int, int]] = []
    hits = 0

    async def look(one: Replica, ref: Ref) -> None:
        nonlocal hits
        while not stop.is_set():
            least = answered
            body = await one.body(ref)
            if body is None:
                ticket = await one.store.ticket(ref)
                answer = one.entry(body=b"%d" % upstream)
                await asyncio.sleep(0)
                await one.store.fill(ref, answer, ticket)
            else:
                hits += 1
                if int(body) < least:
                    mistakes.append((int(body), least))
            await asyncio.sleep(0)

    async def write(one: Replica) -> None:
        nonlocal upstream, answered
        for _ in range(30):
            fence = await one.store.fence(ADA)
            upstream += 1
            mine = upstream
            await one.store.settle(fence, ADA)
            answered = max(answered, mine)
            await asyncio.sleep(0.005)

    readers = [asyncio.ensure_future(look(one, ref)) for one in replicas for ref in (ID, EMAIL)]
    await asyncio.gather(*(write(one) for one in replicas))
    stop.set()
    await asyncio.gather(*readers)
    assert ([], 90, True) == (mistakes, answered, hits > 90)


async def test_an_old_snapshot_is_never_read(valkey_server: Callable[..., Valkey]) -> None:
    """The server is another process before anybody can tell by an error: who connects finds out."""
    server = valkey_server()
    async with joined(server.url, 2) as replicas:
        await everywhere(replicas, b"old")
        server.ask("SAVE")
        await replicas[0].store.settle(await replicas[0].store.fence(ADA), ADA)
        seen: list[Tier | Reason] = []
        stop = asyncio.Event()

        async def read(one: Replica) -> None:
            while not stop.is_set():
                seen.append(await one.tier())
                await asyncio.sleep(0)

        # Neither replica's loop turns while the server is away.
        server.kill()
        server.start()
        assert server.field("user:id:42", "v:users")
        readers = [asyncio.ensure_future(read(one)) for one in replicas * 5]
        await until(
            lambda: all(one.store.stats.restarts == 1 and not one.store.recovery.down for one in replicas)
        )
        await until(lambda: Reason.ABSENT in seen)  # they read it again
        stop.set()
        await asyncio.gather(*readers)
        assert {Reason.STORE_DOWN, Reason.ABSENT} == set(seen)


@pytest.mark.parametrize(("frozen", "kept"), [(0.0, True), (4.0, True), (6.0, False)])
async def test_memory_without_redis_is_no_older_than_it_may_be(
    valkey_server: Callable[..., Valkey], frozen: float, kept: bool
) -> None:
    """Five seconds from the end of the lease: a replica that was frozen, and then finds Redis away, has used
    some of them up."""
    server = valkey_server()
    async with joined(server.url, 1) as (one,):
        await everywhere([one], b"old")
        server.kill()
        one.feed._clock = lambda: time.monotonic() + frozen
        one.store.recovery.failed(StoreError("away", gone=True))
        assert (b"old" if kept else None) == one.copy()


async def test_writes_are_refused_where_the_settings_say_so(valkey_server: Callable[..., Valkey]) -> None:
    """`on_redis_loss: reject`: no write is forwarded that the others can't be told of; reads go on."""
    server = valkey_server()
    async with joined(server.url, 2, reject=True) as replicas:
        writer, other = replicas
        await everywhere(replicas, b"old")
        server.kill()
        with pytest.raises(StoreError):
            await writer.store.fence(ADA)
        with pytest.raises(StoreError):
            await writer.store.fence(ADA)
        looked = await writer.store.get(by("id", "7"))
        assert Absent(Reason.STORE_DOWN) == looked
        server.start()
        await until(lambda: not writer.store.recovery.down and writer.feed.alive)
        await writer.store.settle(await writer.store.fence(ADA), ADA)
        assert Reason.ABSENT is await other.tier()
