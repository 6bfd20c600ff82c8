"""What comes behind a chunked body goes on, both ways, but for what would be another head."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from proxy.core.forwarding import forwarded
from proxy.core.headers import Headers
from proxy.core.model import Reply, Request
from proxy.core.representation import stored_headers
from proxy.core.trailers import trailer_section
from proxy.steps.body import Tee, read
from proxy.upstream import HttpUpstream
from tests.http.test_forwarding import Wire
from tests.http.test_interim import served

CHUNK = b"2\r\nhi\r\n"
SAID = b"0\r\nX-Sum: 1\r\nHost-Name: a\r\nContent-Type: b\r\nSet-Cookie: c\r\nx-SUM: 2\r\n\r\n"
PASSED = b"0\r\nX-Sum: 1\r\nHost-Name: a\r\nx-SUM: 2\r\n\r\n"
ANNOUNCED = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "name",
    [
        *(b"Authorization", b"x_forwarded_for", b"Connection", b"X-HTTP-Method-Override", b"If-Match"),
        *(b"Transfer-Encoding", b"CONTENT-LENGTH", b"Host", b"Cache-Control", b"Cookie", b"Trailer"),
    ],
)
def test_what_belongs_into_a_head_ends_here(name: bytes) -> None:
    """However it is spelled."""
    assert b"0\r\nA: 1\r\n\r\n" == trailer_section(((name, b"x"), (b"A", b"1")))


@pytest.mark.parametrize("write", [False, True])
async def test_a_requests_trailers_reach_upstream(*, write: bool) -> None:
    """In their order and case, behind a body of which a write keeps a copy as well."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(wire: Wire) -> None:
        await wire.head()
        heard.set_result(await wire.reader.readuntil(b"\r\n\r\n"))
        await wire.say(OK)

    async def walk(upstream: HttpUpstream, request: Request) -> Reply:
        assert request.body is not None
        body = Tee(request.body, 100) if write else request.body
        return await upstream.send(replace(request, body=body))

    async with served(script, walk) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + SAID)
        assert OK == await reader.readexactly(len(OK))
        assert CHUNK + PASSED == await heard


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_an_answers_trailers_reach_the_client(size: int) -> None:
    """In whatever pieces they come, announced; the connections of both sides go on."""
    connections = 0

    async def script(wire: Wire) -> None:
        nonlocal connections
        connections += 1
        said = ANNOUNCED + CHUNK + SAID
        while await wire.head():
            for at in range(0, len(said), size):
                await wire.say(said[at : at + size])
                await asyncio.sleep(0)

    async with served(script) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert ANNOUNCED == await reader.readuntil(b"\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).endswith(b"\r\n" + PASSED)
    assert 1 == connections


async def test_trailers_pass_a_body_that_was_begun_with() -> None:
    """Where an answer turned out too large to be looked into."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(ANNOUNCED + CHUNK + SAID)

    async def walk(upstream: HttpUpstream, request: Request) -> Reply:
        reply = await upstream.send(request)
        return replace(reply, body=await read(reply, 1))

    async with served(script, walk) as (reader, writer):
        writer.write(GET)
        assert (ANNOUNCED + CHUNK + PASSED) == await reader.readexactly(len(ANNOUNCED + CHUNK + PASSED))


async def test_an_old_client_gets_no_trailers() -> None:
    """On HTTP/1.0 there are no chunks that they could follow."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(ANNOUNCED + CHUNK + SAID)

    async with served(script) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read(-1)).endswith(b"Connection: close\r\n\r\nhi")


@pytest.mark.parametrize(
    "said",
    [b"0\r\n" + b"X: y\r\n" * 33 + b"\r\n", b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n", b"0\r\nX : 1\r\n\r\n"],
)
async def test_trailers_that_are_none_break_the_answer(said: bytes) -> None:
    """Too many, too long or no fields: the client sees no end, and nobody gets the connection."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(ANNOUNCED + CHUNK + said)

    async with served(script) as (reader, writer):
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)


@pytest.mark.parametrize(
    ("te", "version", "fill", "said"),
    [
        (b"trailers", "1.1", False, True),
        (b"gzip;q=0.5, Trailers", "1.1", False, True),
        (b"trailers", "1.0", False, False),
        (b"trailers", "1.1", True, False),
        (b"gzip", "1.1", False, False),
        (b"xtrailers", "1.1", False, False),
    ],
)
def test_upstream_hears_who_takes_trailers(te: bytes, version: str, *, fill: bool, said: bool) -> None:
    """`TE` is between neighbours: it is said anew, and nothing of it but the one word."""
    request = Request("GET", "/", Headers(((b"TE", te), (b"Trailer", b"X"))), http_version=version)
    lines = forwarded(request, fill=fill).headers.raw
    assert said == (lines[-2:] == ((b"Connection", b"TE"), (b"TE", b"trailers")))
    assert said == any(name == b"TE" for name, _ in lines)
    assert fill == ((b"Trailer", b"X") not in lines)


def test_a_stored_copy_announces_nothing() -> None:
    """What comes behind the content is not kept, and so neither is what announces it (RFC 9111 §3)."""
    lines = ((b"Trailer", b"X-Sum"), (b"X", b"1"))
    assert ((b"X", b"1"),) == stored_headers(Headers(lines), changed=False, body=b"")
