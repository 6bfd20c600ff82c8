"""What waits in all connections' buffers together has a bound: beyond it nothing new is begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.model import Reply, Request
from proxy.core.settings import UpstreamSettings
from proxy.handler import EdgeServer, Line
from proxy.steps import body as bodies
from proxy.upstream import HttpUpstream
from proxy.waiting import Share, Waiting
from tests.contract.kit import until
from tests.http.test_connection_figures import metric, told
from tests.http.test_forwarding import Wire, scripted
from tests.walk import bench

LIMIT = 300_000
GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
# More than the kernel keeps on its way.
SIZE = 16_000_000
PUT = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE
UPLOAD = PUT + bytes(SIZE)
HEAD_END = b"\r\n\r\n"


class Place:
    """A proxy with little room in front of a service that is told when to go on."""

    def __init__(self, waiting: Waiting, port: int) -> None:
        self.waiting = waiting
        self._port = port
        self.go_on = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has sent this, and reads nothing of its own accord."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1024)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def asked(self) -> bytes:
        """The answer to a plain request."""
        reader, _ = await self.client(GET)
        return await reader.read(-1)

    async def filled(self, sent: bytes) -> None:
        """Clients of that kind come until there is no more room."""
        for _ in range(100):
            if self.waiting.full:
                return
            await self.client(sent)
            before = self.waiting.count
            await until(lambda before=before: self.waiting.count > before or self.waiting.full)  # type: ignore[misc]


@asynccontextmanager
async def small() -> AsyncIterator[Place]:
    """Both edges of a proxy."""

    async def service(wire: Wire) -> None:
        while True:
            head = await wire.head()
            if head.startswith(b"PUT"):
                wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await place.go_on.wait()
                wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
                await wire.reader.readexactly(SIZE)
            elif b"GET /large" in head:
                await wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                await wire.say(bytes(SIZE))
                continue
            await wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with scripted(service) as at:
        waiting = Waiting(LIMIT)
        upstream = HttpUpstream(UpstreamSettings(url=at.url), waiting)

        async def walk(request: Request) -> Reply:
            return await upstream.send(request)

        edge = EdgeServer(Line(walk, LimitSettings(memory=LIMIT), EdgeSettings(), None), waiting)
        server = await asyncio.get_running_loop().create_server(edge, "127.0.0.1", 0)
        place = Place(waiting, server.sockets[0].getsockname()[1])
        try:
            yield place
        finally:
            place.go_on.set()
            for writer in place.writers:
                writer.transport.abort()
            server.close()
            await edge.shutdown(0.1)
            await upstream.close()
    assert 0 == waiting.count


@pytest.mark.parametrize(
    "sent",
    [
        UPLOAD,
        b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 16_000 + b"\r\nY: " + b"y" * 16_000,
    ],
    ids=["bodies nobody takes", "answers nobody takes", "heads that do not end"],
)
async def test_a_full_house_takes_nobody(sent: bytes) -> None:
    """503 with Retry-After as long as it is full, and never much more than the limit."""
    async with small() as place:
        assert (await place.asked()).startswith(b"HTTP/1.1 200 ")
        await place.filled(sent)
        refused = await place.asked()

        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in refused
        assert b"problem:overloaded" in refused
        assert place.waiting.count < 3 * LIMIT

        place.go_on.set()
        for writer in place.writers:
            writer.transport.abort()
        await until(lambda: not place.waiting.full)
        assert (await place.asked()).startswith(b"HTTP/1.1 200 ")


async def test_what_has_begun_comes_to_its_end() -> None:
    """A full house is emptied by those who are in it."""
    async with small() as place:
        reader, _ = await place.client(UPLOAD)
        await place.filled(UPLOAD)
        place.go_on.set()

        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 200 ")
        assert b"ok" == await reader.readexactly(2)


def test_a_share_is_given_back() -> None:
    """Whatever becomes of its holder."""
    waiting = Waiting(10)
    share, other = Share(waiting), Share(waiting)
    share.hold(7)
    assert not share.too_much(7)
    assert share.too_much(6)
    other.hold(3)
    assert waiting.full
    assert share.too_much(100)
    del share
    assert 3 == waiting.count
    other.hold(0)
    assert not other.too_much(0)
    assert 0 == waiting.count


async def test_the_limit_is_that_of_the_settings_in_force() -> None:
    """What is held stays counted when they change."""

    async def nobody(request: Request) -> Reply:
        raise AssertionError(request)

    def line(memory: int) -> Line:
        return Line(nobody, LimitSettings(memory=memory), EdgeSettings(), None)

    edge = EdgeServer(line(10))
    share = Share(edge.waiting)
    share.hold(7)
    assert not edge.waiting.full
    edge.follow(line(5))
    assert edge.waiting.full
    edge.follow(line(8))
    assert (False, 7) == (edge.waiting.full, edge.waiting.count)


WHOLE = 700_000
ROUTES = """\
version: 1
upstream: {url: "{stub}"}
user: {max_size: 1MiB}
views: {users: {ttl: 60s}}
limits: {memory: 1MiB}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /kept/{any:path}", resource: {}}
"""


@pytest.mark.parametrize("path", ["/kept/%d", "/users/%d"])
async def test_what_is_read_whole_counts(path: str, tmp_path: Path) -> None:
    """Bodies that are to be stored, or looked into, wait for their end; counters and metrics show it."""
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Cache-Control": "max-age=60", "Content-Length": str(WHOLE)})
        await answer.prepare(request)
        await answer.write(bytes(WHOLE - 1))
        await go_on.wait()
        await answer.write(b"\0")
        return answer

    upstream = web.Application()
    upstream.router.add_get("/{any:.*}", slow)
    async with bench(routes=ROUTES, tmp_path=tmp_path, upstream=upstream) as at:
        waiting = at.app.server.waiting
        asked = [asyncio.ensure_future(at.get(path % number)) for number in (1, 2)]
        await until(lambda: waiting.count >= 2 * (WHOLE - 1))
        refused = await at.get(path % 3)
        assert (503, "1") == (refused.status, refused.headers["Retry-After"])
        now = (await told(at))["client"]
        assert (waiting.count, 1024 * 1024) == (now["waiting_bytes"], now["waiting_bytes_limit"])
        assert now["waiting_bytes"] == await metric(at, "client_waiting_bytes")
        assert 1024 * 1024 == await metric(at, "client_waiting_bytes_limit")
        go_on.set()
        assert [WHOLE, WHOLE] == [len((await one).body) for one in asked]
        assert 0 == waiting.count


async def test_a_copy_of_a_written_body_counts(tmp_path: Path) -> None:
    """What is kept of an upload for the users in it, until it has passed."""
    go_on = asyncio.Event()

    async def taking(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def sent() -> AsyncIterator[bytes]:
        yield bytes(300_000)
        await go_on.wait()
        yield b"\0"

    upstream = web.Application(client_max_size=2**30)
    upstream.router.add_put("/{any:.*}", taking)
    async with bench(routes=ROUTES, tmp_path=tmp_path, upstream=upstream) as at:
        waiting = at.app.server.waiting
        asked = asyncio.ensure_future(at.session.put(at.url + "/users/1", data=sent()))
        await until(lambda: waiting.count >= 300_000)
        go_on.set()
        assert "300001" == await (await asked).text()
        await until(lambda: waiting.count == 0)


async def test_what_is_too_large_to_be_read_whole_counts_until_it_has_passed() -> None:
    """The beginning that was read goes out first, piece by piece."""
    waiting = Waiting(10)

    class Pieces:
        def __init__(self) -> None:
            self.waiting = waiting
            self.left = [b"12", b"34", b"5"]

        def __aiter__(self) -> Pieces:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    rest = await bodies.read(Reply(200, "", (), Pieces()), 3)
    assert isinstance(rest, bodies.Rest)
    assert 4 == waiting.count
    assert b"12345" == b"".join([piece async for piece in rest])
    assert 0 == waiting.count
    rest = await bodies.read(Reply(200, "", (), Pieces()), 3)
    assert isinstance(rest, bodies.Rest)
    await rest.aclose()
    assert 0 == waiting.count
