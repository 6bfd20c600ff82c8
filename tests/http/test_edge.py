"""Bytes in, bytes out: what the proxy changes of a message, what it refuses, and what it never does twice."""

# ruff: noqa: E501 - messages are easier to compare on one line

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from proxy.answer import date_now
from proxy.core.edgesettings import EdgeSettings, LimitSettings, XForwarded
from proxy.core.errors import ProxyError
from proxy.core.forwarding import forwarded, returned
from proxy.core.model import Reply, Request
from proxy.core.problems import error_reply
from proxy.core.redaction import Redactor
from proxy.core.settings import Settings, TlsSettings, UpstreamSettings, UserModel
from proxy.handler import EdgeServer, Line, make_server
from proxy.passage import Passages
from proxy.pipeline import Pipeline
from proxy.sockets import tls
from proxy.steps.exchange import Services
from proxy.upstream import HttpUpstream
from tests.certificates import make_certificate
from tests.origin import OK, Origin, origin


@asynccontextmanager
async def edge(
    at: Origin,
    *,
    rules: EdgeSettings | None = None,
    limits: LimitSettings | None = None,
    context: ssl.SSLContext | None = None,
    passing: bool = False,
    **settings: Any,
) -> AsyncIterator[tuple[str, int]]:
    """A server that forwards everything to the origin: the two edges and nothing between.

    `passing`: without a walk, wherever that can be; a connection to the origin lies idle for it.
    """
    where = UpstreamSettings(url=at.url, **settings)
    rules, limits, upstream = rules or EdgeSettings(), limits or LimitSettings(), HttpUpstream(where)

    async def walk(request: Request) -> Reply:
        try:
            reply = await upstream.send(forwarded(request, fill=False, rules=rules))
        except ProxyError as error:
            return error_reply(error)
        return Reply(reply.status, reply.reason, returned(reply.headers, "1.1"), reply.body)

    passages = None
    if passing:
        passages = Passages(_nothing_between(upstream, where, rules, limits), upstream, date_now)
        upstream.give_back((await upstream._pool.acquire())[0], reusable=True)
    server = await asyncio.get_running_loop().create_server(
        EdgeServer(Line(walk, limits, rules, None, passages=passages)), "127.0.0.1", 0, ssl=context
    )
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await upstream.close()


def _nothing_between(
    upstream: HttpUpstream, where: UpstreamSettings, rules: EdgeSettings, limits: LimitSettings
) -> Pipeline:
    settings = Settings(
        upstream=where, user=UserModel(), views={}, tokens=None, routes=(), edge=rules, limits=limits
    )
    nobody: Any = None
    services = Services(settings, nobody, upstream, None, Redactor(), user_view="", now=time.time)
    return Pipeline(services, lambda outcome: None)


async def raw(place: tuple[str, int], sent: bytes, *, until: bytes | None = None) -> bytes:
    """Sends bytes and reads until the connection ends, or until `until` has come."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            return await (reader.read() if until is None else reader.readuntil(until))
    finally:
        writer.close()


def get(target: bytes, *lines: bytes) -> bytes:
    """A request that asks for the connection to be closed."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: h", *lines, b"Connection: close", b"", b""))


async def test_upstream_hears_that_the_client_came_over_tls(tmp_path: Path) -> None:
    """X-Forwarded-Proto; and of the protocols that a client offers, HTTP/1.1 is the one that is spoken."""
    certificate = str(make_certificate(tmp_path))
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    context = tls(TlsSettings(certificate=certificate, key=certificate))
    async with origin() as at, edge(at, context=context) as place:
        reader, writer = await asyncio.open_connection(*place, ssl=trusting)
        writer.write(get(b"/"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert "http/1.1" == writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()

        assert b"X-Forwarded-Proto: https" in at.lines()


@pytest.mark.parametrize(
    "target",
    [b"/a%2Fb", b"/a?", b"/a?x=%3A+%27&&", b"//x", b"/%0d%0a", b"/a/../b", b"/;p?;q", b"/%zz", b"/a?b=c?d"],
)
async def test_the_target_arrives_as_it_was_sent(target: bytes) -> None:
    """Not a byte of path or query is quoted, unquoted or left out."""
    async with origin() as at, edge(at) as place:
        answer = await raw(place, get(target))

        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
        assert b"GET " + target + b" HTTP/1.1" == at.lines()[0]


async def test_header_lines_arrive_as_they_were_sent() -> None:
    """Order, case, duplicates and bytes beyond ASCII stay; hop-by-hop and nominated lines go."""
    lines = (
        b"X-b: 2",
        b"x-A: 1",
        b"X-b: caf\xe9",
        b"Cookie: a=1",
        b"Keep-Alive: 5",
        b"X-Mine: 1",
        b"TE: trailers",
    )
    request = b"\r\n".join((b"GET / HTTP/1.1", b"Host: h", *lines, b"Connection: close, x-mine", b"", b""))
    async with origin() as at, edge(at) as place:
        await raw(place, request)

        assert [b"Host: h", b"X-b: 2", b"x-A: 1", b"X-b: caf\xe9", b"Cookie: a=1"] == at.lines()[1:6]
        added = [line.split(b":")[0] for line in at.lines()[6:]]
        forwarded = [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Via"]
        assert [*forwarded, b"Connection", b"TE"] == added


CLAIMED = (
    b"X-Forwarded-For: 9.9.9.9",
    b"X_Forwarded-For: 8.8.8.8",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil",
    b"Forwarded: for=9.9.9.9",
)
ADDED = [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: h"]
BELIEVED = [CLAIMED[0] + b", 127.0.0.1", *CLAIMED[1:]]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (EdgeSettings(), BELIEVED),
        (EdgeSettings(trusted=(ip_network("10.0.0.0/8"),)), ADDED),
        (EdgeSettings(x_forwarded=XForwarded.REPLACE), ADDED),
        (EdgeSettings(x_forwarded=XForwarded.OFF), [*CLAIMED]),
        (
            EdgeSettings(forwarded=True),
            [*BELIEVED[:-1], CLAIMED[-1] + b', for=127.0.0.1;proto=http;host="h"'],
        ),
        (
            EdgeSettings(trusted=(), forwarded=True),
            [*ADDED, b'Forwarded: for=127.0.0.1;proto=http;host="h"'],
        ),
    ],
)
async def test_claims_of_peers_are_believed_by_the_rules(rules: EdgeSettings, expected: list[bytes]) -> None:
    """Appended for those who are trusted, replaced for others, and left alone where asked."""
    async with origin() as at, edge(at, rules=rules) as place:
        await raw(place, get(b"/", *CLAIMED))

        assert [*expected, b"Via: 1.1 user-cache-proxy"] == at.lines()[2:]


async def test_the_answer_comes_back_as_it_was_sent() -> None:
    """Reason phrase, several Set-Cookie, odd case; nothing is added but Via."""
    said = b"HTTP/1.1 299 Very Odd\r\nsEt-CoOkIe: a=1\r\nSet-Cookie: b=2\r\nX: \xe9\r\nContent-Length: 2\r\nDate: D\r\n\r\nhi"
    async with origin(said) as at, edge(at) as place:
        answer = await raw(place, get(b"/"))

    expected = b"HTTP/1.1 299 Very Odd\r\nsEt-CoOkIe: a=1\r\nSet-Cookie: b=2\r\nX: \xe9\r\nContent-Length: 2\r\nDate: D\r\n"
    assert expected + b"Via: 1.1 user-cache-proxy\r\nConnection: close\r\n\r\nhi" == answer


@pytest.mark.parametrize(
    ("said", "tail"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"\r\n\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b"\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"\r\n\r\nok"),
    ],
)
async def test_answers_are_framed_anew(said: bytes, tail: bytes) -> None:
    """Whatever the framing, the client can tell where the answer ends."""
    async with origin(said) as at, edge(at) as place:
        answer = await raw(place, get(b"/"))

    # Whatever comes before the answer is passed on, as what it is.
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert answer.startswith(hint) == said.startswith(hint)
    body = answer.removeprefix(hint).split(b"\r\n\r\n", 1)[1]
    if b"chunked" in answer:
        body = b"".join(re.findall(rb"(?s)[0-9a-f]+\r\n(.*?)\r\n", body))
    assert tail.rpartition(b"\r\n\r\n")[2] == body
    if b"304" in said:
        assert b"Content-Length: 99\r\n" in answer


async def test_a_body_is_forwarded_with_its_length_or_in_chunks() -> None:
    """As received: a length stays a length, chunks stay chunks."""
    post = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    async with origin(OK, OK) as at, edge(at) as place:
        await raw(place, post + b"Content-Length: 5\r\n\r\nhello")
        await raw(place, post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

        assert [b"hello", b"abcde"] == at.bodies
        assert [True, False] == [b"Content-Length: 5" in at.lines(i) for i in (0, 1)]


async def test_the_answer_streams() -> None:
    """What upstream has sent arrives before it has sent the rest."""
    async with origin(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst") as at, edge(at) as place:
        assert (await raw(place, get(b"/"), until=b"first")).endswith(b"first")


async def test_an_answer_that_breaks_off_never_ends_cleanly() -> None:
    """The client sees a cut connection, or a chunked body without its end; not a shorter answer."""
    for said in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    ):
        async with origin(said, close_after=True) as at, edge(at) as place:
            try:
                answer = await raw(place, get(b"/"))
            except ConnectionError:
                continue
            assert not answer.endswith(b"0\r\n\r\n")
            assert answer.count(b"first") == 0 or b"Content-Length: 10" in answer or b"chunked" in answer


BAD = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "same length twice": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "signed length": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
    "list of lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na",
    "odd coding": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding twice": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "empty coding": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: h\r\nX : 1\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n 2\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "absolute form": b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "authority form": b"GET other:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "old": b"GET /\r\n\r\n",
    "new": b"GET / HTTP/3.0\r\nHost: h\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
    "long line": b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_what_two_parties_may_read_differently_is_refused(name: str) -> None:
    """4xx as problem+json, the connection closed, nothing forwarded, nothing of the input echoed."""
    async with origin() as at, edge(at, passing=True) as place:
        answer = await raw(place, BAD[name])

        assert re.match(rb"HTTP/1.1 4(00|05|14|31) ", answer), answer
        assert b"application/problem+json" in answer
        assert b"Connection: close" in answer
        assert b"X-Cache: BYPASS\r\nCache-Status: user-cache-proxy\r\n" in answer
        assert 1 == answer.count(b"HTTP/1.1 4")
        assert [] == at.heads


async def test_a_broken_chunk_is_never_a_whole_request() -> None:
    """Upstream gets no end of the body, the client gets no success."""
    sent = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    async with origin() as at, edge(at, timeout=2.0) as place:
        answer = await raw(place, sent)

        assert b" 200 " not in answer
        assert [] == at.bodies


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Three requests in one segment, three answers one after the other."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + b"%d" % n for n in range(3)]
    first = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    async with origin(*answers) as at, edge(at) as place:
        answer = await raw(place, first + first + get(b"/"))

    assert [b"0", b"1", b"2"] == re.findall(rb"\r\n\r\n(\d)", answer)


async def test_connections_to_upstream_are_kept() -> None:
    """Ten requests, one connection."""
    async with origin() as at, edge(at) as place:
        for _ in range(10):
            await raw(place, get(b"/"))

        assert (10, 1) == (len(at.heads), at.connections)


@pytest.mark.parametrize(("method", "calls"), [(b"GET", 2), (b"PUT", 1), (b"DELETE", 1), (b"POST", 1)])
async def test_only_what_is_safe_is_sent_again(method: bytes, calls: int) -> None:
    """A kept connection that dies without an answer: a GET goes out once more, a write never."""
    warm = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with origin(warm, b"", warm) as at, edge(at) as place:
        await raw(place, get(b"/"))
        sent = method + b" /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        answer = await raw(place, sent)

        assert calls == sum(head.startswith(method + b" /x ") for head in at.heads)
        assert (b" 200 " if calls == 2 else b" 502 ") in answer


async def test_a_late_answer_is_given_to_nobody() -> None:
    """Bytes that follow an answer on a kept connection close it; the next caller gets its own answer."""
    async with origin(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") as at, edge(at) as place:
        await raw(place, get(b"/"))
        answer = await raw(place, get(b"/"))

        assert answer.endswith(b"ok")
        assert 2 == at.connections


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_502(said: bytes) -> None:
    """problem+json, and the connection to upstream is not used again."""
    async with origin(said, close_after=True) as at, edge(at, timeout=2.0) as place:
        answer = await raw(place, get(b"/"))

    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"urn:user-cache-proxy:problem:upstream-failed" in answer


async def test_a_silent_upstream_is_504() -> None:
    """The wait for the first byte has a bound."""
    async with origin(silent=True) as at, edge(at, timeout=0.05) as place:
        answer = await raw(place, get(b"/"))

    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"upstream-timeout" in answer


async def test_an_upstream_that_is_not_there_is_502() -> None:
    """And says so."""
    async with edge(Origin(url="http://127.0.0.1:1")) as place:
        answer = await raw(place, get(b"/"))

    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"upstream-unreachable" in answer


async def test_a_reader_that_hangs_up_is_not_waited_for() -> None:
    """The connection to upstream is closed when the client goes away."""
    async with origin(silent=True) as at, edge(at) as place:
        _, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await at.arrived.wait()
        writer.close()

        async with asyncio.timeout(5):
            await at.gone.wait()


async def test_expect_continue_is_answered_when_the_body_is_wanted() -> None:
    """The client waits for 100, and upstream never sees the expectation."""
    async with origin() as at, edge(at) as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(
            b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hi")
        answer = await reader.read()
        writer.close()

    assert b"HTTP/1.1 100 Continue\r\n\r\n" == interim
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [b"hi"] == at.bodies
    assert not any(line.lower().startswith(b"expect") for line in at.lines())


async def test_an_old_client_gets_an_end_it_understands() -> None:
    """HTTP/1.0 knows no chunks: the connection's end is the answer's."""
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with origin(said) as at, edge(at) as place:
        answer = await raw(place, b"GET / HTTP/1.0\r\n\r\n")

    assert answer.endswith(b"\r\n\r\nhi")
    assert b"chunked" not in answer


async def test_head_keeps_its_length() -> None:
    """No body, and the length of the body that GET would have."""
    async with origin(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n") as at, edge(at) as place:
        answer = await raw(place, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

    assert b"Content-Length: 7\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_mistake_of_ours_is_500_without_a_word_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names the place, not the text, which may quote what the client sent."""

    async def walk(_: Request) -> Reply:
        raise RuntimeError("secret@example.com")

    server = await asyncio.get_running_loop().create_server(make_server(walk), "127.0.0.1", 0)
    answer = await raw(server.sockets[0].getsockname()[:2], get(b"/secret@example.com"))
    server.close()

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert "secret" not in caplog.text
