"""The grammar of a request's head: what passes is read alike by others, what does not is named."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientError
from proxy.core.requesthead import RequestHead, check_beginning, read_head

LIMITS = LimitSettings()


def read(data: bytes) -> RequestHead:
    """The head."""
    return read_head(data, LIMITS)


def head(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """A head with a Host line and these."""
    return b"\r\n".join((start, b"Host: h", *lines, b"", b""))


@pytest.mark.parametrize(
    ("lines", "start", "length", "stays"),
    [
        ((), b"GET / HTTP/1.1", 0, True),
        ((), b"GET / HTTP/1.0", 0, False),
        ((b"Connection: Keep-Alive",), b"GET / HTTP/1.0", 0, True),
        ((b"Connection: x", b"connection: y , CLOSE"), b"GET / HTTP/1.1", 0, False),
        ((b"Content-Length: 7",), b"PUT / HTTP/1.1", 7, True),
        ((b"Content-Length: 0",), b"PUT / HTTP/1.1", 0, True),
        ((b"Transfer-Encoding: Chunked",), b"PUT / HTTP/1.1", None, True),
    ],
)
def test_a_head_says_how_it_goes_on(
    lines: tuple[bytes, ...], start: bytes, length: int | None, stays: bool
) -> None:
    """The body's length, None for chunks, and whether another request may follow."""
    found = read(head(*lines, start=start))

    assert (length, stays) == (found.length, found.keep_alive)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (head(b"X: a\0"), "control character"),
        (head(b"X: 1\nY: 2"), "CR LF"),
        (head(b"X: 1\rY: 2"), "CR LF"),
        (head(b"X: 1", b" folded"), "folded"),
        (head(b"X : 1"), "blank before the colon"),
        (head(b": 1"), "a name, a colon"),
        (head(b"X"), "a name, a colon"),
        (head(b"X\xe9: 1"), "a name, a colon"),
        (head(start=b"GET /a b HTTP/1.1"), "request line"),
        (head(start=b"GET  / HTTP/1.1"), "request line"),
        (head(start=b" GET / HTTP/1.1"), "request line"),
        (head(start=b"GET / HTTP/1.1 "), "request line"),
        (head(start=b"GET / http/1.1"), "request line"),
        (head(start=b"GET / HTTP/11.1"), "request line"),
        (head(start=b"GET /#x HTTP/1.1"), "request line"),
        (head(start=b"GET /"), "request line"),
        (head(start=b"G@T / HTTP/1.1"), "request line"),
        (head(start=b"GET / HTTP/2.0"), "HTTP/1.0 and HTTP/1.1"),
        (head(b"Transfer-Encoding: chunked\t"), "tab"),
        (head(b"X: 1", b"content-length:\t1"), "tab"),
    ],
)
def test_a_fault_is_named(data: bytes, sentence: str) -> None:
    """A sentence of our own, the same for every client that makes this mistake."""
    with pytest.raises(ClientError, match=sentence) as caught:
        read(data)
    assert (400, "bad-request") == (caught.value.status, caught.value.problem)


def byte_by_byte(data: bytes) -> None:
    """As it is checked while it drips in."""
    for end in range(1, len(data) + 1):
        check_beginning(data[:end], end - 1, LIMITS)


@pytest.mark.parametrize(
    "data",
    [b"GET /\r\n", b"GET / HTTP/1.1\nH", b"GET / HTTP/1.1\r\nX: \0", b"\x16\x03\x01", b"GET / HTTP/1.1\rX"],
)
def test_a_hopeless_beginning_is_not_waited_for(data: bytes) -> None:
    """Neither in one piece nor byte by byte."""
    with pytest.raises(ClientError):
        check_beginning(data, 0, LIMITS)
    with pytest.raises(ClientError):
        byte_by_byte(data)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 9000, 414),
        (head(start=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (head(b"X: " + b"a" * 17_000), 431),
        (head(*[b"X: 1"] * 128), 431),
        (head(*[b"X: " + b"a" * 16_000] * 5), 431),
    ],
)
def test_sizes_are_bounded(data: bytes, status: int) -> None:
    """A target, a line, their number, and the whole."""
    with pytest.raises(ClientError) as caught:
        read(data) if data.endswith(b"\r\n\r\n") else check_beginning(data, 0, LIMITS)
    assert status == caught.value.status


def test_the_limits_themselves_pass() -> None:
    """A target of the longest length, and as many lines as may be."""
    longest = b"/" + b"a" * (LIMITS.target - 1)
    known = read(head(*[b"X: 1"] * (LIMITS.fields - 1), start=b"GET " + longest + b" HTTP/1.1"))
    assert (LIMITS.target, LIMITS.fields) == (len(known.target), len(known.headers.raw))


WORDS = (
    b"GET",
    b"POST",
    b" ",
    b"/",
    b"HTTP/1.1",
    b"\r\n",
    b"\n",
    b"\r",
    b"Host: h",
    b":",
    b"\t",
    b"\0",
    b"X",
)
WORDS += (
    b"Content-Length: 1",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"a",
    b"\xe9",
    b",",
    b"HTTP/1.0",
)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS), max_size=12))
async def test_what_passes_is_read_alike_by_another_parser(words: list[bytes]) -> None:
    """llhttp is the judge: it must take what is taken here, and see the same request in it."""
    data = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(words) + b"\r\n\r\n"
    data = data[: data.index(b"\r\n\r\n") + 4]
    try:
        found = read(data)
    except ClientError:
        return
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 65536, max_line_size=8190, max_field_size=8190)
    try:
        messages, _, rest = parser.feed_data(data)
    except HttpProcessingError as error:
        pytest.fail(f"refused by llhttp: {type(error).__name__}")
    (message, _) = messages[0]
    assert (found.method, found.target, found.headers.raw) == (
        message.method,
        message.path,
        message.raw_headers,
    )
    assert found.keep_alive is not message.should_close
    assert (found.length is None) is message.chunked
    assert b"" == rest
