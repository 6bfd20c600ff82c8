"""The clients' edge by itself: a walk of the test's own stands where the pipeline stands."""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy import client as clients
from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientError, ClientGone, UpstreamTimeout
from proxy.core.model import Reply, Request
from proxy.handler import EdgeServer, make_server
from tests.contract.kit import until

Place = tuple[str, int]
Walk = Callable[[Request], Awaitable[Reply]]
OK = Reply(200, b"OK", ((b"Date", b"D"),), b"ok")
ANSWERED = b"HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"


class Edge:
    """A served walk: `asked` are the requests that reached it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.place: Place = ("", 0)
        self.server: EdgeServer | None = None

    async def send(self, data: bytes) -> bytes:
        """Everything that comes back until the connection ends."""
        async with client(self.place) as (reader, writer):
            writer.write(data)
            return await reader.read()


@asynccontextmanager
async def client(place: Place) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed whatever happens, and a bound on the wait."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


async def answered(_: Request) -> Reply:
    """The walk that is always done."""
    return OK


async def taken(request: Request) -> Reply:
    """The walk that gives the body back."""
    assert request.body is not None
    return Reply(200, b"OK", ((b"Date", b"D"),), b"".join([piece async for piece in request.body]))


@asynccontextmanager
async def edge(walk: Walk = answered, **limits: Any) -> AsyncIterator[Edge]:
    """A server on a port of its own."""
    served = Edge()

    async def noted(request: Request) -> Reply:
        served.asked.append(request)
        return await walk(request)

    served.server = make_server(noted, LimitSettings(**limits))
    server = await asyncio.get_running_loop().create_server(served.server, "127.0.0.1", 0)
    served.place = server.sockets[0].getsockname()[:2]
    try:
        yield served
    finally:
        server.close()
        await served.server.shutdown(0.1)


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    """A request after which another may follow."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: h", *lines, b"", b""))


async def test_a_request_arrives_as_it_is() -> None:
    """Method, target, lines, peer, scheme and version, and no body where there is none."""
    async with edge() as at:
        await at.send(b"QUERY /a%2Fb?x=%3A&&? HTTP/1.0\r\nx-A: \xe9\r\nX-a:  2 \r\nContent-Length: 0\r\n\r\n")
        (request,) = at.asked

    assert ("QUERY", "/a%2Fb?x=%3A&&?", None) == (request.method, request.target, request.body)
    assert ((b"x-A", b"\xe9"), (b"X-a", b"2"), (b"Content-Length", b"0")) == request.headers.raw
    assert ("127.0.0.1", "http", "1.0") == (request.peer, request.scheme, request.http_version)


async def test_a_url_of_this_host_is_a_path() -> None:
    """RFC 9112 §3.2.2: a server takes the absolute form; the walk sees one form only."""
    async with edge() as at:
        assert LAST == await at.send(get(b"http://H/a?b", b"Connection: close"))

        assert ["/a?b"] == [request.target for request in at.asked]


async def test_a_coded_body_stays_coded() -> None:
    """Content-Encoding is between the client and the service."""
    coded = gzip.compress(b"a" * 1000)
    async with edge(taken) as at:
        sent = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded

        assert coded == (await at.send(sent)).partition(b"\r\n\r\n")[2]


async def test_a_body_is_seen_as_it_comes() -> None:
    """The walk has the first piece before the client makes the second."""
    first = asyncio.Event()

    async def walk(request: Request) -> Reply:
        assert request.body is not None
        assert b"one" == await anext(request.body)
        first.set()
        return await taken(request)

    async with edge(walk) as at, client(at.place) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await first.wait()
        writer.write(b"3;x=1\r\ntwo\r\n0\r\nX-Trailer: 1\r\n\r\n")

        assert (await reader.read()).endswith(b"\r\n\r\ntwo")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"3\r\ntwoX", b"0\r\nHost: x\r\nHost: y\r\n\r\n"])
async def test_framing_that_breaks_later_is_told_at_once(
    rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp itself leaves the reader of such a body waiting; here it learns, and the client gets 400."""
    first = asyncio.Event()
    seen: list[Exception] = []

    async def walk(request: Request) -> Reply:
        assert request.body is not None
        await anext(request.body)
        first.set()
        try:
            return await taken(request)
        except Exception as error:
            seen.append(error)
            raise

    async with edge(walk) as at, client(at.place) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await first.wait()
        writer.write(rest)
        said = await reader.read()

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in said
    assert 1 == said.count(b"HTTP/1.1 ")
    assert [ClientError] == [type(error) for error in seen]
    assert [] == caplog.records


async def test_a_body_that_stops_coming_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a connection to upstream by sending nothing."""
    monkeypatch.setattr(clients, "LINGER", 0.0)
    async with edge(taken, body_timeout=0.05) as at:
        said = await at.send(POST + b"Content-Length: 9\r\n\r\nabc")

    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"urn:user-cache-proxy:problem:request-timeout" in said


async def test_a_client_that_goes_in_the_middle_of_its_body_is_gone() -> None:
    """The reader of the body learns it, whether it is waiting or comes back later."""
    began = asyncio.Event()
    seen: asyncio.Future[list[type[BaseException]]] = asyncio.get_running_loop().create_future()

    async def read(body: AsyncIterator[bytes]) -> None:
        kinds = []
        for _ in range(3):
            try:
                await anext(body)
            except ClientGone as error:
                kinds.append(type(error))
            began.set()
        seen.set_result(kinds)

    async def walk(request: Request) -> Reply:
        assert request.body is not None
        await asyncio.shield(asyncio.ensure_future(read(request.body)))
        return OK

    async with edge(walk) as at:
        async with client(at.place) as (_, writer):
            writer.write(POST + b"Content-Length: 9\r\n\r\nabc")
            await began.wait()

        assert [ClientGone, ClientGone] == await seen


async def test_nobody_is_told_of_a_client_that_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    """It is no failure, and there is nobody to be answered."""

    async def walk(_: Request) -> Reply:
        raise ClientGone

    async with edge(walk) as at:
        assert b"" == await at.send(get())

    assert [] == caplog.records


async def test_a_body_that_nobody_asked_for_ends_the_connection() -> None:
    """The client waits for `100 Continue`, gets an answer, and what it sends next could be either."""
    async with edge() as at, client(at.place) as (reader, writer):
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\nExpect: 100-continue\r\n\r\n")

        assert LAST == await reader.readexactly(len(LAST))
        writer.write(get(b"/smuggled"))
        writer.write(get(b"/smuggled"))
        assert b"" == await reader.read()
        assert ["PUT"] == [request.method for request in at.asked]


async def test_an_unread_body_does_not_become_the_next_request() -> None:
    """It is taken and thrown away, and the connection goes on after it."""
    async with edge() as at:
        body = get(b"/smuggled")
        first = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        said = await at.send(first + get(b"/next", b"Connection: close"))

        assert ANSWERED + LAST == said
        assert ["/", "/next"] == [request.target for request in at.asked]


UPGRADE = (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQ")


async def test_a_request_for_another_protocol_gets_a_plain_answer() -> None:
    """And the connection goes on: clients that ask every time would lose it every time."""
    async with edge() as at, client(at.place) as (reader, writer):
        for _ in range(2):
            writer.write(get(b"/", *UPGRADE))
            assert ANSWERED == await reader.readexactly(len(ANSWERED))


async def test_what_follows_such_a_request_is_answered() -> None:
    """Both requests are, in their order."""
    async with edge() as at:
        assert ANSWERED + LAST == await at.send(get(b"/", *UPGRADE) + get(b"/2", b"Connection: close"))


async def test_a_websocket_is_declined() -> None:
    """A plain answer, and what was sent behind the request is answered as well."""
    sent = get(b"/", b"Upgrade: websocket", b"Connection: Upgrade") + get(b"/2", b"Connection: close")
    async with edge() as at:
        assert ANSWERED + LAST == await at.send(sent)


TOO_LONG = {
    "target": (get(b"/" + b"a" * 9000), b"414", b"uri-too-long"),
    "line": (get(b"/", b"X: " + b"a" * 17_000), b"431", b"header-too-large"),
    "name": (get(b"/", b"a" * 17_000 + b": 1"), b"431", b"header-too-large"),
    "lines": (get(b"/", *[b"X: 1"] * 200), b"431", b"header-too-large"),
    "length": (POST + b"Content-Length: 18446744073709551615\r\n\r\n", b"400", b"bad-request"),
    "host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", b"400", b"bad-request"),
}


@pytest.mark.parametrize("name", sorted(TOO_LONG))
async def test_what_is_refused_says_why(name: str) -> None:
    """A stable type, the connection closed, nothing walked."""
    sent, status, problem = TOO_LONG[name]
    async with edge() as at:
        said = await at.send(sent)

        assert said.startswith(b"HTTP/1.1 " + status)
        assert b"problem:" + problem + b'"' in said
        assert b"Connection: close\r\n" in said
        assert [] == at.asked


async def test_what_is_refused_later_does_not_undo_what_was_right() -> None:
    """The good request before it is answered, the bad one ends the connection."""
    async with edge() as at:
        said = await at.send(get(b"/") + b"nonsense\x00\r\n\r\n" + get(b"/3"))

        assert [b"200", b"400"] == re.findall(rb"HTTP/1.1 (\d+)", said)
        assert ["/"] == [request.target for request in at.asked]


async def test_a_head_that_stops_coming_is_408() -> None:
    """A byte now and then does not renew the deadline of a head."""
    async with edge(head_timeout=0.1) as at, client(at.place) as (reader, writer):

        async def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: " + b"h" * 500:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.01)

        dripping = asyncio.ensure_future(drip())
        said = await reader.read()
        dripping.cancel()

        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"problem:request-timeout" in said
        assert [] == at.asked


async def test_a_body_that_drips_is_408() -> None:
    """Each piece comes in time, but the body makes no way."""
    async with edge(taken, body_timeout=0.15, body_rate=1000) as at, client(at.place) as (reader, writer):
        writer.write(POST + b"Content-Length: 900\r\n\r\n")

        async def drip() -> None:
            for _ in range(500):
                writer.write(b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.ensure_future(drip())
        said = await reader.read()
        dripping.cancel()

        assert said.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """Without a word: there is no request to answer."""
    async with edge(idle_timeout=0.05) as at, client(at.place) as (reader, _):
        assert b"" == await reader.read()


async def test_one_connection_too_many_is_told_to_come_again() -> None:
    """503 with Retry-After; those that were there go on, and a place that comes free is taken."""
    async with edge(connections=1) as at, client(at.place) as (reader, writer):
        writer.write(get())
        assert ANSWERED == await reader.readexactly(len(ANSWERED))

        said = await at.send(b"")
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in said
        assert b"problem:overloaded" in said

        writer.write(get(b"/", b"Connection: close"))
        assert LAST == await reader.read()
        writer.close()
        server = at.server
        assert server is not None
        await until(lambda: not server.connections)
        assert LAST == await at.send(get(b"/", b"Connection: close"))


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 11\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + b"a" * 11 + b"\r\n0\r\n\r\n",
    ],
)
async def test_a_body_over_the_limit_is_413(body: bytes) -> None:
    """By what it says, or by what it turns out to be; one that is just at the limit passes."""
    async with edge(taken, body=10) as at:
        said = await at.send(POST + body)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"problem:too-large" in said

        assert (await at.send(POST + b"Content-Length: 10\r\n\r\n" + b"a" * 10)).endswith(b"aaaaaaaaaa")


async def test_trace_tells_what_is_allowed() -> None:
    """405 comes with Allow (RFC 9110 §15.5.6)."""
    async with edge() as at:
        said = await at.send(b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in said


async def test_an_error_of_upstream_keeps_the_connection() -> None:
    """The client did nothing wrong."""

    async def walk(request: Request) -> Reply:
        if request.target == "/":
            raise UpstreamTimeout("Upstream took too long.", executed=True)
        return OK

    async with edge(walk) as at:
        said = await at.send(get(b"/") + get(b"/2", b"Connection: close"))

    assert [b"504", b"200"] == re.findall(rb"HTTP/1.1 (\d+)", said)


class Content:
    """An answer's body that says whether it was closed; an exception among the pieces is raised."""

    def __init__(self, *pieces: bytes | Exception, endless: bool = False) -> None:
        self.pieces = list(pieces)
        self.endless = endless
        self.closed = asyncio.Event()

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        if self.endless:
            return bytes(1 << 16)
        if not self.pieces:
            raise StopAsyncIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed.set()


def streamed(body: Content, *lines: tuple[bytes, bytes]) -> Walk:
    """The walk whose answer is a stream."""

    async def walk(_: Request) -> Reply:
        return Reply(200, b"OK", ((b"Date", b"D"), *lines), body)

    return walk


HEAD = b"HTTP/1.1 200 OK\r\nDate: D\r\n"
FIVE = (b"Content-Length", b"5")


@pytest.mark.parametrize(
    ("sent", "lines", "expected"),
    [
        (get(), (FIVE,), HEAD + b"Content-Length: 5\r\n\r\nabcde"),
        (get(), (), HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", (FIVE,), HEAD + b"Content-Length: 5\r\n\r\n"),
        (b"GET / HTTP/1.0\r\n\r\n", (FIVE,), HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nabcde"),
        (b"GET / HTTP/1.0\r\n\r\n", (), HEAD + b"Connection: close\r\n\r\nabcde"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", (), HEAD + b"Connection: close\r\n\r\nabcde"),
    ],
)
async def test_a_stream_is_framed_for_its_client(
    sent: bytes, lines: tuple[tuple[bytes, bytes], ...], expected: bytes
) -> None:
    """By length where it is known, in chunks for HTTP/1.1, by the end for HTTP/1.0; closed in the end."""
    body = Content(b"abc", b"", b"de")
    async with edge(streamed(body, *lines)) as at, client(at.place) as (reader, writer):
        writer.write(sent)

        assert expected == await reader.readexactly(len(expected))
        if b"close" in expected:
            assert b"" == await reader.read()
        await body.closed.wait()


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((b"abc", UpstreamTimeout("Upstream stopped.", executed=True)), (FIVE,)),
        ((b"abc", UpstreamTimeout("Upstream stopped.", executed=True)), ()),
        ((b"abc", RuntimeError("secret")), ()),
        ((b"abc",), (FIVE,)),
        ((b"abcdef",), (FIVE,)),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_stream_that_breaks_is_torn_off(
    pieces: tuple[bytes | Exception, ...],
    lines: tuple[tuple[bytes, bytes], ...],
    version: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reset, not an end: even a client that reads until the connection ends can tell."""
    body = Content(*pieces)
    seen = b""
    async with edge(streamed(body, *lines)) as at, client(at.place) as (reader, writer):
        writer.write(b"GET / HTTP/" + version + b"\r\nHost: h\r\n\r\n")
        try:
            while piece := await reader.read(1):
                seen += piece
            pytest.fail("the answer came to an end")
        except ConnectionResetError:
            await body.closed.wait()

    assert b"abcdef" not in seen

    assert "secret" not in caplog.text


async def test_a_mistake_in_a_stream_is_logged_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """Type and place, not the text, which may quote what the client sent."""
    with caplog.at_level(logging.ERROR):
        async with edge(streamed(Content(b"abc", RuntimeError("secret@example.com")))) as at:
            with pytest.raises(ConnectionResetError):
                await at.send(get())

    (record,) = caplog.records
    assert "proxy.answer" == record.name
    assert "RuntimeError at __anext__" in record.__dict__["exception"]
    assert None is record.exc_info


async def test_a_client_that_goes_closes_the_stream() -> None:
    """The connection to upstream must not be kept by somebody who is not there."""
    body = Content(endless=True)
    async with edge(streamed(body)) as at, client(at.place) as (reader, writer):
        writer.write(get())
        await reader.readexactly(1 << 20)
        writer.transport.abort()
        await body.closed.wait()


async def test_a_client_that_takes_nothing_is_not_waited_for() -> None:
    """Neither in memory, which is bounded, nor in time."""
    body = Content(endless=True)
    async with edge(streamed(body), body_timeout=0.05) as at, client(at.place) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(get())
        await body.closed.wait()


async def test_a_client_that_goes_cancels_the_walk() -> None:
    """What nobody waits for is not done; a write shields itself."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def walk(_: Request) -> Reply:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return OK

    async with edge(walk) as at:
        async with client(at.place) as (_, writer):
            writer.write(get())
            await began.wait()
        await ended.wait()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OTHER"])
async def test_a_client_that_goes_does_not_stop_what_may_write(method: str) -> None:
    """Upstream may have begun with it: it comes to its end, also where nothing is cached."""
    began, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def walk(_: Request) -> Reply:
        began.set()
        await go.wait()
        done.set()
        return OK

    async with edge(walk) as at:
        async with client(at.place) as (_, writer):
            writer.write(f"{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
            await began.wait()
            assert at.server is not None
            (one,) = at.server.connections
        await until(lambda: one.gone)
        go.set()
        async with asyncio.timeout(5):
            await done.wait()


async def test_the_last_answer_before_the_end_says_so() -> None:
    """A server that shuts down finishes what it has begun, and asks for no more."""
    began, go = asyncio.Event(), asyncio.Event()

    async def walk(_: Request) -> Reply:
        began.set()
        await go.wait()
        return OK

    async with edge(walk) as at, client(at.place) as (reader, writer):
        writer.write(get())
        await began.wait()
        assert at.server is not None
        at.server.pre_shutdown()
        go.set()

        assert LAST == await reader.read()


async def test_an_answer_without_a_date_gets_one() -> None:
    """RFC 9110 §6.6.1."""

    async def walk(_: Request) -> Reply:
        return Reply(204, b"No Content", ())

    async with edge(walk) as at:
        said = await at.send(get(b"/", b"Connection: close"))

    date = rb"Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n"
    assert re.fullmatch(rb"HTTP/1.1 204 No Content\r\n" + date + rb"Connection: close\r\n\r\n", said)
