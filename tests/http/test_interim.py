"""What upstream says before its answer reaches the client before the answer, and never behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy.core.model import Reply, Request
from proxy.core.settings import UpstreamSettings
from proxy.handler import make_server
from proxy.hints import MOST
from proxy.upstream import HttpUpstream
from tests.http.test_forwarding import Script, Wire, scripted
from tests.walk import bench

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
PASSED = HINT + b"\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 2\r\n\r\nok"
ASK = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
Walk = Callable[[HttpUpstream, Request], Awaitable[Reply]]


async def forwarding(upstream: HttpUpstream, request: Request) -> Reply:
    """The walk that sends everything on."""
    return await upstream.send(request)


@asynccontextmanager
async def served(
    script: Script, walk: Walk = forwarding
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client of both edges, with a scripted service behind them."""
    async with scripted(script) as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url))

        async def walked(request: Request) -> Reply:
            return await walk(upstream, request)

        edge = make_server(walked)
        server = await asyncio.get_running_loop().create_server(edge, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            yield reader, writer
        finally:
            writer.close()
            server.close()
            await edge.shutdown(0.1)
            await upstream.close()


async def test_hints_come_before_the_answer_is_made() -> None:
    """103 and 102 and those yet unknown, without what is for one hop; 100 stays between neighbours."""
    taken = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        await wire.say(HINT + b"Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\n")
        await taken.wait()
        await wire.say(b"HTTP/1.1 199 Strange\r\n\r\n" + ANSWER)

    async with served(script) as (reader, writer):
        writer.write(ASK)
        first = b"HTTP/1.1 102 Processing\r\n\r\n" + PASSED
        assert first == await reader.readexactly(len(first))
        taken.set()
        rest = b"HTTP/1.1 199 \r\n\r\n" + ANSWER
        assert rest == await reader.readexactly(len(rest))


async def test_an_old_client_gets_the_answer_only() -> None:
    """HTTP/1.0 knows no interim answers: one would be taken for the answer."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(PASSED + ANSWER)

    async with served(script) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_hints_are_bounded() -> None:
    """Upstream may say any number."""

    async def script(wire: Wire) -> None:
        await wire.head()
        for _ in range(MOST + 5):
            await wire.say(PASSED)
        await wire.say(ANSWER)

    async with served(script) as (reader, writer):
        writer.write(ASK)
        said = await reader.readuntil(b"ok")
        assert 0 < said.count(HINT) <= MOST
        assert said.endswith(b"\r\n\r\n" + ANSWER)


async def test_nothing_is_said_behind_the_answer() -> None:
    """A hint for work that goes on behind the answer would be taken for the next answer."""
    behind: set[asyncio.Task[Reply]] = set()
    answered = asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.head()
            await answered.wait()
            await wire.say(PASSED + ANSWER)

    async def walk(upstream: HttpUpstream, request: Request) -> Reply:
        behind.add(asyncio.ensure_future(upstream.send(request)))
        return Reply(200, b"OK", ((b"Date", b"D"),), b"ok")

    async with served(script, walk) as (reader, writer):
        writer.write(ASK)
        assert ANSWER == await reader.readexactly(len(ANSWER))
        answered.set()
        await asyncio.gather(*behind)
        behind.clear()
        writer.write(ASK)
        assert ANSWER == await reader.readexactly(len(ANSWER))
        await asyncio.gather(*behind)


CACHED = """\
version: 1
upstream: {url: "{stub}"}
user: {id: id}
views: {users: {ttl: 60s, stale_while_revalidate: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users?ids={ids:list}", lookup: {by: id, many: ids, view: users}, access: anyone}
  - {match: "GET /{any:path}", resource: {}}
"""


@pytest.mark.parametrize("path", ["/users/1", "/page"])
async def test_who_fills_the_cache_hears_what_is_said_before(path: str, tmp_path: Path) -> None:
    """A proxy must forward it (RFC 9110 §15.2); the stored copy has nothing of it."""
    asked = 0

    async def said(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        assert request.transport is not None
        request.transport.write(PASSED)
        return web.json_response({"id": 1}, headers={"Cache-Control": "max-age=60"})

    upstream = web.Application()
    upstream.router.add_get("/{any:.*}", said)
    async with bench(routes=CACHED, tmp_path=tmp_path, upstream=upstream) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for hinted in (True, False):
            writer.write(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
            if hinted:
                assert PASSED == await reader.readexactly(len(PASSED))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"Link" not in head
            assert b'{"id":1}' == (await reader.readuntil(b"}")).replace(b" ", b"")
        writer.close()
    assert 1 == asked


async def test_of_a_question_that_the_client_has_not_asked_it_hears_nothing(tmp_path: Path) -> None:
    """The rest of a list is asked for by a URL of the proxy's own, the first time by the client's."""
    asked: list[str] = []

    async def said(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        assert request.transport is not None
        request.transport.write(PASSED)
        return web.json_response([{"id": int(one)} for one in request.query["ids"].split(",")])

    upstream = web.Application()
    upstream.router.add_get("/{any:.*}", said)
    async with bench(routes=CACHED, tmp_path=tmp_path, upstream=upstream) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for ids, hinted in (("1,2", True), ("1,2,3", False)):
            writer.write(b"GET /users?ids=%b HTTP/1.1\r\nHost: h\r\n\r\n" % ids.encode())
            if hinted:
                assert PASSED == await reader.readexactly(len(PASSED))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"]")
        writer.close()
    assert ["/users?ids=1,2", "/users?ids=3"] == asked
