"""TieredStore: who may serve when, and that no order of events brings an old answer back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import fakeredis
import pytest

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Batch, Evicted, Found, Looked, Reason, Ref, Ticket, Tier
from proxy.leases import Leases, Loaded, Own
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.store.tiered import TieredStore
from tests.contract.kit import Clock, Kit, by, until

ID = by("id", "42")
EMAIL = by("email", "u42@x")


class Shared(RedisStore):
    """A store in a fake Redis that can be down, and held at a point: `asked` before it acts, `said` after."""

    def __init__(self, client: Any, clock: Clock) -> None:
        super().__init__(client, now=clock, deadline=60.0)
        self.down = False
        self.process = "one"
        self.calls: list[str] = []
        self._held: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}
        settle = self.writes.settle
        self.writes.settle = lambda *args: self._act("evict", settle, *args)  # type: ignore[method-assign]

    def hold(self, point: str) -> tuple[asyncio.Event, asyncio.Event]:
        """(somebody is there, let them go on), for the next call that comes to the point."""
        self._held[point] = asyncio.Event(), asyncio.Event()
        return self._held[point]

    async def _at(self, point: str) -> None:
        there, on = self._held.pop(point, (None, None))
        if there and on:
            there.set()
            await on.wait()
        if self.down:
            raise StoreError("down")

    async def _act(self, name: str, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self.calls.append(name)
        await self._at(f"{name} asked")
        result = await call(*args, **more)
        await self._at(f"{name} said")
        return result

    async def get(self, ref: Ref) -> Looked:
        return await self._act("get", super().get, ref)  # type: ignore[no-any-return]

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        return await self._act("ticket", super().ticket, ref)  # type: ignore[no-any-return]

    async def fill(self, *args: Any) -> Reason | None:
        return await self._act("fill", super().fill, *args)  # type: ignore[no-any-return]

    async def resolve(self, key: str, value: str) -> str | None:
        return await self._act("resolve", super().resolve, key, value)  # type: ignore[no-any-return]

    async def run_id(self) -> str:
        self.calls.append("run_id")
        await self._at("run_id asked")
        return self.process


class Tiers(Kit):
    """A TieredStore whose watch looks once at the start, and then when the test says so."""

    store: TieredStore
    shared: Shared

    def __init__(self, client: Any, **options: Any) -> None:
        clock = Clock()
        self.shared = Shared(client, clock)
        memory = MemoryStore(100, now=clock, monotonic=clock)
        store = TieredStore(memory, self.shared, **({"probe_interval": 3600.0} | options))
        super().__init__("tiered", store, clock)

    async def settle(self) -> None:
        """The first look is over."""
        await self.store.ticket()
        await until(lambda: self.store.recovery.run_id != "")
        self.shared.calls.clear()

    async def outage(self) -> None:
        """The shared store goes, and an eviction notices."""
        self.shared.down = True
        assert Evicted(delivered=False) == await self.store.evict(["outage"])

    async def back(self) -> None:
        """The shared store is there again, and the watch looks."""
        self.shared.down = False
        await self.store.recovery.probe()

    async def tier(self, ref: Ref = ID) -> Tier | Reason:
        """Where an answer was found, or why not."""
        looked = await self.store.get(ref)
        return looked.tier if isinstance(looked, Found) else looked.reason

    def copied(self) -> bool:
        """Whether memory holds user 42."""
        return isinstance(self.store.memory.look(ID), Found)


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    """A fake Redis."""
    async with fakeredis.FakeAsyncRedis(protocol=2) as client:
        yield client


@pytest.fixture
async def tiers(client: Any) -> AsyncIterator[Tiers]:
    """Both tiers, with nothing in them."""
    kit = Tiers(client)
    await kit.settle()
    yield kit
    kit.shared.down = False
    await kit.store.close()


@pytest.mark.parametrize(("after", "tier"), [(0.0, Tier.MEMORY), (0.999, Tier.MEMORY), (1.0, Tier.REDIS)])
async def test_a_copy_in_memory_lives_for_a_second(tiers: Tiers, after: float, tier: Tier) -> None:
    """Memory serves while its copy is young, from the fill or from the read; the tier says which."""
    await tiers.put(tiers.entry())
    tiers.clock.time += after
    assert tier is await tiers.tier()
    tiers.clock.time += 1
    assert [Tier.REDIS, Tier.MEMORY, Tier.MEMORY] == [await tiers.tier(EMAIL) for _ in range(2)] + [
        await tiers.tier()
    ]


async def test_nobody_is_copied_too(tiers: Tiers) -> None:
    """A 404 found in the shared store is answered from memory after that."""
    await tiers.put(tiers.entry(None), EMAIL)
    tiers.clock.time += 1
    assert [Tier.REDIS, Tier.MEMORY] == [await tiers.tier(EMAIL), await tiers.tier(EMAIL)]


async def test_an_eviction_during_a_read_refuses_its_copy(tiers: Tiers) -> None:
    """The read has the old answer in hand; the write ends first."""
    await tiers.put(tiers.entry())
    tiers.clock.time += 1
    there, on = tiers.shared.hold("get said")
    read = asyncio.ensure_future(tiers.store.get(ID))
    await there.wait()
    await tiers.store.evict(["42"])
    on.set()
    assert isinstance(await read, Found)
    assert (False, Reason.ABSENT) == (tiers.copied(), await tiers.tier())


async def test_a_read_between_the_two_tiers_evictions_leaves_no_copy(tiers: Tiers) -> None:
    """Memory is evicted, Redis is not yet: a read brings the old answer back, and it goes again (trap 42)."""
    await tiers.put(tiers.entry())
    there, on = tiers.shared.hold("evict asked")
    write = asyncio.ensure_future(tiers.store.evict(["42"]))
    await there.wait()
    assert (False, Tier.REDIS, True) == (tiers.copied(), await tiers.tier(), tiers.copied())
    on.set()
    assert Evicted(entries=1, aliases=2) == await write
    assert (False, Reason.ABSENT) == (tiers.copied(), await tiers.tier())


async def test_a_read_during_an_eviction_that_fails_leaves_no_copy(tiers: Tiers) -> None:
    """The old answer came back to memory while Redis was being told in vain."""
    await tiers.put(tiers.entry())
    there, on = tiers.shared.hold("evict asked")
    write = asyncio.ensure_future(tiers.store.evict(["42"]))
    await there.wait()
    assert (Tier.REDIS, True) == (await tiers.tier(), tiers.copied())
    tiers.shared.down = True
    on.set()
    assert False is (await write).delivered
    assert (False, Reason.STORE_DOWN) == (tiers.copied(), await tiers.tier())


async def test_what_the_shared_store_refuses_is_not_kept_in_memory(tiers: Tiers, client: Any) -> None:
    """Another replica wrote in between: only the shared store knows."""
    ticket = await tiers.store.ticket(ID)
    await RedisStore(client).evict(["42"])
    assert Reason.STALE_FILL == await tiers.store.fill(ID, tiers.entry(), ticket)
    assert False is tiers.copied()


async def test_an_eviction_during_a_fill_leaves_no_copy(tiers: Tiers) -> None:
    """Redis took the fill, then the eviction; memory must not take the fill after it."""
    ticket = await tiers.store.ticket(ID)
    there, on = tiers.shared.hold("fill said")
    fill = asyncio.ensure_future(tiers.store.fill(ID, tiers.entry(), ticket))
    await there.wait()
    await tiers.store.evict(["42"])
    on.set()
    await fill
    assert (False, Reason.ABSENT) == (tiers.copied(), await tiers.tier())


async def test_one_failed_eviction_ends_the_trust(tiers: Tiers) -> None:
    """The shared store holds what the eviction could not remove, so nothing is asked of it."""
    await tiers.put(tiers.entry())
    await tiers.outage()
    tiers.shared.down = False
    tiers.shared.calls.clear()
    tiers.clock.time += 1
    assert Reason.STORE_DOWN is await tiers.tier(by("id", "7"))
    ticket = await tiers.store.ticket(ID)
    assert (None, None) == (ticket.seq, await tiers.store.fill(ID, tiers.entry(), ticket))
    assert Evicted(entries=1, aliases=2, delivered=False) == await tiers.store.evict(["42"])
    assert None is await tiers.store.resolve("email", "u42@x")
    assert "degraded" == (await tiers.store.health())["status"]
    assert [] == tiers.shared.calls


@pytest.mark.parametrize("name", ["get", "ticket", "fill", "resolve"])
async def test_three_other_failures_in_a_row_end_it_too(tiers: Tiers, name: str) -> None:
    """One or two are weather; a success in between starts the count again."""
    ticket = await tiers.store.ticket(ID)
    actions: dict[str, Callable[[], Any]] = {
        "get": lambda: tiers.store.get(by("id", "7")),
        "ticket": lambda: tiers.store.ticket(),
        "fill": lambda: tiers.store.fill(ID, tiers.entry(), ticket),
        "resolve": lambda: tiers.store.resolve("email", "x"),
    }
    for failures in (2, 2, 3):
        assert "closed" == (await tiers.store.health())["breaker"]
        await tiers.store.get(by("id", "8"))
        tiers.shared.down = True
        for _ in range(failures):
            await actions[name]()
        tiers.shared.down = False
    assert ("open", 1) == ((await tiers.store.health())["breaker"], tiers.store.stats.outages)


async def test_a_straggler_does_not_bring_trust_back(tiers: Tiers) -> None:
    """What was asked before the loss and answered after it says nothing of what was not delivered since."""
    there, go_on = tiers.shared.hold("get said")
    straggler = asyncio.ensure_future(tiers.store.get(ID))
    await there.wait()
    await tiers.outage()
    tiers.shared.down = False
    go_on.set()
    await straggler
    assert "open" == (await tiers.store.health())["breaker"]


async def test_memory_is_the_cache_while_the_shared_store_is_away(tiers: Tiers) -> None:
    """Fills go to memory for 5 s, for users and nobodies; evictions there work."""
    await tiers.outage()
    await tiers.put(tiers.entry())
    await tiers.put(tiers.entry(None), by("email", "none@x"))
    tiers.clock.time += 4.999
    assert [Tier.MEMORY, Tier.MEMORY] == [await tiers.tier(), await tiers.tier(by("email", "none@x"))]
    assert "42" == await tiers.store.resolve("email", "u42@x")
    tiers.clock.time += 0.001
    assert Reason.EXPIRED is await tiers.tier()
    ticket = await tiers.store.ticket(ID)
    await tiers.store.evict(["42"])
    assert Reason.STALE_FILL == await tiers.store.fill(ID, tiers.entry(), ticket)


async def test_late_evictions_are_delivered_before_anything_is_read_again(tiers: Tiers) -> None:
    """The old answer is still in Redis when it comes back; nobody sees it (design §7.6)."""
    await tiers.put(tiers.entry())
    await tiers.put(tiers.entry("7"))
    await tiers.outage()
    await tiers.store.evict(["42"], [("email", "u7@x")])
    assert 3 == (await tiers.store.health())["pending_evictions"]
    there, on = tiers.shared.hold("evict asked")
    returning = asyncio.ensure_future(tiers.back())
    await there.wait()
    assert [Reason.STORE_DOWN, Reason.STORE_DOWN] == [await tiers.tier(), await tiers.tier(by("id", "7"))]
    on.set()
    await returning
    assert [Reason.ABSENT, Reason.ABSENT] == [await tiers.tier(), await tiers.tier(by("email", "u7@x"))]
    health = await tiers.store.health()
    assert ("ok", "closed", 0) == (health["status"], health["breaker"], health["pending_evictions"])


async def test_an_eviction_during_the_return_is_delivered_as_well(tiers: Tiers) -> None:
    """A second write of the same user needs a floor of its own, above the first one's."""
    await tiers.outage()
    await tiers.store.evict(["42"])
    there, on = tiers.shared.hold("evict said")
    returning = asyncio.ensure_future(tiers.back())
    await there.wait()
    # Another replica fills between the late eviction and the second write.
    await RedisStore.fill(tiers.shared, ID, tiers.entry(), await RedisStore.ticket(tiers.shared, ID))
    await tiers.store.evict(["42"])
    on.set()
    await returning
    assert Reason.ABSENT is await tiers.tier()


async def test_writes_that_go_on_do_not_keep_the_shared_store_away(tiers: Tiers) -> None:
    """One that begins during the return tells it at once, and the return is over with those from before."""
    await tiers.outage()
    there, on = tiers.shared.hold("evict asked")
    returning = asyncio.ensure_future(tiers.back())
    await there.wait()
    fence = await tiers.store.fence(Batch(("42",)))
    (raised,) = await tiers.shared.link.run(("HGET", "user:id:42", "fence"))
    assert raised.startswith(fence.name.encode())
    assert (await tiers.store.settle(fence, Batch(("42",)))).delivered
    calls = list(tiers.shared.calls)
    on.set()
    await returning
    assert (False, calls) == (tiers.store.recovery.down, tiers.shared.calls)


async def test_a_failed_return_forgets_nothing(tiers: Tiers) -> None:
    """Redis goes away again in the middle of it."""
    await tiers.put(tiers.entry())
    await tiers.outage()
    await tiers.store.evict(["42"])
    there, on = tiers.shared.hold("evict asked")
    returning = asyncio.ensure_future(tiers.back())
    await there.wait()
    tiers.shared.down = True
    on.set()
    with pytest.raises(StoreError):
        await returning
    assert 2 == (await tiers.store.health())["pending_evictions"]
    await tiers.back()
    assert Reason.ABSENT is await tiers.tier()


async def test_too_many_late_evictions_become_everything(client: Any) -> None:
    """Beyond the bound the epoch is raised on return, so that no answer from before is found."""
    tiers = Tiers(client, pending_limit=10)
    await tiers.settle()
    await tiers.put(tiers.entry("bystander"))
    await tiers.outage()
    for number in range(11):
        await tiers.store.evict([str(number)])
    assert 1 == (await tiers.store.health())["pending_evictions"]
    await tiers.back()
    assert Reason.ABSENT is await tiers.tier(by("id", "bystander"))
    await tiers.store.close()


async def test_everything_during_an_outage_is_everything_after_it(tiers: Tiers) -> None:
    """A bulk write is delivered late like any other."""
    await tiers.put(tiers.entry())
    await tiers.outage()
    assert False is (await tiers.store.evict([], everything=True)).delivered
    await tiers.back()
    assert Reason.ABSENT is await tiers.tier()


async def test_a_ticket_from_before_the_outage_is_void_after_it(tiers: Tiers, client: Any) -> None:
    """The write's eviction was on its way late; what was read before it must not be stored after it."""
    ticket = await tiers.store.ticket(ID)
    await tiers.outage()
    await tiers.back()
    tiers.shared.calls.clear()
    assert Reason.STALE_FILL == await tiers.store.fill(ID, tiers.entry(), ticket)
    assert ([], 0) == (tiers.shared.calls, await client.exists("user:id:42"))


async def test_a_ticket_from_the_outage_is_void_after_it(tiers: Tiers) -> None:
    """It knows nothing of what other replicas wrote meanwhile."""
    await tiers.outage()
    ticket = await tiers.store.ticket(ID)
    await tiers.back()
    assert Reason.STALE_FILL == await tiers.store.fill(ID, tiers.entry(), ticket)
    assert Reason.ABSENT is await tiers.tier()


async def test_copies_from_the_outage_go_with_it(tiers: Tiers) -> None:
    """Other replicas may have written; what memory kept on its own is not trusted any more."""
    await tiers.outage()
    await tiers.put(tiers.entry())
    await tiers.back()
    assert Reason.ABSENT is await tiers.tier()
    await tiers.put(tiers.entry())
    tiers.clock.time += 1
    assert Tier.REDIS is await tiers.tier()


async def test_another_server_process_drops_everything(tiers: Tiers) -> None:
    """It may have started from a copy that lacks the last evictions, so the epoch is raised."""
    await tiers.put(tiers.entry())
    await tiers.store.recovery.probe()
    assert Tier.MEMORY is await tiers.tier()
    tiers.shared.process = "two"
    await tiers.store.recovery.probe()
    assert (Reason.ABSENT, 1) == (await tiers.tier(), tiers.store.stats.restarts)
    await tiers.put(tiers.entry())
    await tiers.store.recovery.probe()
    assert (Tier.MEMORY, 1) == (await tiers.tier(), tiers.store.stats.restarts)


async def test_another_server_process_is_not_trusted_until_the_epoch_is_raised(tiers: Tiers) -> None:
    """The new process goes away before it could be told."""
    await tiers.put(tiers.entry())
    tiers.shared.process = "two"
    there, on = tiers.shared.hold("evict asked")
    look = asyncio.ensure_future(tiers.store.recovery.probe())
    await there.wait()
    tiers.shared.down = True
    on.set()
    with pytest.raises(StoreError):
        await look
    tiers.shared.down = False
    tiers.clock.time += 1
    assert "open" == (await tiers.store.health())["breaker"]
    await tiers.back()
    assert Reason.ABSENT is await tiers.tier()


async def test_a_writer_who_goes_away_does_not_stop_the_eviction(tiers: Tiers) -> None:
    """The write has happened, whoever waits for it."""
    await tiers.put(tiers.entry())
    there, on = tiers.shared.hold("evict asked")
    write = asyncio.ensure_future(tiers.store.evict(["42"]))
    await there.wait()
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    on.set()
    await asyncio.gather(*tiers.store.bracket.deliveries)
    tiers.clock.time += 1
    assert Reason.ABSENT is await tiers.tier()


async def test_the_watch_climbs_back_by_itself_even_when_it_was_killed(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody calls anything: the watch notices, delivers, and is started again when it dies (trap 41)."""
    caplog.set_level(logging.INFO, "proxy.store")
    tiers = Tiers(client, probe_interval=0.01)
    await tiers.settle()
    for kill in (False, True):
        await tiers.outage()
        if kill:
            assert tiers.store.recovery.watcher is not None
            tiers.store.recovery.watcher.cancel()
        tiers.shared.down = False
        await until(lambda: not tiers.store.recovery.breaker.open)
        assert 0 == len(tiers.store.recovery.pending)
    await tiers.store.close()
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    away = ("WARNING", "the shared store is not used until it is back: down")
    back = ("INFO", "the shared store is back, 1 evictions were delivered late")
    died = ("ERROR", "the watch over the shared store died: cancelled")
    assert [away, back, away, died, back] == said


async def test_a_watch_that_fails_is_started_again(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in the watch itself is logged and does not end it."""
    tiers = Tiers(client, probe_interval=0.01)

    async def broken() -> str:
        del tiers.shared.run_id
        raise RuntimeError

    tiers.shared.run_id = broken  # type: ignore[method-assign]
    await tiers.store.ticket()
    await until(lambda: tiers.store.recovery.run_id != "")
    await tiers.store.close()
    assert ["the watch over the shared store died: RuntimeError"] == [r.getMessage() for r in caplog.records]


async def test_closing_delivers_what_is_late(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    """A process that ends tries once more; what it cannot deliver is said."""
    await tiers.put(tiers.entry())
    await tiers.outage()
    await tiers.store.evict(["42"])
    tiers.shared.down = False
    await tiers.store.close()
    assert Absent() == await RedisStore.get(tiers.shared, ID)
    assert 1 == len(caplog.records)


async def test_closing_says_what_it_could_not_deliver(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    """Until their TTL ends these answers may be stale for other replicas."""
    await tiers.outage()
    await tiers.store.close()
    assert "1 evictions could not be delivered" == caplog.records[-1].getMessage()


async def test_nothing_personal_is_logged_or_shown(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    """Neither log lines nor reprs hold an e-mail address."""
    caplog.set_level(logging.DEBUG)
    await tiers.put(tiers.entry())
    tiers.shared.down = True
    await tiers.store.evict(["42"], [("email", "secret@x")])
    store = tiers.store
    assert "@" not in caplog.text + repr(store.recovery.pending) + repr(store.recovery.breaker) + repr(
        store.stats
    )


async def test_a_waiter_is_not_given_what_was_stored_before_a_write(tiers: Tiers) -> None:
    """The leader's answer is stored, and evicted, before it hears so: who came after the write asks anew."""
    leases = Leases(tiers.store, wait_timeout=5.0, now=tiers.clock)

    def bringing(body: bytes) -> Callable[[Ticket], Any]:
        async def load(_: Ticket) -> Loaded[bytes]:
            return Loaded(body, tiers.entry(body=body))

        return load

    there, go_on = tiers.shared.hold("fill said")
    leader = asyncio.ensure_future(leases.fill_once(ID, leases.landed, bringing(b"old")))
    await there.wait()
    await tiers.store.evict(["42"])
    waiter = asyncio.ensure_future(leases.fill_once(ID, leases.landed, bringing(b"new")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert leases.under_way(ID)
    go_on.set()
    await leader
    found = await waiter
    assert isinstance(found, Own)
    assert b"new" == found.value


async def test_what_another_replica_stored_stale_is_not_shared(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be used where upstream fails, and as long as somebody asks anew: it is no answer by itself."""
    leases = Leases(tiers.store, wait_timeout=5.0, now=tiers.clock)
    stale = Found(tiers.entry(expires=tiers.clock.time), Tier.REDIS)

    async def lease(*_: Any) -> Found:
        return stale

    async def load(_: Ticket) -> Loaded[bytes]:
        return Loaded(b"new", tiers.entry(body=b"new"))

    monkeypatch.setattr(tiers.store, "lease", lease)
    found = await leases.fill_once(ID, leases.landed, load)
    assert isinstance(found, Own)
    assert b"new" == await tiers.body(ID)
