"""Three proxies, a service and a Valkey, all of them processes: a write is seen by the next read anywhere."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import pytest

import proxy
from proxy.feed import DRIFT, LEASE
from tests.answer import Answer
from tests.processes import Proxy, Stub, ask, poll
from tests.valkey import Valkey, known

PACKAGED = Path(proxy.__file__).parent
# Upstream calls that 300 readers of one cold user on three replicas may cost together.
COLD_CALLS = 1
# What a loaded machine may add to a bound.
MARGIN = 1.5
# How long the fence of a proxy stands that is made to die early.
SHORT_LIFE = 1.5
SHORT_LIVED = f"""
from proxy.cli import main
from proxy.store import bracket
bracket.Bracket._life = {SHORT_LIFE}
main(["serve"])
"""


class ShortFences(Proxy):
    """A proxy whose fences live shorter."""

    @classmethod
    @contextmanager
    def _running(cls, command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Self]:
        with super()._running((sys.executable, "-c", SHORT_LIVED), environ) as one:
            yield one


@dataclass
class World:
    """The processes, and users nobody has used yet."""

    stub: Stub
    valkey: Valkey
    replicas: list[Proxy]
    admin: dict[str, str] = field(default_factory=dict)
    used: int = 1

    def user(self) -> dict[str, Any]:
        """The next active user as the service shows it."""
        self.used += 1
        while self.used == 13 or self.used % 25 == 0:
            self.used += 1
        user: dict[str, Any] = self.stub.get(f"/users/{self.used}").json()
        return user

    def headers(self, user: Mapping[str, Any]) -> dict[str, str]:
        """The user's own credentials."""
        return {"Authorization": f"Bearer {self.stub.token(user['id'], user['username'])}"}

    def warm(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Every replica answers this from memory."""
        for one in self.replicas:
            assert one.get(path, headers).status in (200, 404)
        for one in self.replicas:
            assert [200, "HIT"] == [(answer := one.get(path, headers)).status, answer.x_cache]

    def write(self, user_id: int, replica: Proxy | None = None, **changes: Any) -> Answer:
        """A PATCH through a replica, the first one unless told."""
        return (replica or self.replicas[0]).ask("PATCH", f"/users/{user_id}", body=json.dumps(changes))

    def names(self, path: str, headers: Mapping[str, str] | None = None) -> list[str]:
        """What the replicas say the user is called."""
        return [one.get(path, headers).json()["display_name"] for one in self.replicas]

    def well(self) -> bool:
        """Redis is trusted and memory in use everywhere, and the table of members is not new."""
        health = [ask(one.admin, "GET", "/health").json() for one in self.replicas]
        for one in self.replicas:
            one.get("/users/1")
        return all(
            told["status"] == "ok" and told["feed"]["alive"] and not told["pending_evictions"]
            for told in health
        )

    def until_well(self) -> None:
        """Returns when no earlier harm slows a write down any more."""
        poll(self.well, "all replicas are well")
        poll(lambda: self._unlisted() < time.time(), "the table of members is complete")

    def _unlisted(self) -> float:
        return int(self.valkey.ask("HGET", "user:members", "") or 0) / 1e6


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        known(valkey.url)
        stub = stack.enter_context(Stub.start(users=60))
        replicas = [stack.enter_context(Proxy.start(stub.url, redis=valkey.url)) for _ in range(3)]
        world = World(stub, valkey, replicas)
        world.admin = {"Authorization": f"Bearer {stub.token(1, stub.get('/users/1').json()['username'])}"}
        yield world


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """All is well when a test begins, and no instrument of the service is on."""
    _world.until_well()
    yield _world
    _world.stub.control(release="all", drop_after_commit_rate=0.0, latency=0.0)


PATHS = {
    "id": "/users/{id}",
    "e-mail": "/users/by-email/{email}",
    "username": "/users/{username}",
    "phone": "/users?phone=%2B{phone}",
    "profile": "/profiles/{username}",
    "token": "/auth/me",
}


@pytest.mark.parametrize("key", PATHS)
def test_a_write_is_seen_by_the_next_read_on_each_replica(world: World, key: str) -> None:
    """Whichever replica it goes through, though each of them has the user in memory."""
    user = world.user()
    path = PATHS[key].format(**user | {"phone": user["phone"][1:]})
    headers = world.headers(user) if key == "token" else world.admin
    for number, replica in enumerate(world.replicas):
        world.warm(path, headers)
        assert 200 == world.write(user["id"], replica, display_name=f"name {number}").status
        assert [f"name {number}"] * 3 == world.names(path, headers)


def test_a_changed_key_leads_to_the_user_and_the_old_one_nowhere(world: World) -> None:
    """Nobody had the new address a moment ago, and all replicas remembered that."""
    user = world.user()
    old, new = (f"/users/by-email/{email}" for email in (user["email"], "a.new@example.com"))
    world.warm(old, world.admin)
    for _ in range(2):
        assert [404] * 3 == [one.get(new, world.admin).status for one in world.replicas]
    assert 200 == world.write(user["id"], email="a.new@example.com").status
    assert [200] * 3 == [one.get(new, world.admin).status for one in world.replicas]
    assert [404] * 3 == [one.get(old, world.admin).status for one in world.replicas]


def test_a_deactivated_users_token_is_bad_everywhere_at_once(world: World) -> None:
    """Both kinds of introspection were answered from memory; the next answers are 401."""
    user = world.user()
    headers = world.headers(user)
    paths = ("/auth/me", "/auth/introspect")
    for path in paths:
        world.warm(path, headers)
    assert 200 == world.write(user["id"], is_active=False).status
    assert [401] * 6 == [one.get(path, headers).status for one in world.replicas for path in paths]


@pytest.mark.parametrize("cut", [False, True], ids=["told", "cut off"])
def test_a_frozen_replica_holds_a_writer_up_for_its_lease_and_wakes_up_knowing(
    world: World, cut: bool
) -> None:
    """It had the user in memory; what it says first when it goes on is the new value.

    Also where the announcement never reaches it, as Redis drops connections that nobody reads from.
    """
    user = world.user()
    path = f"/users/{user['id']}"
    world.warm(path)
    frozen = world.replicas[1]
    host, port = urlsplit(frozen.url).hostname, urlsplit(frozen.url).port
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection((host, port)) as client, ExitStack() as stack:
        client.sendall(f"{head}\r\n".encode())
        assert user["display_name"].encode() in client.recv(65536)
        frozen.send(signal.SIGSTOP)
        stack.callback(frozen.send, signal.SIGCONT)
        # It will find this the moment it wakes up, before any timer of its own.
        client.sendall(f"{head}Connection: close\r\n\r\n".encode())
        if cut:
            world.valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
        started = time.monotonic()
        assert 200 == world.write(user["id"], display_name="while frozen").status
        spent = time.monotonic() - started
        stack.close()
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert (True, True) == (b"while frozen" in answer, spent < LEASE * (1 + DRIFT) + MARGIN)
    assert ["while frozen"] * 3 == world.names(path)


def test_an_answer_that_was_lost_after_the_commit(world: World) -> None:
    """The writer is told that it failed; the users of the new value are told the new value."""
    user = world.user()
    path = f"/users/{user['id']}"
    world.warm(path)
    world.stub.control(drop_after_commit_rate=1.0)
    assert 502 == world.write(user["id"], display_name="dropped").status
    assert ["dropped"] * 3 == world.names(path)


def test_a_writer_who_hung_up(world: World) -> None:
    """Its write is committed when it goes; nobody sees the old value then, nor when the proxy has noticed."""
    user = world.user()
    path = f"/users/{user['id']}"
    world.warm(path)
    world.stub.control(hold="update")
    body = json.dumps({"display_name": "hung up"})
    host, port = urlsplit(world.replicas[0].url).hostname, urlsplit(world.replicas[0].url).port
    with socket.create_connection((host, port)) as client:
        head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
        world.stub.until_held("update")
    assert ["hung up"] * 3 == world.names(path)
    world.stub.control(release="all")
    poll(lambda: world.replicas[1].get(path).x_cache == "HIT", "the fence is lifted")
    assert ["hung up"] * 3 == world.names(path)


def test_a_proxy_that_is_killed_with_a_committed_write_in_hand(world: World) -> None:
    """Nobody is left to evict: its fence does, when its life is over. Until then reads go to the service."""
    user = world.user()
    path = f"/users/{user['id']}"
    with ShortFences.start(world.stub.url, redis=world.valkey.url) as doomed:
        doomed.get("/users/1")
        world.warm(path)
        world.stub.control(hold="update")
        writer = threading.Thread(target=lambda: suppress_write(world, user["id"], doomed))
        writer.start()
        world.stub.until_held("update")
        doomed.kill()
        writer.join()
    world.stub.control(release="all")
    died = time.monotonic()
    seen: Counter[tuple[str, str]] = Counter()
    while ("orphaned", "HIT") not in seen or time.monotonic() < died + SHORT_LIFE:
        assert time.monotonic() < died + SHORT_LIFE + 10
        answers = [one.get(path) for one in world.replicas]
        seen.update((answer.json()["display_name"], answer.x_cache) for answer in answers)
    assert {"orphaned"} == {name for name, _ in seen}
    assert seen["orphaned", "MISS"] > 3


def suppress_write(world: World, user_id: int, replica: Proxy) -> None:
    """A write whose proxy dies under it."""
    with suppress(OSError):
        world.write(user_id, replica, display_name="orphaned")


@pytest.mark.parametrize("named", ["id: response.id", "email: path.email"])
def test_a_proxy_that_is_killed_in_a_write_that_names_nobody_it_knows(
    world: World, tmp_path: Path, named: str
) -> None:
    """Only the answer tells whose id it is, or nobody has looked the e-mail up: its note, or the fence that
    upstream was asked for, makes every copy go once it has run out."""
    user = world.user()
    path = f"/users/{user['id']}"
    routes = (
        (PACKAGED / "routes.yaml")
        .read_text()
        .replace(
            "\nroutes:\n",
            f'\nroutes:\n  - {{match: "PATCH /users/by-email/{{email}}", write: {{evict: [{{{named}}}]}}}}\n',
        )
    )
    (tmp_path / "routes.yaml").write_text(routes)
    started = ShortFences.start(
        world.stub.url, redis=world.valkey.url, ROUTES_FILE=str(tmp_path / "routes.yaml")
    )
    with started as doomed:
        doomed.get("/users/1")
        world.warm(path)
        # As maxmemory may do; what is stored under the id stays.
        world.valkey.ask("DEL", f"user:email:{user['email']}")
        world.stub.control(hold="update")
        by_email = f"/users/by-email/{user['email']}"
        ask_in_vain = suppressed(
            lambda: doomed.ask("PATCH", by_email, world.headers(user), body='{"display_name": "orphaned"}')
        )
        writer = threading.Thread(target=ask_in_vain)
        writer.start()
        world.stub.until_held("update")
        doomed.kill()
        writer.join()
    world.stub.control(release="all")

    poll(lambda: world.names(path) == ["orphaned"] * 3, "the old copies are gone", SHORT_LIFE + 5)
    left = lambda: [one for one in world.valkey.ask("HKEYS", "user:members") if one[:1] == b"!"]  # noqa: E731
    poll(lambda: not left(), "the note is gone")


def suppressed(asking: Callable[[], object]) -> Callable[[], None]:
    """Asks, and does not mind that nobody answers."""

    def asked() -> None:
        with suppress(OSError):
            asking()

    return asked


def test_valkey_is_killed_and_comes_back_under_traffic(world: World) -> None:
    """No request fails because of it, reads and writes alike, and nobody has to help it back up."""
    users = [world.user() for _ in range(3)]
    stop = threading.Event()
    statuses: Counter[int] = Counter()

    def traffic(number: int) -> None:
        replica, rounds = world.replicas[number % 3], 0
        while not stop.is_set():
            user = users[rounds % len(users)]["id"]
            rounds += 1
            answer = replica.get(f"/users/{user}") if rounds % 10 else world.write(user, replica, bio="x")
            statuses[answer.status] += 1

    threads = [threading.Thread(target=traffic, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        poll(lambda: statuses[200] > 100, "traffic")
        world.valkey.kill()
        poll(lambda: all(_breaker(one) == "open" for one in world.replicas), "all noticed")
        world.valkey.start()
        poll(world.well, "all are well again")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {200} == set(statuses)
    world.warm(f"/users/{users[0]['id']}")


def _breaker(one: Proxy) -> str:
    return str(ask(one.admin, "GET", "/health").json()["breaker"])


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "at once"])
def test_valkey_comes_back_from_an_old_snapshot(world: World, noticed: bool) -> None:
    """It holds the old value, and no fence or floor against it; nobody is ever shown it."""
    user = world.user()
    path = f"/users/{user['id']}"
    world.warm(path)
    world.valkey.ask("SAVE")
    assert 200 == world.write(user["id"], display_name="after the snapshot").status
    world.valkey.kill()
    if noticed:
        poll(lambda: all(_breaker(one) == "open" for one in world.replicas), "all noticed")
    world.valkey.start()
    assert world.valkey.field(f"user:id:{user['id']}", "v:users")
    seen: Counter[str] = Counter()

    def well() -> bool:
        for _ in range(5):
            seen.update(world.names(path))
        return world.well()

    poll(well, "all are well again")
    assert {"after the snapshot"} == set(seen)
    world.valkey.ask("FLUSHALL")


def test_an_eviction_by_an_operator_reaches_every_replica(world: World) -> None:
    """The service was changed behind our backs; one replica is told."""
    user = world.user()
    path = f"/users/{user['id']}"
    world.warm(path)
    change = json.dumps({"display_name": "behind our backs"})
    assert 200 == world.stub.ask("PATCH", path, body=change).status
    assert [user["display_name"]] * 3 == world.names(path)
    evicted = world.replicas[2].ask_admin(
        "POST", "/evict", {"Content-Type": "application/json"}, json.dumps({"email": user["email"]})
    )
    assert 200 == evicted.status
    assert ["behind our backs"] * 3 == world.names(path)


async def test_a_stampede_on_one_cold_user(world: World) -> None:
    """300 readers on three replicas; upstream takes its time and is asked once for all of them."""
    user = world.user()
    path = f"/users/{user['id']}"
    world.stub.control(latency="100ms")
    before = world.stub.requests("user_by_id")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def read(url: str) -> int:
            async with session.get(url + path) as answer:
                return int((await answer.json())["id"])

        urls = [one.url for one in world.replicas] * 100
        ids = await asyncio.gather(*(read(url) for url in urls))
    assert [user["id"]] * 300 == ids
    calls = world.stub.requests("user_by_id") - before
    assert calls <= COLD_CALLS, f"{calls} calls"


async def test_ordinary_writes_are_not_slow(world: World) -> None:
    """With all replicas awake no write waits for a lease: a fence costs a round trip or two."""
    user = world.user()
    spent: list[float] = []
    async with aiohttp.ClientSession() as session:
        for number in range(40):
            started = time.monotonic()
            url = f"{world.replicas[number % 3].url}/users/{user['id']}"
            async with session.patch(url, json={"bio": str(number)}) as answer:
                assert 200 == answer.status
            spent.append(time.monotonic() - started)
    waited = [one.stats()["store"]["feed"]["waited_out"] for one in world.replicas]
    assert sorted(spent)[20] < LEASE / 4, (sorted(spent)[20], waited)
