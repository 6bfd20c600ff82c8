"""Resources on the fast path: what it answers, and what ends that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.http.test_fastpath import _MOVING, Client, client, counting, get, replays, warm
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

ROUTES = """\
version: 1
upstream: {url: "{stub}"}
user: {id: id, active: is_active}
views: {users: {ttl: 60s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /proven/{any:path}", resource: {}, access: token}
  - {match: "GET /{any:path}", resource: {}}
"""


class Service:
    """Answers with a value, and the headers that a test sets."""

    def __init__(self) -> None:
        self.value = "first"
        self.headers = {"Cache-Control": "max-age=60", "Date": "Thu, 01 Jan 2999 00:00:00 GMT"}
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        """GET shows it, PUT changes it."""
        if request.method == "PUT":
            self.value = await request.text()
            return web.Response(status=204)
        if request.path.startswith("/users/"):
            return web.json_response({"id": int(request.path[7:]), "is_active": True})
        self.asked += 1
        return web.Response(text=self.value, headers=self.headers)


@asynccontextmanager
async def served(tmp_path: Path, redis: str | None = None) -> AsyncIterator[tuple[Service, Bench, Client]]:
    """A service, a proxy and a client."""
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", service.answer)
    async with (
        bench(routes=ROUTES, tmp_path=tmp_path, upstream=app, redis=redis) as at,
        client(at) as c,
    ):
        yield service, at, c


@pytest.mark.parametrize("shared", [False, True])
async def test_a_hit_is_ready_and_the_walks(tmp_path: Path, *, shared: bool) -> None:
    """Byte for byte, but for Age and ttl; counted as a resource."""
    with Valkey() as valkey:
        async with served(tmp_path, valkey.url if shared else None) as (service, at, c):
            walked = await warm(c, get("/a?b"))
            before = at.app.telemetry.stats()["requests"]["resource"]
            ready, again = 0, set()
            # On a machine that stands still for a while memory is not trusted, and a hit is walked.
            for _ in range(100):
                again.add(_MOVING.sub(b"", await c.ask(get("/a?b"))))
                ready += sum(count for _, count in replays(at).counted())
                if ready == 3:
                    break
            assert {_MOVING.sub(b"", walked)} == again
            assert 3 == ready
            await c.ask(get("/a?b"))
            assert before + 1 <= at.app.telemetry.stats()["requests"]["resource"]
            assert 1 == service.asked


async def test_a_write_ends_it(tmp_path: Path) -> None:
    """Of that URL, whatever route it goes through."""
    async with served(tmp_path) as (_, at, c):
        await warm(c, get("/a"))
        async with counting(at, 1):
            assert (await c.ask(get("/a"))).endswith(b"first")
            await at.ask("PUT", "/a", headers={"Host": "users"}, json="second")
            assert (await c.ask(get("/a"))).endswith(b'"second"')


async def test_variants_have_their_own(tmp_path: Path) -> None:
    """A head is one of a variant; an answer that begins to vary on more ends them all."""
    async with served(tmp_path) as (service, at, c):
        service.headers["Vary"] = "Accept-Language"
        for language in ("en", "de"):
            service.value = language
            await warm(c, get("/a", f"Accept-Language: {language}"))
        # The second one has renewed the index that the first one's offer rests on.
        await c.ask(get("/a", "Accept-Language: en"))
        async with counting(at, 2):
            for language in ("en", "de"):
                assert (await c.ask(get("/a", f"Accept-Language: {language}"))).endswith(language.encode())
        service.headers["Vary"], service.value = "Accept-Language, Foo", "more"
        await c.ask(get("/a", "Accept-Language: fr"))
        async with counting(at, 0):
            assert (await c.ask(get("/a", "Accept-Language: en"))).endswith(b"more")


@pytest.mark.parametrize("name", ["X-Request-Id", "traceparent", "Foo"])
async def test_what_only_names_a_request_may_choose_a_variant(name: str, tmp_path: Path) -> None:
    """The fast path sets such lines aside, so what varies on other lines than the usual ones is walked."""
    async with served(tmp_path) as (service, at, c):
        service.headers["Vary"] = name
        for value in ("1", "2", "1", "2"):
            service.value = value
            await c.ask(get("/a", f"{name}: {value}"))
        async with counting(at, 0):
            for value in ("1", "2"):
                assert (await c.ask(get("/a", f"{name}: {value}"))).endswith(value.encode())


@pytest.mark.parametrize(
    "lines",
    [
        ["Range: bytes=0-1"],
        ["Cache-Control: no-cache"],
        ["Cache-Control: max-age=5"],
        ["If-Match: *"],
        ["Cookie: a=b"],
        ["Authorization: Bearer x"],
        ["X-HTTP-Method-Override: PUT"],
        ["Upgrade: websocket", "Connection: Upgrade"],
    ],
)
async def test_what_must_be_walked_is(lines: list[str], tmp_path: Path) -> None:
    """Parts, directives, conditions, credentials and what may mean something else."""
    async with served(tmp_path) as (_, at, c):
        await warm(c, get("/a"))
        async with counting(at, 0):
            for _ in range(3):
                await c.ask(get("/a", *lines))


@pytest.mark.parametrize(("said", "ready"), [("max-age=60", 0), ("public, max-age=60", 1)])
async def test_a_cookie_shares_what_allows_it(said: str, ready: int, tmp_path: Path) -> None:
    """What a walk would not give to this head is not made ready for it (RFC 9111 §3.5)."""
    async with served(tmp_path) as (service, at, c):
        service.headers["Cache-Control"] = said
        await warm(c, get("/a"))
        for _ in range(2):
            await c.ask(get("/a", "Cookie: a=b"))
        async with counting(at, ready):
            await c.ask(get("/a", "Cookie: a=b"))


async def test_a_condition_is_answered_each_time(tmp_path: Path) -> None:
    """304 to who has it, and all of it to who has another one."""
    async with served(tmp_path) as (service, at, c):
        service.headers["ETag"] = '"1"'
        await warm(c, get("/a"))
        for _ in range(3):
            assert (await c.ask(get("/a", 'If-None-Match: "1"'))).startswith(b"HTTP/1.1 304 ")
        for _ in range(3):
            assert (await c.ask(get("/a", 'If-None-Match: "2"'))).startswith(b"HTTP/1.1 200 ")
        service.headers["ETag"] = '"2"'
        await at.ask("PUT", "/a", headers={"Host": "users"}, json=2)
        assert (await c.ask(get("/a"))).startswith(b"HTTP/1.1 200 ")
        assert (await c.ask(get("/a", 'If-None-Match: "2"'))).startswith(b"HTTP/1.1 304 ")


async def test_who_is_proven_has_it_ready(tmp_path: Path) -> None:
    """With `access: token`, until the user is written or the token ends."""
    bearer = f"Authorization: Bearer {token_for(1)}"
    async with served(tmp_path) as (_, at, c):
        await c.ask(get("/users/1", bearer))
        for _ in range(4):
            await c.ask(get("/proven/a", bearer))
        async with counting(at, 1):
            assert b"X-Cache: HIT" in await c.ask(get("/proven/a", bearer))
            assert b"X-Cache: BYPASS" in await c.ask(get("/proven/a"))
            await at.app.cache.evict(["1"])
            assert b"X-Cache: BYPASS" in await c.ask(get("/proven/a", bearer))


async def test_large_ones_are_walked(tmp_path: Path) -> None:
    """What is kept ready is not bounded by bytes."""
    async with served(tmp_path) as (service, at, c):
        service.value = "x" * 20_000
        await warm(c, get("/a"))
        async with counting(at, 0):
            await c.ask(get("/a"))
