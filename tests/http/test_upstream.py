"""The way to upstream: limits, sockets of other kinds, large bodies, and what it leans on in aiohttp."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import base_protocol, web

from proxy.core.errors import ConfigError, UpstreamBusy, UpstreamRefused
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.settings import UpstreamSettings
from proxy.handler import require_c_parser
from proxy.upstream import HttpUpstream
from tests.certificates import make_certificate
from tests.contract.kit import until
from tests.http.test_edge import edge, get, raw
from tests.origin import OK, Origin, origin

HOST = Headers(((b"Host", b"h"),))


async def test_a_caller_waits_for_a_connection_with_a_bound() -> None:
    """All connections are taken and none comes free in time: 503, and nothing was executed."""
    async with origin(silent=True) as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url, max_connections=1, connect_timeout=0.05))
        first = asyncio.ensure_future(upstream.send(Request("GET", "/", HOST)))
        await at.arrived.wait()

        with pytest.raises(UpstreamBusy) as caught:
            await upstream.send(Request("GET", "/", HOST))

        assert not caught.value.executed
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await upstream.close()


async def test_a_busy_upstream_tells_when_to_come_again() -> None:
    """503 as problem+json with Retry-After."""
    async with origin(silent=True) as at, edge(at, max_connections=1, connect_timeout=0.05) as place:
        _, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await at.arrived.wait()
        answer = await raw(place, get(b"/"))
        writer.close()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer


async def test_a_unix_socket_is_an_upstream(tmp_path: Path) -> None:
    """`unix:/path`."""
    at = Origin()
    server = await asyncio.start_unix_server(at.serve, tmp_path / "s")
    upstream = HttpUpstream(UpstreamSettings(url=f"unix:{tmp_path / 's'}"))

    reply = await upstream.send(Request("GET", "/a", HOST))

    assert (200, b"ok") == (reply.status, reply.body)
    await upstream.ping()
    await until(lambda: at.connections == 2)
    await upstream.close()
    server.close()
    await at.finish()


async def test_the_certificate_of_upstream_is_checked(tmp_path: Path) -> None:
    """An `https://` service that nobody vouches for is not talked to."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(make_certificate(tmp_path))
    at = Origin()
    server = await asyncio.start_server(at.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    upstream = HttpUpstream(UpstreamSettings(url=f"https://127.0.0.1:{port}"))

    with pytest.raises(UpstreamRefused):
        await upstream.send(Request("GET", "/", HOST))

    await upstream.close()
    server.close()
    await at.finish()


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h/path", "http://u:p@h", "h:80"])
async def test_other_addresses_are_mistakes(url: str) -> None:
    """Said at start, by the name of the field."""
    with pytest.raises(ConfigError, match=r"upstream\.url"):
        HttpUpstream(UpstreamSettings(url=url))


SIZE = 64 * 1024 * 1024
PIECE = b"0123456789abcdef" * 4096


async def test_large_bodies_pass_in_bounded_memory() -> None:
    """64 MiB up and down, whole, while the process grows by less than half of one of them."""

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            digest = hashlib.sha256()
            async for chunk in request.content.iter_any():
                digest.update(chunk)
            return web.Response(text=digest.hexdigest())
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(SIZE // len(PIECE)):
            await response.write(PIECE)
        return response

    runner = web.ServerRunner(web.Server(serve))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = site._server.sockets[0].getsockname()  # type: ignore[union-attr]

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SIZE // len(PIECE)):
            yield PIECE

    upstream = HttpUpstream(UpstreamSettings(url=f"http://127.0.0.1:{url[1]}"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    up = await upstream.send(Request("PUT", "/", HOST, pieces()))
    down = await upstream.send(Request("GET", "/", HOST))
    assert not isinstance(down.body, bytes)
    size = 0
    async for chunk in down.body:
        size += len(chunk)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert hashlib.sha256(PIECE * (SIZE // len(PIECE))).hexdigest().encode() == up.body
    assert SIZE == size
    assert grown * 1024 < SIZE / 2
    await upstream.close()
    await runner.cleanup()


async def test_an_answer_that_nobody_reads_does_not_block_the_pool() -> None:
    """A body that is closed early costs its connection, not the place in the pool."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"
    async with origin(long, OK) as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url, max_connections=1))
        reply = await upstream.send(Request("GET", "/", HOST))
        assert not isinstance(reply.body, bytes)
        await reply.body.aclose()  # type: ignore[attr-defined]

        again = await upstream.send(Request("GET", "/", HOST))

        assert (b"ok", 2) == (again.body, at.connections)
        await upstream.close()


async def test_a_connection_is_watched_and_only_used_again_when_all_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TCP finds out that a silent peer is gone; behind bytes that upstream has not taken nobody queues."""
    async with origin() as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url))
        await upstream.send(Request("GET", "/", HOST))
        ((connection, _),) = upstream._pool._idle
        transport = connection.transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

        monkeypatch.setattr(transport, "get_write_buffer_size", lambda: 1)
        for connections in (1, 2):
            await upstream.send(Request("GET", "/", HOST))
            assert connections == at.connections
        await upstream.close()


def test_what_is_leant_on_in_aiohttp_is_there() -> None:
    """aiohttp promises none of these; a release without them must fail here and not in a cluster."""
    require_c_parser()
    assert {"pause_reading", "resume_reading", "_drain_helper"} <= set(dir(base_protocol.BaseProtocol))
