"""The way to upstream, step by step: deadlines, broken connections, what is reused and what never."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import pool
from proxy.core.errors import (
    ClientError,
    ClientGone,
    RequestBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from proxy.core.headers import Headers
from proxy.core.model import Reply, Request
from proxy.core.settings import UpstreamSettings
from proxy.upstream import HttpUpstream
from tests.certificates import make_certificate
from tests.clock import forward
from tests.contract.kit import until
from tests.origin import OK

Script = Callable[["Wire"], Awaitable[None]]
HOST = ((b"Host", b"h"),)
GET = Request("GET", "/", Headers(HOST))
HEAD_END = b"\r\n\r\n"


class Wire:
    """The origin's end of one connection; a script reads and writes on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()

    async def head(self) -> bytes:
        """The next request's head."""
        return await self.reader.readuntil(HEAD_END)

    async def say(self, data: bytes) -> None:
        """Bytes of an answer."""
        self.writer.write(data)
        await self.writer.drain()


class Scripted:
    """`wires` are the connections so far, `heads` the requests that scripts noted."""

    def __init__(self, url: str, upstream: HttpUpstream) -> None:
        self.url = url
        self.upstream = upstream
        self.wires: list[Wire] = []

    async def get(self) -> Reply:
        """The answer to a plain GET."""
        return await self.upstream.send(GET)


@asynccontextmanager
async def scripted(
    *scripts: Script, tls: ssl.SSLContext | None = None, **settings: float
) -> AsyncIterator[Scripted]:
    """An origin that plays one script a connection, the last one again and again, and a client for it."""
    tasks: set[asyncio.Task[None]] = set()

    async def play(wire: Wire, script: Script) -> None:
        try:
            await script(wire)
            # Whatever the script left open, the end of the connection is seen.
            while await wire.reader.read(65536):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            wire.gone.set()
            wire.writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        place.wires.append(wire)
        tasks.add(asyncio.ensure_future(play(wire, scripts[min(len(place.wires), len(scripts)) - 1])))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    place = Scripted(url, HttpUpstream(UpstreamSettings(url=url, **settings)))  # type: ignore[arg-type]
    try:
        # Less than the idle time after which connections are closed anyway.
        async with asyncio.timeout(10):
            yield place
    finally:
        await place.upstream.close()
        server.close()
        for wire in place.wires:
            wire.writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(*answers: bytes) -> Script:
    """Answers one request after the other, and waits for the end."""

    async def script(wire: Wire) -> None:
        for answer in answers:
            await wire.head()
            await wire.say(answer)

    return script


async def read(reply: Reply) -> bytes:
    """The whole content."""
    if isinstance(reply.body, bytes):
        return reply.body
    return b"".join([piece async for piece in reply.body])


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    """A request's body."""
    for piece in given:
        yield piece


def put(body: AsyncIterator[bytes], *lines: tuple[bytes, bytes]) -> Request:
    """A write."""
    return Request("PUT", "/", Headers((*HOST, *lines)), body)


async def test_a_connection_that_is_not_accepted_has_a_deadline() -> None:
    """A handshake without an answer: 504, and nothing was executed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        upstream = HttpUpstream(UpstreamSettings(url=url, connect_timeout=0.05))
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.send(GET)

    assert not caught.value.executed


async def test_a_request_that_is_not_taken_has_a_deadline() -> None:
    """Upstream reads nothing: the write may have been executed all the same."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def deaf(wire: Wire) -> None:
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await wire.gone.wait()

    async with scripted(deaf, timeout=0.1) as at:
        with pytest.raises(UpstreamTimeout) as caught:
            await at.upstream.send(put(endless()))

        assert caught.value.executed
        at.wires[0].gone.set()


async def test_an_answer_that_stops_has_a_deadline() -> None:
    """Head and part of the content came: what came is delivered, then the body fails."""
    async with scripted(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst"), timeout=0.1) as at:
        reply = await at.get()
        assert not isinstance(reply.body, bytes)
        first = await anext(reply.body)
        with pytest.raises(UpstreamTimeout) as caught:
            await anext(reply.body)

        assert (b"first", True) == (first, caught.value.executed)
        await at.wires[0].gone.wait()


async def test_interim_answers_do_not_renew_the_deadline() -> None:
    """The wait is for the answer, however much is said before it."""

    async def chatty(wire: Wire) -> None:
        await wire.head()
        while True:
            await wire.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.01)

    async with scripted(chatty, timeout=0.1) as at:
        with pytest.raises(UpstreamTimeout):
            await at.get()


async def test_content_comes_as_it_is_sent() -> None:
    """Each piece is there before the next one is made."""
    taken = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await taken.wait()
        await wire.say(b"3\r\ntwo\r\n0\r\nX-Trailer: 1\r\nHost: h\r\n\r\n")

    async with scripted(script) as at:
        reply = await at.get()
        assert not isinstance(reply.body, bytes)
        first = await anext(reply.body)
        taken.set()

        assert (b"one", b"two") == (first, await read(reply))


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
async def test_events_may_be_long_in_coming(kind: bytes) -> None:
    """A stream of events that is silent for longer than any other answer may be is not cut."""
    silent = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\ndata: 1\n\n" % kind)
        await silent.wait()
        await wire.say(b"data: 2\n\n")
        wire.writer.close()

    async with scripted(script, timeout=2) as at:
        reply = await at.get()
        assert not isinstance(reply.body, bytes)
        assert b"data: 1\n\n" == await anext(reply.body)
        waiting = asyncio.ensure_future(read(reply))
        await asyncio.sleep(0)
        forward(6)
        await asyncio.sleep(0)
        silent.set()

        assert b"data: 2\n\n" == await waiting


async def test_other_answers_may_not() -> None:
    """Their silence is a failure, however alike the name of their type."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n\r\ndata: 1\n\n")

    async with scripted(script, timeout=0.1) as at:
        with pytest.raises(UpstreamTimeout):
            await read(await at.get())


async def test_a_body_goes_as_it_comes() -> None:
    """Upstream has the first piece before the second one exists."""
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await arrived.wait()
        yield b""
        yield b"two"

    async def script(wire: Wire) -> None:
        await wire.head()
        assert b"3\r\none\r\n" == await wire.reader.readexactly(8)
        arrived.set()
        assert b"3\r\ntwo\r\n0\r\n\r\n" == await wire.reader.readexactly(13)
        await wire.say(OK)

    async with scripted(script) as at:
        assert b"ok" == await read(await at.upstream.send(put(body())))


@pytest.mark.parametrize("line", [(b"Content-Length", b"6"), None])
async def test_a_head_may_come_in_any_pieces(line: tuple[bytes, bytes] | None) -> None:
    """Byte by byte, with an interim answer before it."""
    said = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 Fine\r\nX: 1\r\n"
    said += (
        b"Content-Length: 6\r\n\r\nabcdef"
        if line
        else b"Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"
    )

    async def script(wire: Wire) -> None:
        await wire.head()
        for byte in said:
            await wire.say(bytes((byte,)))
            await asyncio.sleep(0)

    async with scripted(script) as at:
        reply = await at.get()

        assert (200, b"Fine", ((b"X", b"1"),)) == (reply.status, reply.reason, reply.headers[:1])
        assert b"abcdef" == await read(reply)


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (OK, 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 2),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 2),
        # more than the answer
        (OK + b"H", 2),
        (OK + b"\r\n", 2),
        (b"HTTP/1.1 204 No Content\r\n\r\nextra", 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 2", 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK, 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nnonsense", 2),
    ],
)
async def test_a_connection_is_used_again_only_after_a_clean_end(answer: bytes, connections: int) -> None:
    """Delimited, kept alive, and not a byte more than the answer."""
    async with scripted(answering(answer, OK)) as at:
        await read(await at.get())
        await read(await at.get())

        assert connections == len(at.wires)


async def test_an_answer_until_the_end_of_the_connection_is_whole() -> None:
    """No length and no chunks: the close ends it, and that connection is not used again."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.0 200 OK\r\n\r\nto the ")
        await wire.say(b"end")
        wire.writer.close()

    async with scripted(script) as at:
        assert b"to the end" == await read(await at.get())
        assert b"to the end" == await read(await at.get())
        assert 2 == len(at.wires)


async def test_a_reset_is_not_an_end() -> None:
    """An answer that lasts until the connection ends, and a connection that is torn down."""
    shown = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.0 200 OK\r\n\r\npart")
        await shown.wait()
        sock = wire.writer.get_extra_info("socket")
        # An abortive close: RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.writer.transport.abort()

    async with scripted(script) as at:
        reply = await at.get()
        assert not isinstance(reply.body, bytes)
        assert b"part" == await anext(reply.body)
        shown.set()
        with pytest.raises(UpstreamError):
            await read(reply)


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_connection_that_was_closed_while_idle_is_not_met(method: str) -> None:
    """Even a write gets a fresh connection at once: the old one is known to be dead before it is used."""
    closing = asyncio.Event()

    async def once(wire: Wire) -> None:
        await answering(OK)(wire)
        await closing.wait()
        wire.writer.close()

    async with scripted(once, answering(OK)) as at:
        await at.get()
        closing.set()
        await at.wires[0].gone.wait()

        reply = await at.upstream.send(Request(method, "/", Headers(HOST)))

        assert (200, 2) == (reply.status, len(at.wires))


async def test_what_comes_on_an_idle_connection_is_given_to_nobody() -> None:
    """A late second answer closes the connection that it came on."""
    late = asyncio.Event()

    async def twice(wire: Wire) -> None:
        await answering(OK)(wire)
        await late.wait()
        await wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await wire.reader.read()

    async with scripted(twice, answering(OK)) as at:
        await at.get()
        late.set()
        await at.wires[0].gone.wait()

        assert b"ok" == await read(await at.get())
        assert 2 == len(at.wires)


@pytest.mark.parametrize("late", [b"H", None])
async def test_what_the_loop_has_not_seen_yet_is_seen(late: bytes | None) -> None:
    """The socket itself is asked before it is used: a write never meets a connection that is closing."""
    async with scripted(answering(OK), answering(OK)) as at:
        await at.get()
        # Both take effect in the kernel at once, and no other task runs in between.
        if late is None:
            # By another name for it: not every loop lets its socket be shut down.
            number = os.dup(at.wires[0].writer.get_extra_info("socket").fileno())
            with socket.socket(fileno=number) as same:
                same.shutdown(socket.SHUT_WR)
        else:
            at.wires[0].writer.write(late)
        reply = await at.upstream.send(Request("PUT", "/", Headers(HOST)))

        assert (b"ok", 2) == (await read(reply), len(at.wires))


async def test_a_second_death_is_not_tried_a_third_time() -> None:
    """One fresh connection; if that dies as well, upstream has failed."""

    async def kill(wire: Wire) -> None:
        await wire.head()
        wire.writer.close()

    async def warm(wire: Wire) -> None:
        await answering(OK)(wire)
        await kill(wire)

    async with scripted(warm, kill) as at:
        await at.get()
        with pytest.raises(UpstreamError) as caught:
            await at.get()

        assert (2, True) == (len(at.wires), caught.value.executed)


async def test_a_fresh_connection_that_dies_is_not_replaced() -> None:
    """Whoever closes before the first answer of a connection has heard the request."""

    async def kill(wire: Wire) -> None:
        await wire.head()
        wire.writer.close()

    async with scripted(kill) as at:
        with pytest.raises(UpstreamError):
            await at.get()

        assert 1 == len(at.wires)


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """One byte of an answer is proof that the request was heard."""

    async def warm(wire: Wire) -> None:
        await answering(OK, b"H")(wire)
        wire.writer.close()

    async with scripted(warm) as at:
        await at.get()
        with pytest.raises(UpstreamError):
            await at.get()

        assert 1 == len(at.wires)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"<html>",
        b"\x00",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_refused_at_once(answer: bytes) -> None:
    """Without waiting for more, and the connection is closed."""
    async with scripted(answering(answer), timeout=5.0) as at:
        with pytest.raises(UpstreamError) as caught:
            await at.get()

        assert not isinstance(caught.value, UpstreamTimeout)
        assert caught.value.executed
        await at.wires[0].gone.wait()


@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\nabX", b"fffffffffffffffff\r\n"])
async def test_a_broken_chunk_breaks_the_content(rest: bytes) -> None:
    """What was delivered is never followed by an end."""
    more = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await more.wait()
        await wire.say(rest)

    async with scripted(script, timeout=5.0) as at:
        reply = await at.get()
        assert not isinstance(reply.body, bytes)
        await anext(reply.body)
        more.set()
        with pytest.raises(UpstreamError) as caught:
            await read(reply)

        assert not isinstance(caught.value, UpstreamTimeout)


async def test_an_early_answer_ends_the_sending() -> None:
    """Upstream refuses before it has read the body: its answer is delivered, the body is not sent on."""
    stopped = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal stopped
        yield b"begin"
        try:
            await asyncio.Event().wait()
        finally:
            stopped = True

    async with scripted(
        answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"), answering(OK)
    ) as at:
        reply = await at.upstream.send(put(endless()))

        assert (413, b"no", True) == (reply.status, await read(reply), stopped)
        await at.wires[0].gone.wait()
        await at.get()
        assert 2 == len(at.wires)


@pytest.mark.parametrize(
    "cause", [ClientGone(), ClientError(400, "bad-request", "The body's framing is broken.")]
)
async def test_a_body_that_breaks_is_cut_for_upstream_too(cause: ClientGone | ClientError) -> None:
    """No end is made up, and whoever asks learns that upstream may have acted."""
    seen = b""

    async def broken() -> AsyncIterator[bytes]:
        yield b"part"
        raise cause

    async def script(wire: Wire) -> None:
        nonlocal seen
        await wire.head()
        seen = await wire.reader.read(-1)

    async with scripted(script) as at:
        with pytest.raises(RequestBroken) as caught:
            await at.upstream.send(put(broken()))
        await at.wires[0].gone.wait()

        assert (cause, True) == (caught.value.cause, caught.value.executed)
        assert not seen.endswith(b"0\r\n\r\n")


async def test_a_mistake_in_a_body_is_not_hidden() -> None:
    """An exception that nobody declared comes out as it is, and the connection is not used again."""

    async def broken() -> AsyncIterator[bytes]:
        raise LookupError
        yield b""

    async with scripted(answering(OK)) as at:
        with pytest.raises(LookupError):
            await at.upstream.send(put(broken()))
        await at.wires[0].gone.wait()


@pytest.mark.parametrize("given", [(b"abc",), (b"abc", b"def"), (b"abcdef",)])
async def test_a_body_is_as_long_as_it_said(given: tuple[bytes, ...]) -> None:
    """A shorter one would hang upstream, a longer one would be the next request."""
    seen = b""

    async def script(wire: Wire) -> None:
        nonlocal seen
        await wire.head()
        seen = await wire.reader.read(-1)

    async with scripted(script) as at:
        with pytest.raises(RequestBroken):
            await at.upstream.send(put(pieces(*given), (b"Content-Length", b"4")))
        await at.wires[0].gone.wait()

        assert len(seen) <= 4


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    """The connection is closed and its place is free, in whatever phase it was."""

    async def silent(wire: Wire) -> None:
        await wire.head()

    async def waiting() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with scripted(silent, silent, answering(OK), max_connections=1) as at:
        for number, request in enumerate((GET, put(waiting()))):
            task = asyncio.ensure_future(at.upstream.send(request))
            await until(lambda number=number: len(at.wires) > number)  # type: ignore[misc]
            task.cancel()
            assert [True] == [
                isinstance(error, asyncio.CancelledError)
                for error in await asyncio.gather(task, return_exceptions=True)
            ]
            await at.wires[number].gone.wait()

        assert b"ok" == await read(await at.get())


async def test_a_forgotten_answer_gives_its_place_back() -> None:
    """Nobody read or closed it: the collector does."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"
    async with scripted(answering(long), answering(OK), max_connections=1) as at:
        reply: Reply | None = await at.get()
        assert reply is not None
        assert 200 == reply.status
        del reply
        gc.collect()
        await at.wires[0].gone.wait()

        assert b"ok" == await read(await at.get())


async def test_those_who_wait_are_served_in_their_order() -> None:
    """A connection that comes free goes to the one who waited longest, not to the next who asks."""
    order: list[int] = []

    async def script(wire: Wire) -> None:
        while True:
            await wire.head()
            await wire.say(OK)

    async with scripted(script, max_connections=1) as at:

        async def ask(number: int) -> None:
            await at.get()
            order.append(number)

        await asyncio.gather(*(ask(number) for number in range(5)))

        assert ([0, 1, 2, 3, 4], 1) == (order, len(at.wires))


async def test_a_place_that_comes_free_is_handed_on() -> None:
    """Also where its connection is not kept."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with scripted(answering(closing), max_connections=1) as at:
        replies = await asyncio.gather(*(at.get() for _ in range(3)))

        assert ([b"ok"] * 3, 3) == ([await read(reply) for reply in replies], len(at.wires))


async def test_one_who_gave_up_waiting_takes_nothing_along() -> None:
    """The connection that comes free later is still there for others."""
    go = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await go.wait()
        await wire.say(OK)
        await answering(OK)(wire)

    async with scripted(script, max_connections=1, connect_timeout=0.05) as at:
        first = asyncio.ensure_future(at.get())
        await until(lambda: len(at.wires) == 1)
        with pytest.raises(UpstreamBusy) as caught:
            await at.get()
        go.set()
        await first

        assert not caught.value.executed
        assert (b"ok", 1) == (await read(await at.get()), len(at.wires))


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before upstream would close them."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.02)
    async with scripted(answering(OK, OK)) as at:
        await at.get()
        await at.wires[0].gone.wait()
        await at.get()

        assert 2 == len(at.wires)


async def test_a_closed_client_refuses() -> None:
    """Idle and busy connections end, later requests are not sent."""

    async def silent(wire: Wire) -> None:
        await wire.head()

    async with scripted(answering(OK), silent) as at:
        await at.get()
        busy = asyncio.ensure_future(at.upstream.send(put(pieces(b"x"))))
        more = asyncio.ensure_future(at.get())
        await until(lambda: len(at.wires) == 2)
        await at.upstream.close()
        for task in (busy, more):
            with pytest.raises(UpstreamError):
                await task
        with pytest.raises(UpstreamRefused) as caught:
            await at.get()

        assert not caught.value.executed
        for wire in at.wires:
            await wire.gone.wait()


async def test_ping_says_whether_upstream_is_there() -> None:
    """A connection is enough; it costs no request."""

    async def script(wire: Wire) -> None:
        assert b"" == await wire.reader.read()

    async with scripted(script) as at:
        await at.upstream.ping()
        await until(lambda: len(at.wires) == 1)
        await at.wires[0].gone.wait()
    with pytest.raises(UpstreamRefused):
        await HttpUpstream(UpstreamSettings(url=at.url)).ping()


async def test_a_vouched_for_upstream_is_talked_to_in_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`https://` with a certificate that the machine trusts."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted(answering(OK, OK), tls=context) as at:
        assert [b"ok", b"ok"] == [await read(await at.get()) for _ in range(2)]
        assert 1 == len(at.wires)
