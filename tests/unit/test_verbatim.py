"""What passes as it came is what a walk would make of it, and what a walk refuses never passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core import maxforwards
from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientError
from proxy.core.forwarding import end_to_end, forwarded, has_override, reply_head, request_head
from proxy.core.framing import answer_framing
from proxy.core.headers import Headers
from proxy.core.model import Reply, Request
from proxy.core.observing import request_id, trace_id
from proxy.core.replyhead import MAX_LINE, MAX_LINES, read_reply_head
from proxy.core.requesthead import read_head
from proxy.core.verbatim import plain_answer, plain_request

LIMITS = LimitSettings()
TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LINES = (
    *(b"Host: b", b"Content-Length: 3", b"Content-Length:\t4", b"Content-Length: 00", b"X_A: 1", b"Date: x"),
    *(b"Content-Length: 1234567890123456789", b"Transfer-Encoding: chunked", b"TE: x", b"Upgrade: x"),
    *(b"Connection: close", b"Connection: keep-alive", b"Keep-Alive: x", b"Trailer: x", b"Max-Forwards: 0"),
    *(b"Expect: 100-continue", b"X-Request-Id: b", TRACE, b"X-Forwarded-For: 1", b"X_Forwarded_For: 1"),
    *(b"X-Real-IP: x", b"Forwarded: for=1", b"X-Rewrite-Url: /", b"X_Original_Url: /"),
)
# What ends a line, a name or a value, what some readers take for it, and whole lines.
ODD = (
    *(bytes((octet,)) for octet in b"\0\t \r\n\v\x7f\x85\xff:,;_-01A"),
    *(b"\r\n", b"\r\n ", b"\r\n\r\n", b"chunked"),
    *(b"\r\n" + line for line in LINES),
)
REQUESTS = (
    b"GET /o?a=%zz&b HTTP/1.1\r\nHost: h.example:80\r\nX-Request-Id: abc\r\nConnection: keep-alive\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhOST:h\r\nConnection:Keep-Alive \r\ncontent-Length:  4 \r\n%b\r\nCookie: \xe4\r\n\r\n"
    % TRACE,
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 4\r\nKEEP-ALIVE: x\r\nConnection: keep-alive\r\n\r\nbody",
    b"HTTP/1.1 404 \r\ncontent-length:0 \r\nConnection:\tClose\t\r\nX:\xff\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not  Modified\r\nKEEP-ALIVE:\r\nContent-Length: 10\r\n\r\n",
)


def spoiled(seed: bytes) -> Iterator[bytes]:
    """The message with one thing more, or another, or less, at each place."""
    for at in range(len(seed) + 1):
        yield seed[:at] + seed[at + 1 :]
        for odd in ODD:
            yield seed[:at] + odd + seed[at:]
            yield seed[:at] + odd + seed[at + 1 :]


class Nobody:
    """A body that is not looked at."""

    def __aiter__(self) -> Nobody:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def request_passes(data: bytes) -> bool:
    """Whether a request is plain; it is then, to the letter, what the walk would send."""
    plain = plain_request(data)
    try:
        head = read_head(data, LIMITS)
    except ClientError:
        assert plain is None
        return False
    if plain is None:
        return False
    assert (plain.method, plain.target, plain.length) == (head.method, head.target, head.length)
    assert ("1.1", True) == (head.version, head.keep_alive)
    names = plain.names
    assert (request_id(names), trace_id(names)) == (request_id(head.headers), trace_id(head.headers))
    lines = read_head(plain.head + b"\r\n", LIMITS).headers.raw
    host = Headers(((b"Host", (head.headers.get("host") or "").encode()),))
    assert not has_override(head.headers)
    for method, trusted in ((head.method, True), ("OPTIONS", False)):
        request = Request(
            method, head.target, head.headers, Nobody() if head.length else None, trusted=trusted
        )
        onward = maxforwards.onward(request)
        assert onward is not None
        sent, length = request_head(forwarded(onward, fill=False), b"a")
        assert plain.length == length
        added = forwarded(replace(request, headers=host), fill=False).headers.raw[1:]
        assert read_head(sent, LIMITS).headers.raw == lines + added
    return True


def answer_passes(data: bytes, method: str) -> bool:
    """Whether an answer is plain; it is then read as the walk reads it."""
    plain = plain_answer(data, method)
    end = data.find(b"\r\n\r\n") + 4
    try:
        status, reason, version, headers = read_reply_head(data[:end])
        framing = answer_framing(method, status, reason, version, headers)
    except ValueError:
        assert plain is None
        return False
    if plain is None:
        return False
    assert status >= 200
    assert (plain.status, data[end:], (1, 1)) == (status, plain.content, version)
    assert (len(plain.content), False, plain.persistent) == framing
    assert plain.dated == any(name.lower() == b"date" for name, _ in headers)
    reply = Reply(status, reason, end_to_end(headers), plain.content)
    sent, _, _ = reply_head(reply, method=method, http_version="1.1", keep_alive=True, date=b"")
    said = read_reply_head(plain.head + (b"" if plain.dated else b"Date:\r\n") + b"\r\n")
    assert said == read_reply_head(sent)
    return True


@pytest.mark.parametrize("seed", REQUESTS)
def test_a_request_with_any_one_fault(seed: bytes) -> None:
    assert request_passes(seed)
    passed = sum(map(request_passes, spoiled(seed)))
    assert 500 < passed


@pytest.mark.parametrize("seed", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_with_any_one_fault(seed: bytes, method: str) -> None:
    content = method == "HEAD" and seed.endswith(b"body")
    seed = seed.removesuffix(b"body") if content else seed
    assert answer_passes(seed, method)
    assert 100 < sum(answer_passes(one, method) for one in spoiled(seed))


GOOD = [line for seed in (*REQUESTS, *ANSWERS) for line in seed.split(b"\r\n")[1:-2]]
pieces = st.lists(st.sampled_from([*LINES, *GOOD]), max_size=6).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@settings(max_examples=300)
@given(
    st.sampled_from([*REQUESTS, b"TRACE / HTTP/1.1\r\n", b"* * HTTP/1.1\r\n", b"GET * HTTP/1.1\r\n"]), pieces
)
@example(b"CONNECT /x HTTP/1.1\r\n\r\n", b"Host: h\r\n")
@example(b"CONNECTED /x HTTP/1.1\r\n\r\n", b"Host: h\r\n")
def test_requests_of_any_lines(seed: bytes, lines: bytes) -> None:
    request_passes(seed.partition(b"\r\n")[0] + b"\r\n" + lines + b"\r\n")
    request_passes(seed[:-2] + lines + b"\r\n")


@settings(max_examples=300)
@given(st.sampled_from(ANSWERS), pieces, st.sampled_from(["GET", "HEAD"]))
def test_answers_of_any_lines(seed: bytes, lines: bytes, method: str) -> None:
    start, content = seed.partition(b"\r\n")[0], seed.partition(b"\r\n\r\n")[2]
    answer_passes(start + b"\r\n" + lines + b"\r\n" + content, method)


def test_long_answers_are_walked() -> None:
    """Up to what the walk would bear of one line."""

    def of(lines: int, size: int = 0) -> bytes:
        return ANSWERS[1].replace(b"X:\xff", b"\r\n".join([b"X:" + b"x" * size] * (lines - 2)))

    assert [True, False] == [answer_passes(of(MAX_LINES + n), "GET") for n in (0, 1)]
    room = MAX_LINE - len(of(3))
    assert [True, False] == [answer_passes(of(3, room + n), "GET") for n in (0, 1)]


def test_a_hostile_answer_costs_no_more_than_its_length() -> None:
    """What nearly is plain, a thousand lines long, is given up in one go."""
    line = b"Connection: keep-alive\r\nContent-Length: 1\r\nDate: x\r\n"
    assert not answer_passes(b"HTTP/1.1 200 OK\r\n" + line * 80 + b"\r\r\n\r\n", "GET")
    assert not request_passes(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 120 + b"X : y\r\n\r\n")
