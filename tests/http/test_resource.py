"""Resources under races, several readers and several replicas: what a table of steps can't show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.answer import Answer
from tests.valkey import Valkey
from tests.walk import Bench, bench

ROUTES = """\
version: 1
upstream: {url: "{stub}"}
resources: {memory: 4KiB}
routes:
  - {match: "GET /r/{any:path}", resource: {}}
"""


class Origin:
    """A value per path; a read of it takes its answer when it comes, and gives it when it is let go."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.reads = 0
        self.held: asyncio.Event | None = None
        self.write_held: asyncio.Event | None = None
        self.came = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        value = self.values.get(request.path, "first")
        if request.method == "PUT":
            self.came.set()
            if self.write_held is not None:
                await self.write_held.wait()
            self.values[request.path] = await request.text()
            return web.Response(status=204)
        self.reads += 1
        self.came.set()
        if self.held is not None:
            await self.held.wait()
        headers = {"Cache-Control": "max-age=60"}
        if request.path.startswith("/r/varied"):
            headers["Vary"] = "Foo"
            value += request.headers.get("Foo", "")
        return web.Response(text=value, headers=headers)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """One server for the module."""
    with Valkey() as started:
        yield started


@pytest.fixture(params=[None, "redis"])
def redis(request: pytest.FixtureRequest, server: Valkey) -> str | None:
    """Memory alone, or a shared store that is empty."""
    if request.param is None:
        return None
    server.flush()
    return server.url


@asynccontextmanager
async def proxies(
    tmp_path: Path, redis: str | None, count: int = 1
) -> AsyncIterator[tuple[Origin, list[Bench]]]:
    """Replicas in front of one origin."""
    origin = Origin()
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            app = web.Application()
            app.router.add_route("*", "/{any:.*}", origin.answer)
            folder = tmp_path / str(number)
            folder.mkdir()
            found.append(
                await stack.enter_async_context(
                    bench(routes=ROUTES, tmp_path=folder, redis=redis, upstream=app)
                )
            )
        yield origin, found


async def put(one: Bench, path: str, text: str) -> Answer:
    """A write through the proxy."""
    async with one.session.put(one.url + path, data=text) as response:
        return Answer(response.status, response.headers, await response.read())


async def test_a_slow_fill_does_not_outlive_a_write(tmp_path: Path, redis: str | None) -> None:
    """What was read from upstream before a write ended is never stored after it (design §7.1)."""
    async with proxies(tmp_path, redis) as (origin, (one,)):
        origin.held = asyncio.Event()
        slow = asyncio.create_task(one.get("/r/a"))
        await origin.came.wait()
        assert 204 == (await put(one, "/r/a", "second")).status
        origin.held.set()
        origin.held = None

        assert b"first" == (await slow).body
        assert b"second" == (await one.get("/r/a")).body
        assert b"second" == (await one.get("/r/a")).body
        assert 2 == origin.reads


async def test_nothing_is_served_from_the_cache_during_a_write(tmp_path: Path, redis: str | None) -> None:
    """Nobody knows yet which version is right, so upstream is asked (design §7.3)."""
    async with proxies(tmp_path, redis) as (origin, (one,)):
        await one.get("/r/a")
        origin.came.clear()
        held = origin.write_held = asyncio.Event()
        write = asyncio.create_task(put(one, "/r/a", "second"))
        await origin.came.wait()

        assert ("MISS", 2) == ((await one.get("/r/a")).x_cache, origin.reads)
        held.set()
        assert 204 == (await write).status
        assert b"second" == (await one.get("/r/a")).body


async def test_a_cold_url_costs_one_call(tmp_path: Path, redis: str | None) -> None:
    """All who ask meanwhile share what is stored, also where the answer turns out to vary."""
    async with proxies(tmp_path, redis) as (origin, (one,)):
        for path, expected in (("/r/a", 1), ("/r/varied", 2)):
            origin.reads = 0
            origin.held = asyncio.Event()
            origin.came.clear()
            asked = [
                asyncio.create_task(one.get(path, headers={"Foo": str(n % expected)})) for n in range(20)
            ]
            await origin.came.wait()
            # The others have nothing to wait for but the first.
            await asyncio.sleep(0)
            origin.held.set()
            origin.held = None
            answers = await asyncio.gather(*asked)

            assert {200} == {answer.status for answer in answers}
            assert expected == origin.reads
            assert expected == len({answer.body for answer in answers})


async def test_a_write_through_one_replica_is_seen_on_the_other(tmp_path: Path, server: Valkey) -> None:
    """A read that starts after the write was answered sees it, from memory as well (design §7.5)."""
    server.flush()
    async with proxies(tmp_path, server.url, 2) as (_, (one, other)):
        for path in ("/r/a", "/r/varied"):
            for replica in (one, other, other):
                await replica.get(path)
            assert "HIT" == (await other.get(path)).x_cache
            assert 204 == (await put(one, path, "second")).status
            assert b"second" == (await other.get(path)).body
            assert b"second" == (await one.get(path)).body


async def test_an_endless_answer_is_passed_on_as_it_comes(tmp_path: Path) -> None:
    """Server-sent events are not kept back until they end, which they never do."""
    first = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "max-age=9"}
        )
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await first.wait()
        return answer

    app = web.Application()
    app.router.add_get("/r/events", events)
    async with (
        bench(routes=ROUTES, tmp_path=tmp_path, upstream=app) as one,
        one.session.get(one.url + "/r/events") as response,
    ):
        assert b"data: 1\n\n" == await asyncio.wait_for(response.content.read(9), 5)
        first.set()
        assert "endless" in response.headers["Cache-Status"]


async def test_memory_is_bounded_by_bytes(tmp_path: Path) -> None:
    """The least recently used resources go first."""
    async with proxies(tmp_path, None) as (origin, (one,)):
        origin.values = {f"/r/{n}": "x" * 1000 for n in range(8)}
        for number in range(8):
            await one.get(f"/r/{number}")

        assert "HIT" == (await one.get("/r/7")).x_cache
        assert "MISS" == (await one.get("/r/0")).x_cache
        assert one.app.cache.store.stats.bytes <= 4096  # type: ignore[attr-defined]


async def test_another_host_has_its_own_copy_and_is_dropped_with_it(tmp_path: Path) -> None:
    """The host is a part of the URL; a write under one of its names counts for all of them."""
    async with proxies(tmp_path, None) as (origin, (one,)):
        await one.get("/r/a")
        await one.get("/r/a", headers={"Host": "other.example"})
        assert 2 == origin.reads
        await put(one, "/r/a", "second")

        assert b"second" == (await one.get("/r/a", headers={"Host": "other.example"})).body
