"""A client that leaves in the middle of its upload: what came whole goes on, else upstream is free."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy import requestbody
from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import RequestBroken
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.settings import UpstreamSettings
from proxy.duplex import RESET
from proxy.requestbody import RequestBody
from proxy.steps import body as bodies
from proxy.upstream import HttpUpstream
from proxy.waiting import Waiting
from tests.contract.kit import until
from tests.http.test_duplex import unread
from tests.http.test_forwarding import Wire, scripted
from tests.walk import bench

# More than the kernel keeps on its way.
SIZE = 16_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LINES = Headers(((b"Host", b"h"), (b"Content-Length", b"%d" % SIZE)))


class Source:
    """A client's connection; `left`: so many bytes can still be read of one that has hung up."""

    def __init__(self, left: int | None = None) -> None:
        self.waiting = Waiting(2**30)
        self.left = left
        self.looked = self.aborted = 0

    def pause(self) -> None:
        """No more, please."""

    def resume(self) -> None:
        """Go on."""

    def proceed(self) -> None:
        """The body is wanted."""

    def remains(self) -> int | None:
        """See requestbody.Source."""
        self.looked += 1
        return self.left

    def abort(self) -> None:
        """Closed."""
        self.aborted += 1


@asynccontextmanager
async def busy(content: RequestBody) -> AsyncIterator[tuple[asyncio.Task[object], asyncio.Event, list[int]]]:
    """An upload to a service that takes nothing of it before it is told to, behind what is read of bodies."""
    began, go_on, got = asyncio.Event(), asyncio.Event(), []

    async def service(wire: Wire) -> None:
        await wire.head()
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        began.set()
        await go_on.wait()
        wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
        got.append(len(await wire.reader.readexactly(SIZE)))
        await wire.say(OK)

    async with scripted(service) as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url, timeout=60))
        rest = bodies.Rest([], bodies.Tee(content, 10))
        sending = asyncio.ensure_future(upstream.send(Request("PUT", "/", LINES, rest)))
        await began.wait()
        await until(lambda: not content._pieces)
        try:
            yield sending, go_on, got
        finally:
            go_on.set()
            sending.cancel()
            await upstream.close()


async def test_what_cannot_be_completed_frees_upstream_at_once() -> None:
    """Though it waits for a service that takes nothing."""
    content = RequestBody(Source(), SIZE, LimitSettings(), awaited=False)
    content.feed(bytes(SIZE - 1))
    async with busy(content) as (sending, _, _):
        assert not sending.done()
        content.leave()
        async with asyncio.timeout(5):
            with pytest.raises(RequestBroken):
                await sending


async def test_what_has_come_whole_goes_on() -> None:
    """A write that upstream may have begun comes to its end, whoever is there to hear of it."""
    content = RequestBody(Source(), SIZE, LimitSettings(), awaited=False)
    content.feed(bytes(SIZE))
    async with busy(content) as (sending, go_on, got):
        content.leave()
        go_on.set()
        await sending
    assert [SIZE] == got


@pytest.mark.parametrize(
    ("length", "left", "given_up"),
    [
        (SIZE, None, False),
        (SIZE, SIZE // 2, False),
        (SIZE, SIZE // 2 - 1, True),
        (None, 1, False),
        (None, 0, True),
    ],
    ids=["still there", "the rest is here", "a byte is missing", "chunks may be here", "no chunk is here"],
)
async def test_a_client_that_is_not_read_is_looked_after(
    length: int | None, left: int | None, given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up only where what the kernel still has of it cannot be the rest."""
    monkeypatch.setattr(requestbody, "LOOK", 0.001)
    source = Source(left)
    content = RequestBody(source, length, LimitSettings(), awaited=False)
    content.feed(bytes(SIZE // 2) if length else b"%x\r\n" % (SIZE // 2) + bytes(SIZE // 2) + b"\r\n")
    await until(lambda: source.looked > 2 or bool(source.aborted))
    assert given_up == bool(source.aborted)
    looked = source.looked
    content.throw_away()
    await until(lambda: not content._watched)
    assert source.looked <= looked + 1


@pytest.mark.parametrize("reset", [False, True])
async def test_what_remains_of_a_peer_that_has_left(reset: bool) -> None:
    """None while it is there; then what the kernel has of it."""
    async with unread() as (mine, peer):
        peer.sendall(b"0123456789")
        assert mine.remains() is None
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        await until(lambda: mine.remains() is not None)
        assert mine.remains() == 10
        mine.abort()
        await until(lambda: mine.gone)
        assert mine.remains() is None


async def test_a_client_that_leaves_a_stalled_upload_frees_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before any deadline."""
    monkeypatch.setattr(requestbody, "LOOK", 0.02)
    go_on = asyncio.Event()

    async def deaf(request: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    upstream = web.Application()
    upstream.router.add_put("/{any:.*}", deaf)
    routes = 'version: 1\nupstream: {url: "{stub}", timeout: 60s}\n'
    async with bench(routes=routes, tmp_path=tmp_path, upstream=upstream) as at:
        loop = asyncio.get_running_loop()
        host, _, port = at.url.removeprefix("http://").partition(":")
        client = socket.create_connection((host, int(port)))
        client.setblocking(False)
        upload = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE - 1)
        sending = asyncio.ensure_future(loop.sock_sendall(client, upload))
        try:
            await until(lambda: at.app.operators.duties.upstream()["in_use"] == 1)
            await until(lambda: any(one._paused for one in at.app.server.connections))
            sending.cancel()
            # An end that is queued behind what nobody reads is not seen, a reset is.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            await until(lambda: not at.app.operators.duties.upstream()["in_use"])
            await until(lambda: not at.app.server.connections)
        finally:
            go_on.set()


async def test_an_answer_that_came_early_is_not_cut() -> None:
    """What becomes of the request's body concerns it no more."""
    go_on = asyncio.Event()

    async def service(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\no")
        await go_on.wait()
        await wire.say(b"k")

    async with scripted(service) as at:
        content = RequestBody(Source(), SIZE, LimitSettings(), awaited=False)
        reply = await at.upstream.send(Request("PUT", "/", LINES, content))
        content.leave()
        go_on.set()
        assert not isinstance(reply.body, bytes)
        assert b"ok" == b"".join([piece async for piece in reply.body])
