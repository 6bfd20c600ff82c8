"""A real server that is killed, frozen, and comes back empty or with old data, under a TieredStore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Evicted, Found, Looked, Reason, Ref, Tier
from proxy.store import tokenwords
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.store.tiered import TieredStore
from tests.contract.kit import Clock, Kit, by, until
from tests.valkey import Valkey

ID = by("id", "42")
EMAIL = by("email", "u42@x")
DEADLINE = 0.1

Loss = Callable[[Valkey], None]
LOSSES: list[Any] = [pytest.param(Valkey.kill, id="killed"), pytest.param(Valkey.pause, id="frozen")]


class Replica(Kit):
    """A store on a real server, with a watch that looks often."""

    store: TieredStore

    def __init__(self, server: Valkey) -> None:
        clock = Clock()
        redis = RedisStore(server.url, pool_size=4, deadline=DEADLINE, now=clock)
        memory = MemoryStore(1000, now=clock, monotonic=clock)
        store = TieredStore(memory, redis, probe_interval=0.02)
        super().__init__("tiered", store, clock)

    async def away(self) -> None:
        """The server is known to be away."""
        await until(lambda: self.store.recovery.breaker.open)

    async def back(self) -> None:
        """The server is trusted again."""
        await until(lambda: not self.store.recovery.breaker.open)


@pytest.fixture
def server(valkey_server: Callable[..., Valkey]) -> Valkey:
    """A server to be harmed."""
    return valkey_server()


@pytest.fixture
async def replica(server: Valkey) -> AsyncIterator[Replica]:
    """A replica that has seen its server."""
    replica = Replica(server)
    await replica.store.ticket()
    await until(lambda: replica.store.recovery.run_id != "")
    yield replica
    await replica.store.close()


def come_back(server: Valkey, loss: Loss) -> None:
    """Ends a loss: a frozen server goes on, a killed one is started, empty."""
    if loss is Valkey.pause:
        server.resume()
    else:
        server.start()


async def spent(action: Any) -> float:
    """Seconds that an action took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await action
    return loop.time() - started


@pytest.mark.parametrize("loss", LOSSES)
async def test_nothing_fails_and_nothing_waits_long(server: Valkey, replica: Replica, loss: Loss) -> None:
    """While the server is away, operations answer within a few deadlines, and at once when it is known."""
    await replica.put(replica.entry())
    replica.clock.time += 1
    loss(server)
    unknown = [
        await spent(replica.store.get(ID)),
        await spent(replica.store.ticket(EMAIL)),
        await spent(replica.store.evict(["7"])),
    ]
    known = await spent(asyncio.gather(*(replica.store.get(by("id", str(n))) for n in range(100))))
    assert (True, True) == (max(unknown) < 5 * DEADLINE, known < DEADLINE)
    await replica.put(replica.entry(body=b"kept"))
    assert b"kept" == await replica.body(EMAIL)
    health = await replica.store.health()
    assert ("degraded", "open", 1) == (health["status"], health["breaker"], health["pending_evictions"])
    come_back(server, loss)


@pytest.mark.parametrize("loss", LOSSES)
async def test_it_comes_back_by_itself(server: Valkey, replica: Replica, loss: Loss) -> None:
    """Nobody asks for anything: the watch sees the loss and the return."""
    loss(server)
    await replica.away()
    come_back(server, loss)
    await replica.back()
    await replica.put(replica.entry())
    replica.clock.time += 1
    looked = await replica.store.get(EMAIL)
    assert isinstance(looked, Found)
    assert Tier.REDIS is looked.tier


async def test_a_late_eviction_comes_before_the_first_read(server: Valkey, replica: Replica) -> None:
    """The frozen server wakes with the old answer; readers never see it from the write's answer on."""
    other = Replica(server)
    await replica.put(replica.entry(body=b"old"))
    server.pause()
    assert False is (await replica.store.evict(["42"])).delivered
    stop = asyncio.Event()
    seen: list[Looked] = []

    async def read() -> None:
        while not stop.is_set():
            seen.append(await replica.store.get(EMAIL))
            await asyncio.sleep(0)

    reader = asyncio.ensure_future(read())
    server.resume()
    await replica.back()
    stop.set()
    await reader
    assert [] == [looked for looked in seen if isinstance(looked, Found)]
    assert None is await other.body(ID)
    await other.store.close()


async def test_many_late_evictions_are_delivered(server: Valkey, replica: Replica) -> None:
    """More than one batch of them, by id and by alias."""
    patient = Kit("valkey", RedisStore(server.url, deadline=10.0, now=replica.clock), replica.clock)
    for number in range(600):
        await patient.put(patient.entry(str(number)))
    server.pause()
    for number in range(300):
        await replica.store.evict([str(number)], [("phone", f"+{number + 300}")])
    assert 600 == len(replica.store.recovery.pending)
    server.resume()
    await replica.back()
    left = await asyncio.gather(*(patient.store.get(by("id", str(number))) for number in range(600)))
    assert {Absent()} == set(left)
    await patient.store.close()


async def test_a_fill_from_before_the_loss_is_void(server: Valkey, replica: Replica) -> None:
    """The server came back empty: no floor there knows of the write, the replica does."""
    ticket = await replica.store.ticket(EMAIL)
    server.kill()
    await replica.store.evict(["42"])
    server.start()
    await replica.back()
    assert Reason.STALE_FILL == await replica.store.fill(EMAIL, replica.entry(body=b"old"), ticket)
    assert Absent() == await replica.store.get(ID)


async def test_an_empty_server_voids_fills_of_every_replica(server: Valkey, replica: Replica) -> None:
    """Another replica's ticket names an epoch that the empty server never had."""
    other = Replica(server)
    ticket = await other.store.redis.ticket(ID)
    await replica.store.evict(["42"])
    server.kill()
    server.start()
    for one in (replica, other):
        # They have met the new process.
        assert "" != await one.store.redis.run_id()
    await replica.store.redis.ticket(ID)
    assert Reason.STALE_FILL == await other.store.redis.fill(ID, other.entry(), ticket)
    assert None is await replica.body(ID)
    await other.store.close()


async def test_old_data_is_not_trusted(server: Valkey, replica: Replica) -> None:
    """The server saved, was told of a write, crashed and starts from the save: the epoch is raised."""
    await replica.put(replica.entry(body=b"old"))
    server.ask("SAVE")
    assert Evicted(entries=1, aliases=2) == await replica.store.evict(["42"])
    server.kill()
    await replica.away()
    server.start()
    assert 1 == server.ask("HEXISTS", "user:id:42", "v:users")
    await replica.back()
    assert Absent() == await replica.store.get(ID)
    assert 1 == replica.store.stats.restarts


async def test_old_data_is_not_trusted_by_who_begins_with_it(server: Valkey, replica: Replica) -> None:
    """All were away when the server came back from its save, and nobody can have noticed that it did."""
    await replica.put(replica.entry(body=b"old"))
    server.ask("SAVE")
    await replica.store.evict(["42"])
    await replica.store.close()
    server.kill()
    server.start()
    newcomer = Replica(server)
    assert 1 == server.ask("HEXISTS", "user:id:42", "v:users")
    assert [None, None] == [await newcomer.body(ref) for ref in (ID, EMAIL)]
    await newcomer.put(newcomer.entry(body=b"new"))
    await newcomer.store.close()
    # It is known by now, and who begins later costs nobody anything.
    later = Replica(server)
    assert b"new" == await later.body(EMAIL)
    assert 0 < server.ask("PTTL", "user:members")
    await later.store.close()


async def test_who_begins_with_an_empty_server_believes_it_at_once(
    server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no old copy in it, and the first users of a new proxy are not to wait for others to say so."""
    monkeypatch.setattr(tokenwords, "TELLING", 3600.0)
    replica = Replica(server)
    try:
        assert await replica.store.token_state("42", "token", replica.clock() + 60) is None
    finally:
        await replica.store.close()


async def test_a_server_that_does_not_say_which_it_is_is_not_asked(
    server: Valkey, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even once, by who begins: what it holds may be old."""
    await replica.put(replica.entry())
    newcomer = Replica(server)

    async def fails() -> str:
        raise StoreError("redis did not answer in time")

    monkeypatch.setattr(newcomer.store.redis, "run_id", fails)
    assert Absent(Reason.STORE_DOWN) == await newcomer.store.get(ID)
    monkeypatch.undo()
    await newcomer.back()
    assert b"{}" == await newcomer.body(ID)
    await newcomer.store.close()


async def test_a_server_that_may_not_be_asked_is_used_with_a_warning(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Many an account has no INFO."""
    server.ask("ACL", "SETUSER", "default", "-info")
    replica = Replica(server)
    await replica.put(replica.entry())
    assert b"{}" == await replica.body(ID)
    await replica.store.recovery.probe()
    assert [
        "Redis may not be asked INFO here: that it came back with old data goes unnoticed"
    ] == caplog.messages
    await replica.store.close()


async def test_another_process_is_distrusted_with_its_greeting(replica: Replica) -> None:
    """A request that comes right behind may use the new connection: none is to reach it."""

    class Connection:
        """A new one, to another process."""

        async def on_connect(self) -> None:
            """As redis-py does."""

        async def send_command(self, *words: str) -> None:
            """INFO."""

        async def read_response(self) -> bytes:
            """Its answer."""
            return b"# Server\r\nrun_id:another\r\n"

    await replica.store.redis.link.process.greet(Connection())
    assert replica.store.recovery.down
    assert 1 == replica.store.stats.restarts
    await replica.back()


async def test_losses_in_a_row_under_load(server: Valkey, replica: Replica) -> None:
    """Reads, fills and writes go on through three losses; no read is older than the last write answered."""
    upstream = answered = 0
    stop = asyncio.Event()
    mistakes: list[tuple[int, int]] = []

    async def look(ref: Ref) -> None:
        while not stop.is_set():
            least = answered
            body = await replica.body(ref)
            if body is None:
                ticket = await replica.store.ticket(ref)
                answer = replica.entry(body=b"%d" % upstream)
                await asyncio.sleep(0)
                await replica.store.fill(ref, answer, ticket)
            elif int(body) < least:
                mistakes.append((int(body), least))
            await asyncio.sleep(0)

    async def write() -> None:
        nonlocal upstream, answered
        while not stop.is_set():
            upstream += 1
            await replica.store.evict(["42"])
            answered = upstream
            await asyncio.sleep(0.001)

    loops = [asyncio.ensure_future(one) for one in (look(EMAIL), look(ID), write())]
    for loss in (Valkey.pause, Valkey.kill, Valkey.pause):
        loss(server)
        await replica.away()
        come_back(server, loss)
        await replica.back()
    stop.set()
    await asyncio.gather(*loops)
    assert ([], True) == (mistakes, answered > 3)
