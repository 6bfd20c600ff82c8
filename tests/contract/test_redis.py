"""RedisStore on a real server: size, lost connections, lost scripts, cancellation, deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest

from proxy.core.errors import StoreError
from proxy.core.model import Batch, Found, Reason
from proxy.store.fences import LIFE, new_fence
from proxy.store.lives import FLOOR_MS
from proxy.store.redis import RedisStore, connect
from tests.contract.kit import START, Clock, Kit, by
from tests.valkey import Valkey

ID = by("id", "42")
EMAIL = by("email", "u42@x")


@pytest.fixture
async def kit(valkey: Valkey) -> AsyncIterator[Kit]:
    """A store of its own connections."""
    clock = Clock()
    store = RedisStore(valkey.url, pool_size=2, now=clock, deadline=5.0)
    yield Kit("valkey", store, clock)
    await store.close()


async def test_a_user_is_small(kit: Kit, valkey: Valkey) -> None:
    """A 400-byte user with three aliases costs at most 1,000 bytes of Redis, all four keys together."""
    user = {"id": 123456, "email": "ada.lovelace@example.com", "username": "ada.lovelace", "bio": ""}
    user |= {"phone": "+442079460123", "is_active": True}
    user["bio"] = "x" * (400 - len(json.dumps(user)))
    body = json.dumps(user).encode()
    keys = {name: str(user[name]) for name in ("email", "username", "phone")}
    headers = ((b"Content-Type", b"application/json"), (b"ETag", b'"0123456789abcdef"'))
    await kit.put(kit.entry("123456", body, keys=keys, headers=headers, active=True))
    names = ["user:id:123456", *(f"user:{name}:{value}" for name, value in keys.items())]
    costs = {name: valkey.ask("MEMORY", "USAGE", name) for name in names}
    assert 400 == len(body)
    assert sum(costs.values()) <= 1000, f"{sum(costs.values())} bytes: {costs}"


async def test_names_of_keys_are_readable(kit: Kit, valkey: Valkey) -> None:
    """An operator finds a user with redis-cli: the aliases hold the id as it is (design §6)."""
    await kit.put(kit.entry())
    found = sorted(valkey.ask("KEYS", "*"))
    assert [b"user:email:u42@x", b"user:epoch", b"user:id:42", b"user:phone:+42", b"user:seq"] == found
    assert b"42" == valkey.ask("GET", "user:email:u42@x")


async def test_an_eviction_that_was_overtaken_does_not_lower_the_floor(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two writers the first has its number, and evicts after the second: what was read between is old."""
    numbered, there, on = kit.store.writes.numbered, asyncio.Event(), asyncio.Event()

    async def slowly(*commands: Any) -> Any:
        numbers = await numbered(*commands)
        there.set()
        await on.wait()
        return numbers

    monkeypatch.setattr(kit.store.writes, "numbered", slowly)
    first = asyncio.ensure_future(kit.store.evict(["42"]))
    await there.wait()
    monkeypatch.undo()
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["42"])
    on.set()
    await first
    assert Reason.STALE_FILL is await kit.store.fill(ID, kit.entry(), ticket)


@pytest.mark.parametrize("stored", [True, False])
async def test_a_fence_outlives_what_it_stands_around(kit: Kit, valkey: Valkey, stored: bool) -> None:
    """It is in the user's own key, which lives for as long as the fence and any ticket; and not for ever."""
    if stored:
        await kit.put(kit.entry())
    await kit.store.writes.fence(new_fence(Batch(("42",))))
    life = LIFE * 1000 + int(FLOOR_MS)
    assert life - 5000 < valkey.ask("PTTL", "user:id:42") <= life


async def test_forgotten_scripts_are_loaded_again(kit: Kit, valkey: Valkey) -> None:
    """SCRIPT FLUSH, or another server, costs a round trip and nothing else."""
    await kit.put(kit.entry())
    valkey.ask("SCRIPT", "FLUSH")
    assert 1 == (await kit.store.evict(["42"])).entries
    assert 0 == kit.store.stats.errors


async def test_connections_that_died_unseen_are_replaced(kit: Kit, valkey: Valkey) -> None:
    """Every operation is tried once more when its pooled connection turns out dead (trap 40)."""
    actions: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: kit.store.get(ID),
        lambda: kit.put(kit.entry()),
        lambda: kit.store.evict(["42"]),
        lambda: kit.store.resolve("email", "u42@x"),
    ]
    await asyncio.gather(*(kit.store.get(ID) for _ in range(5)))
    for action in actions:
        # Cut at our end, so that nothing can tell before the bytes are sent.
        kit.store.link.mux.wire._transport.abort()
        await action()
    assert 0 == kit.store.stats.errors


async def test_a_given_client_stays_open(valkey: Valkey) -> None:
    """Whoever brought the client closes it."""
    async with connect(valkey.url) as client:
        store = RedisStore(client)
        await store.ticket()
        await store.close()
        assert await client.ping()
        await client.connection_pool.aclose()


def test_other_schemes_are_refused() -> None:
    """A URL that redis-py cannot read is a ValueError at once."""
    with pytest.raises(ValueError, match="scheme"):
        RedisStore("http://localhost")


async def test_nobody_answering_is_one_error_within_the_deadline(
    valkey_server: Callable[..., Valkey],
) -> None:
    """A frozen server costs the deadline and StoreError; its text holds no key. Then it works again."""
    server = valkey_server()
    store = RedisStore(server.url, deadline=0.1, pool_size=2)
    await store.ticket()
    server.pause()
    loop = asyncio.get_running_loop()
    started = loop.time()
    outcomes = await asyncio.gather(
        *(store.get(EMAIL) for _ in range(20)), store.evict(["42"]), return_exceptions=True
    )
    spent = loop.time() - started
    server.resume()
    assert {"redis did not answer in time"} == {str(outcome) for outcome in outcomes}
    assert {StoreError} == {type(outcome) for outcome in outcomes}
    assert all(o.__cause__ is None and o.__suppress_context__ for o in outcomes if isinstance(o, StoreError))
    assert spent < 1.0
    assert ("ok", 21) == ((await store.health())["status"], store.stats.errors)
    await store.close()


async def test_a_server_that_is_gone_is_an_error(valkey_server: Callable[..., Valkey]) -> None:
    """Every method says so by StoreError; health says it without."""
    server = valkey_server()
    store = RedisStore(server.url)
    kit = Kit("valkey", store, Clock())
    ticket = await store.ticket()
    server.kill()
    for action in (
        store.get(ID),
        store.get(EMAIL),
        store.ticket(EMAIL),
        store.fill(ID, kit.entry(dead=START * 2), ticket),
        store.evict(["42"]),
        store.evict([], everything=True),
        store.resolve("email", "u42@x"),
        store.run_id(),
    ):
        with pytest.raises(StoreError):
            await action
    assert "degraded" == (await store.health())["status"]
    await store.close()


async def test_a_server_that_refuses_writes_is_an_error(kit: Kit, valkey: Valkey) -> None:
    """Out of memory is an answer of Redis, but none to a fill; reads go on."""
    await kit.put(kit.entry())
    ticket = await kit.store.ticket(ID)
    valkey.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError, match="OutOfMemoryError"):
            await kit.store.fill(ID, kit.entry(), ticket)
        assert b"{}" == await kit.body(ID)
    finally:
        valkey.ask("CONFIG", "SET", "maxmemory", "0")


async def test_more_callers_than_connections_wait_their_turn(kit: Kit) -> None:
    """150 concurrent misses share two connections and all are answered (trap 43)."""
    await kit.put(kit.entry())
    found = await asyncio.gather(*(kit.store.get(EMAIL) for _ in range(150)))
    assert {True} == {isinstance(looked, Found) for looked in found}
    assert len(kit.store.link._client.connection_pool._available_connections) <= 2


async def test_a_large_eviction_fits(kit: Kit, valkey: Valkey) -> None:
    """More users than one burst of commands holds."""
    for number in range(30):
        await kit.put(kit.entry(str(number)))
    evicted = await kit.store.evict([str(number) for number in range(1200)])
    assert (30, 60) == (evicted.entries, evicted.aliases)


async def test_server_processes_are_told_apart(valkey_server: Callable[..., Valkey]) -> None:
    """The run id stays while the process does."""
    server = valkey_server()
    store = RedisStore(server.url)
    first = await store.run_id()
    assert first == await store.run_id()
    server.kill()
    server.start()
    assert (True, True) == (first != await store.run_id(), first != "")
    server.ask("ACL", "SETUSER", "default", "-info")
    assert "" == await store.run_id()
    await store.close()


class Cancelling:
    """Runs a coroutine and cancels its task at the `count`-th time it waits. `waits` counts them."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], count: int) -> None:
        self._inner = coroutine.__await__()
        self._count = count
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        error: BaseException | None = None
        while True:
            try:
                waited = self._inner.send(None) if error is None else self._inner.throw(error)
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self._count:
                task.cancel()
            error = None
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - handed on to where it belongs
                error = thrown

    async def run(self) -> None:
        """For a task."""
        await self


async def cancelled_at(count: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Whether there was a `count`-th wait to cancel at."""
    cancelling = Cancelling(coroutine, count)
    await asyncio.gather(asyncio.ensure_future(cancelling.run()), return_exceptions=True)
    return cancelling.waits >= count


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("name", ["get", "fill", "evict", "ticket"])
async def test_cancelled_at_every_wait_the_connection_still_works(
    valkey: Valkey, name: str, warm: bool
) -> None:
    """A caller that goes away, at whatever point, costs no connection and mixes up no answers."""
    clock = Clock()
    store = RedisStore(valkey.url, pool_size=1, now=clock, deadline=5.0)
    kit = Kit("valkey", store, clock)
    await kit.put(kit.entry())
    count, more = 0, True
    while more:
        count += 1
        if not warm:
            store.link.mux.wire.abort("cut")  # type: ignore[union-attr]
        ticket = await _ticket(valkey)
        actions: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "get": lambda: store.get(EMAIL),
            "fill": lambda: store.fill(ID, kit.entry(), ticket),  # noqa: B023 - run within the round
            "evict": lambda: store.evict(["9"], [("email", "u42@x")]),
            "ticket": lambda: store.ticket(by("email", "none@x")),
        }
        more = await cancelled_at(count, actions[name]())
        await kit.put(kit.entry(body=b"%d" % count))
        assert b"%d" % count == await kit.body(EMAIL)
    assert count > 1
    await store.close()


async def _ticket(valkey: Valkey) -> Any:
    other = RedisStore(valkey.url)
    try:
        return await other.ticket()
    finally:
        await other.close()
