"""Resources with real parts: a Redis Cluster, a Redis that is lost or full, and callers that are proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import pytest

from tests.answer import Answer
from tests.process.test_topologies import cluster as cluster
from tests.process.test_topologies import servers as servers
from tests.processes import Proxy, Stub
from tests.valkey import Valkey

# A copy is that of a host, and each proxy has an address of its own.
HOST = {"Host": "users.example"}
TYPE = HOST | {"Content-Type": "image/svg+xml"}
ROUTES = """\
version: 1
upstream: {url: "http://127.0.0.1:1"}
user: {id: id, active: is_active}
views: {users: {ttl: 300s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /avatars/{file}", resource: {}%s}
"""


class World:
    """A service, and two proxies that share a Redis; `alone`: both names are of one."""

    def __init__(
        self, stack: ExitStack, tmp_path: Path, redis: str, access: str = "", *, alone: bool = False
    ) -> None:
        routes = tmp_path / "routes.yaml"
        routes.write_text(ROUTES % access)
        self.stub = stack.enter_context(Stub.start())
        started = [
            stack.enter_context(Proxy.start(self.stub.url, redis, ROUTES_FILE=str(routes)))
            for _ in range(1 if alone else 2)
        ]
        self.one, self.other = started[0], started[-1]

    def name(self, number: int) -> str:
        """A user's name."""
        return str(self.stub.get(f"/users/{number}").json()["username"])

    @cached_property
    def admin(self) -> dict[str, str]:
        """The credentials of one who may write everything."""
        return self.token(1)

    def token(self, number: int) -> dict[str, str]:
        """The credentials of a user."""
        return {"Authorization": f"Bearer {self.stub.token(number, self.name(number))}"}

    def seen(self, by: Proxy, number: int) -> Answer:
        """The user's picture, as anybody gets it."""
        answer = by.get(self.path(number), HOST)
        assert 200 == answer.status
        return answer

    def draw(self, by: Proxy, number: int, picture: str) -> None:
        """The user has a new picture, drawn by an admin."""
        answer = by.ask("PUT", self.path(number), TYPE | self.admin, picture)
        assert 204 == answer.status, answer.body

    def path(self, number: int) -> str:
        """Of the user's picture."""
        return f"/avatars/{self.name(number)}.svg"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is to be ended."""
    with ExitStack() as opened:
        yield opened


def shared(world: World, number: int) -> None:
    """What one has read the other has, until either sees a write."""
    both = (world.one, world.other)
    assert ["MISS", "HIT"] == [world.seen(by, number).headers["X-Cache"] for by in both]
    world.draw(world.other, number, "<svg>new</svg>")
    found = [world.seen(by, number) for by in both]
    assert [b"<svg>new</svg>"] * 2 == [answer.body for answer in found]
    assert ["MISS", "HIT"] == [answer.headers["X-Cache"] for answer in found]


def test_a_cluster_keeps_resources(stack: ExitStack, tmp_path: Path, cluster: str) -> None:
    """A URL's index and its copies lie on whatever server; scripts touch one key each."""
    world = World(stack, tmp_path, cluster)
    for number in (1, 2, 3):
        shared(world, number)
    assert 0 == sum(world.one.stats()["reasons"].get(why, 0) for why in ("store-down", "corrupt"))


def test_resources_survive_the_loss_of_redis(stack: ExitStack, tmp_path: Path) -> None:
    """Reads go on, writes that Redis is not told of are made good before it is trusted again."""
    valkey = stack.enter_context(Valkey())
    world = World(stack, tmp_path, valkey.url)
    shared(world, 1)
    valkey.ask("SAVE")
    valkey.kill()

    for _ in range(3):
        for by in (world.one, world.other):
            assert b"<svg>new</svg>" == world.seen(by, 1).body
    world.draw(world.one, 1, "<svg>newer</svg>")
    assert b"<svg>newer</svg>" == world.seen(world.one, 1).body

    # It comes back with the copy of before the write.
    valkey.start()
    world.one.until("Redis is trusted again", lambda: healthy(world.one))
    world.other.until("Redis is trusted again", lambda: healthy(world.other))
    for by in (world.other, world.one, world.other):
        assert b"<svg>newer</svg>" == world.seen(by, 1).body
    shared(world, 2)


def healthy(proxy: Proxy) -> bool | None:
    """Whether it asks Redis."""
    return True if proxy.ask_admin("GET", "/health").json()["status"] == "ok" else None


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-random"])
def test_a_full_redis_is_no_failure(stack: ExitStack, tmp_path: Path, policy: str) -> None:
    """What it refuses or throws out costs a call to upstream, and is never answered wrongly."""
    valkey = stack.enter_context(Valkey("--maxmemory", "2mb", "--maxmemory-policy", policy))
    world = World(stack, tmp_path, valkey.url, alone=True)
    for number in range(1, 13):
        world.draw(world.one, number, f"<svg>{number}{'.' * 60_000}</svg>")
        world.seen(world.one, number)
    for number in range(1, 13):
        assert world.seen(world.one, number).body.startswith(b"<svg>%d." % number)
    told = valkey.ask("INFO", "everything")
    assert "errorstat_OOM" in told if policy == "noeviction" else told["evicted_keys"]
    world.draw(world.other, 7, "<svg>7 anew</svg>")
    assert b"<svg>7 anew</svg>" == world.seen(world.one, 7).body


def test_who_is_proven_shares_the_copy(stack: ExitStack, tmp_path: Path) -> None:
    """`access: token`: whoever has a good token of an active user; the others are upstream's to judge."""
    valkey = stack.enter_context(Valkey())
    world = World(stack, tmp_path, valkey.url, access=", access: token")
    path, tokens = world.path(1), [world.token(number) for number in (1, 2, 3)]

    def said(by: Proxy, headers: dict[str, str] | None = None) -> str:
        answer = by.get(path, HOST | (headers or {}))
        assert 200 == answer.status
        return answer.headers["X-Cache"]

    # Nobody here knows these users yet: upstream accepts them, which is remembered with the user.
    assert "HIT" not in [said(world.one, token) for token in tokens]
    known = [said(world.one, token) for token in tokens]
    assert "HIT" in known
    assert "HIT" == said(world.other, tokens[0])
    assert "BYPASS" == said(world.one)
    assert "BYPASS" == said(world.one, {"Authorization": "Bearer x.y.z"})

    # A user who is not active any more has no share in it, on any replica.
    done = world.one.ask(
        "PATCH", "/users/3", world.token(1) | {"Content-Type": "application/json"}, '{"is_active": false}'
    )
    assert 200 == done.status, done.body
    assert "BYPASS" == said(world.other, tokens[2])
