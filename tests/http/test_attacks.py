"""Attacks on both edges of the whole proxy: by bytes of a client, and by bytes of a service.

Whatever is sent, upstream gets the requests that were meant and no other, and a client gets its own answer or
an error, never a part of another's.
"""

# ruff: noqa: E501 - messages are easier to compare on one line

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.app import compose
from proxy.config import load

ROUTES = """\
version: 1
upstream: {connect_timeout: 5s, head_timeout: $patience, idle_timeout: $patience}
user: {id: id}
views: {users: {ttl: 60s}}
limits: {head_timeout: $patience, body_timeout: $patience}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /kept/{any:path}", resource: {}}
  - {match: "GET /passed/{any:path}", pass: true}
"""
PLACES = ("/users/1", "/kept/a", "/passed/a", "/nowhere")
NEXT = b"GET /nowhere/next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass
class Service:
    """Answers each request with its path, but those for the path under attack with `said`; `last`: and then
    ends the connection."""

    said: bytes = b""
    attacked: bytes = b"/bad"
    last: bool = False
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                if b"chunked" in head.lower():
                    while not (await reader.readuntil(b"\r\n\r\n")).endswith(b"0\r\n\r\n"):
                        pass
                path = head.split(b" ")[1]
                body = b'{"id":1,"path":"%b"}' % path
                told = (
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (
                        len(body),
                        body,
                    )
                )
                writer.write(self.said if path == self.attacked else told)
                await writer.drain()
                if self.last and path == self.attacked:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @property
    def targets(self) -> list[bytes]:
        """Of the requests that came."""
        return [head.split(b" ")[1] for head in self.heads]


@asynccontextmanager
async def attacked(
    tmp_path: Path, service: Service, patience: str = "500ms"
) -> AsyncIterator[tuple[str, int]]:
    """The whole proxy in front of that service; a connection between the two lies idle."""
    upstream = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("$patience", patience))
    environ = {
        "UPSTREAM_URL": f"http://127.0.0.1:{port}",
        "ROUTES_FILE": str(tmp_path / "routes.yaml"),
        "LISTEN": "127.0.0.1:0",
        "ADMIN_LISTEN": "127.0.0.1:1",
    }
    async with compose(load(environ)) as app:
        server = await asyncio.get_running_loop().create_server(app.server, "127.0.0.1", 0)
        place = server.sockets[0].getsockname()[:2]
        try:
            await exchange(place, NEXT)
            service.heads.clear()
            yield place
        finally:
            server.close()
            await app.server.shutdown(0.1)
            upstream.close()


async def exchange(place: tuple[str, int], sent: bytes) -> bytes:
    """All that is said to these bytes until the connection ends."""
    reader, writer = await asyncio.open_connection(*place)
    said = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(30):
            while piece := await reader.read(65536):
                said += piece
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return said


def statuses(said: bytes) -> list[int]:
    """Of the answers in what was said."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", said)]


POST = b"POST /x HTTP/1.1\r\nHost: h\r\n"
REQUESTS = {
    "CL.TE": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE.CL": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n"
    + SMUGGLED
    + b"\r\n0\r\n\r\n",
    "TE of two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE with obs-text": POST + b"Transfer-Encoding: chunked\xa0\r\n\r\n0\r\n\r\n",
    "TE behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE behind a tab": POST + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "TE with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "TE with a blank in its name": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE hidden by a CR": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE hidden by an LF": POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE on HTTP/1.0": b"POST /x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL with a sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "CL below zero": POST + b"Content-Length: -1\r\n\r\n",
    "CL in hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "CL with a point": POST + b"Content-Length: 5.0\r\n\r\nhello",
    "CL with an underscore": POST + b"Content-Length: 1_0\r\n\r\n" + b"x" * 10,
    "CL of other digits": POST + b"Content-Length: \xef\xbc\x95\r\n\r\nhello",
    "CL twice alike": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "CL as a list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL empty": POST + b"Content-Length:\r\n\r\n",
    "CL over 2^63": POST + b"Content-Length: 9223372036854775808\r\n\r\n",
    "two Hosts": b"GET /x HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
    "two Hosts alike": b"GET /x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "a list of Hosts": b"GET /x HTTP/1.1\r\nHost: h, other\r\n\r\n",
    "a Host with a path": b"GET /x HTTP/1.1\r\nHost: h/x\r\n\r\n",
    "a Host with a user": b"GET /x HTTP/1.1\r\nHost: u@h\r\n\r\n",
    "another absolute form": b"GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "an absolute form with a user": b"GET http://h@other/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "another scheme": b"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
    "CONNECT to a path": b"CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "TRACE": b"TRACE /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "authority form": b"GET h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
    "a star": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "HTTP/0.9": b"GET /x\r\n\r\n",
    "HTTP/2.0": b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP in lower case": b"GET /x http/1.1\r\nHost: h\r\n\r\n",
    "two blanks": b"GET  /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tab for a blank": b"GET\t/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank in the target": b"GET /x y HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank behind the version": b"GET /x HTTP/1.1 \r\nHost: h\r\n\r\n",
    "a method with a slash": b"G/T /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a first line that is folded": b"GET /x HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n",
    "a folded line": b"GET /x HTTP/1.1\r\nHost: h\r\nX: 1\r\n\t2\r\n\r\n",
    "a blank before a colon": b"GET /x HTTP/1.1\r\nHost : h\r\n\r\n",
    "a line without a name": b"GET /x HTTP/1.1\r\nHost: h\r\n: 1\r\n\r\n",
    "a line without a colon": b"GET /x HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
    "a NUL": b"GET /x HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n",
    "a NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a name beyond ASCII": b"GET /x HTTP/1.1\r\nHost: h\r\nX\xe9: 1\r\n\r\n",
    "a bare CR": b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
    "a bare LF": b"GET /x HTTP/1.1\nHost: h\n\n",
    "an end of LFs": b"GET /x HTTP/1.1\r\nHost: h\r\nX: 1\n\n",
    "CR CR LF": b"GET /x HTTP/1.1\r\r\nHost: h\r\r\n\r\r\n",
    "a long target": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a long line": b"GET /x HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    "a long head": b"GET /x HTTP/1.1\r\nHost: h\r\n" + b"X: %b\r\n" % (b"x" * 10_000) * 7 + b"\r\n",
    "many lines": b"GET /x HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_is_none_reaches_nobody(name: str, tmp_path: Path) -> None:
    """One refusal, a closed connection, and what is sent behind it is not listened to."""
    service = Service()
    async with attacked(tmp_path, service) as place:
        said = await exchange(place, REQUESTS[name] + SMUGGLED + NEXT)

    assert [] == service.heads
    assert 1 == len(statuses(said))
    assert statuses(said)[0] in (400, 405, 414, 431)
    assert b"\r\nConnection: close\r\n" in said


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size below zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\nhellohellohello!\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size over 2^64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size over 2^63": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a size that ends in an LF": b"5\nhello\r\n0\r\n\r\n",
    "a size that ends in a CR": b"5\rhello\r\n0\r\n\r\n",
    "an extension with an LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "an extension with a CR": b"5;a=b\rc\r\nhello\r\n0\r\n\r\n",
    "an extension with an LF in quotes": b'5;a="\n"\r\nhello\r\n0\r\n\r\n',
    "an extension without a name": b"5;=b\r\nhello\r\n0\r\n\r\n",
    "a long extension": b"5;a=" + b"b" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    "a blank behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a chunk that is too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "a chunk that is too short": b"6\r\nhello\r\n0\r\n\r\n",
    "no line end behind a chunk": b"5\r\nhello0\r\n\r\n",
    "an LF behind a chunk": b"5\r\nhello\n0\r\n\r\n",
    "two bytes that are no line end": b"5\r\nhelloXX0\r\n\r\n",
    "a folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
    "a length for a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding for a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a Host for a trailer": b"0\r\nHost: other\r\n\r\n",
    "a trailer that ends in LFs": b"0\r\nX: 1\n\n",
    "a request for trailers": b"0\r\n" + SMUGGLED,
    "many trailers": b"0\r\n" + b"X: 1\r\n" * 40 + b"\r\n",
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_none_is_no_request(name: str, tmp_path: Path) -> None:
    """Upstream never gets the end of it, and nothing that stands in it or behind it."""
    service = Service()
    async with attacked(tmp_path, service) as place:
        said = await exchange(place, CHUNKED + BODIES[name] + SMUGGLED + NEXT)

    assert set(service.targets) <= {b"/x"}
    assert statuses(said) in ([400], [408])
    assert b"\r\nConnection: close\r\n" in said


HARMLESS = {
    "an extension": CHUNKED + b'5;a=b;c="d;\\"";e\r\nhello\r\n0;f\r\n\r\n',
    "zeros before a size": CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n",
    "obs-text in a value": POST + b"X: \xff\xfe\r\nContent-Length: 5\r\n\r\nhello",
    "obs-text in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    "a coding in capitals": POST + b"TRANSFER-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "zeros before a length": POST + b"Content-Length: 0005\r\n\r\nhello",
    "a GET with a body": b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    + SMUGGLED,
    "a request for content": POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a length that Connection names": POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "a coding that Connection names": POST
    + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "h2c": b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "a WebSocket that nobody agrees to": b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "an upgrade with a body": POST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
    "our own absolute form": b"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_is_strange_and_clear_is_one_request(name: str, tmp_path: Path) -> None:
    """It reaches upstream once, and the request behind it is the next one."""
    service = Service()
    async with attacked(tmp_path, service) as place:
        said = await exchange(place, HARMLESS[name] + NEXT)

    assert [b"/nowhere/next"] == service.targets[1:]
    assert [200, 200] == statuses(said)
    assert said.endswith(b'"/nowhere/next"}')
    assert not re.search(rb"(?i)\r\n(upgrade|http2-settings): h2c", service.heads[0])


OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
ANSWERS = {
    "CL and TE": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL,
    "two CL": OK + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\nok" + EVIL,
    "two CL alike": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of CL": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "CL with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "CL below zero": OK + b"Content-Length: -2\r\n\r\nok",
    "CL over 2^63": OK + b"Content-Length: 9223372036854775808\r\n\r\nok",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nok",
    "two codings": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + EVIL,
    "TE on HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": OK + b"X: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "a line that is a fold": OK + b" X: 1\r\nContent-Length: 2\r\n\r\nok",
    "a blank before a colon": OK + b"Content-Length : 2\r\n\r\nok",
    "a NUL": OK + b"X: \0\r\nContent-Length: 2\r\n\r\nok",
    "a bare CR": OK + b"X: a\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok",
    "a line without a colon": OK + b"X\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1 \r\nContent-Length: 2\r\n\r\nok",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
    "another protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "a 101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    + EVIL,
    "a head over the limit": OK + b"X: %b\r\n" % (b"x" * 10_000) * 8 + b"Content-Length: 2\r\n\r\nok",
    "a line over the limit": OK + b"X: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "a head without an end": OK + b"X: 1\r\n",
    "nothing": b"",
    "interim answers without an end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
}


async def asked(answer: bytes, tmp_path: Path) -> AsyncIterator[bytes]:
    """What a client gets who asks for something that is answered so, and then for the next thing: by each route."""

    async def ask(number: int, path: bytes) -> bytes:
        folder = tmp_path / str(number)
        folder.mkdir()
        async with attacked(folder, Service(answer, path)) as place:
            return await exchange(place, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path + NEXT)

    # At once: some wait for a deadline.
    for said in await asyncio.gather(*(ask(number, path.encode()) for number, path in enumerate(PLACES))):
        yield said


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_none_is_an_error(name: str, tmp_path: Path) -> None:
    """502, or 504 where nothing ends; the next answer on the client's connection is its own."""
    async for said in asked(ANSWERS[name], tmp_path):
        final = [status for status in statuses(said) if status >= 200]
        assert final in ([502, 200], [504, 200])
        assert b"EVIL" not in said
        assert b"evil" not in said
        assert said.endswith(b'"/nowhere/next"}')


SPLIT = {
    "another answer behind it": OK + b"Content-Length: 2\r\n\r\nok" + EVIL,
    "another answer behind its chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL,
    "content of a 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n" + EVIL,
    "content of a 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + EVIL,
    "an interim answer and more": b"HTTP/1.1 102 Processing\r\n\r\n"
    + OK
    + b"Content-Length: 2\r\n\r\nok"
    + EVIL,
}


@pytest.mark.parametrize("name", SPLIT)
async def test_an_answer_ends_where_it_says(name: str, tmp_path: Path) -> None:
    """What follows belongs to nobody, and the connection that it came on is not used again."""
    async for said in asked(SPLIT[name], tmp_path):
        assert [statuses(SPLIT[name].removesuffix(EVIL))[-1], 200] == [n for n in statuses(said) if n >= 200]
        assert b"EVIL" not in said
        assert said.endswith(b'"/nowhere/next"}')


BROKEN = {
    "chunks that stop": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    "a chunk with a bad size": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n-2\r\n",
    "a chunk with a bad end": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
    "content that stops": OK + b"Content-Length: 20\r\n\r\nok",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_breaks_off_has_no_end(name: str, tmp_path: Path) -> None:
    """Either nothing of it was sent, and it is an error; or the client's connection breaks as well."""
    async for said in asked(BROKEN[name], tmp_path):
        if statuses(said)[0] == 200:
            assert [200] == statuses(said)
            assert not said.endswith(b"\r\n0\r\n\r\n")
        else:
            assert [200] == statuses(said)[1:]
            assert statuses(said)[0] in (502, 504)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_via_names_the_version_that_was_spoken(version: bytes, tmp_path: Path) -> None:
    """By the service, whatever the client speaks (RFC 9110 §7.6.3)."""
    answer = b"HTTP/%b 200 OK\r\nContent-Length: 2\r\n\r\nok" % version
    async with attacked(tmp_path, Service(answer, b"/nowhere/old")) as place:
        said = await exchange(place, b"GET /nowhere/old HTTP/1.1\r\nHost: h\r\n\r\n" + NEXT)

    assert [version, b"1.1"] == re.findall(rb"\r\nVia: ([\d.]+) user-cache-proxy\r\n", said)
