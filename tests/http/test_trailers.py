"""What comes behind a chunked body goes on to upstream, but for what would be another head."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from proxy.core.model import Reply, Request
from proxy.core.trailers import trailer_section
from proxy.steps.body import Tee
from proxy.upstream import HttpUpstream
from tests.http.test_forwarding import Wire
from tests.http.test_interim import served

CHUNK = b"2\r\nhi\r\n"
SAID = b"0\r\nX-Sum: 1\r\nHost-Name: a\r\nContent-Type: b\r\nSet-Cookie: c\r\nx-SUM: 2\r\n\r\n"
PASSED = b"0\r\nX-Sum: 1\r\nHost-Name: a\r\nx-SUM: 2\r\n\r\n"
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
