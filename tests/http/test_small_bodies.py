"""A small body that has arrived goes out with its head; one that has not, or is large, as it comes."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientGone, UpstreamError
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.settings import UpstreamSettings
from proxy.requestbody import SMALL, RequestBody, sent_body
from proxy.upstream import HttpUpstream
from proxy.waiting import Waiting
from tests.origin import origin


class Source:
    """A client's connection that never minds."""

    def __init__(self) -> None:
        self.waiting = Waiting(2**20)

    def pause(self) -> None:
        """No more, please."""

    def resume(self) -> None:
        """Go on."""

    def proceed(self) -> None:
        """The body is wanted."""


def body(length: int | None, *pieces: bytes) -> RequestBody:
    made = RequestBody(Source(), length, LimitSettings(), awaited=False)
    for piece in pieces:
        made.feed(piece)
    return made


async def test_only_a_whole_small_body_that_nobody_has_begun_is_at_hand() -> None:
    begun = body(4, b"ab", b"cd")
    assert begun.at_hand() == begun.at_hand() == b"abcd"
    assert await anext(begun) == b"ab"
    assert begun.at_hand() is None
    assert body(4, b"abc").at_hand() is None
    assert body(SMALL + 1, b"x" * (SMALL + 1)).at_hand() is None
    assert body(SMALL, b"x" * SMALL).at_hand() == b"x" * SMALL


@pytest.mark.parametrize("pieces", [(b"hello",), (b"he", b"llo"), (b"he",)])
async def test_the_service_gets_each_byte_once(pieces: tuple[bytes, ...]) -> None:
    content = body(5, *pieces)
    lines = Headers(((b"Host", b"h"), (b"Content-Length", b"5")))
    async with origin() as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url))
        asking = asyncio.create_task(upstream.send(Request("PUT", "/", lines, content)))
        if not content.complete:
            await asyncio.sleep(0)
            content.feed(b"llo")
        reply = await asking
        # On the same connection: a byte too many would be the beginning of this one.
        await upstream.send(Request("GET", "/", Headers(((b"Host", b"h"),))))
        await upstream.close()

    assert (reply.status, reply.body) == (200, b"ok")
    assert (at.connections, at.bodies) == (1, [b"hello", b""])
    assert at.heads[1].startswith(b"GET / HTTP/1.1\r\n")
    assert await anext(content, None) is None


async def test_a_body_outlives_a_service_that_cannot_be_reached() -> None:
    upstream = HttpUpstream(UpstreamSettings(url="http://127.0.0.1:1", connect_timeout=1))
    content = body(5, b"hello")
    lines = Headers(((b"Host", b"h"), (b"Content-Length", b"5")))
    with pytest.raises(UpstreamError):
        await upstream.send(Request("PUT", "/", lines, content))
    await upstream.close()
    assert content.at_hand() == b"hello"


async def test_what_was_sent_is_read_by_nobody() -> None:
    source = Source()
    sent = sent_body(source, b"hello", LimitSettings())
    assert (sent.complete, sent.at_hand(), source.waiting.count) == (True, None, 0)
    assert await anext(sent, None) is None


@pytest.mark.parametrize("length", [10, None])
async def test_a_body_that_broke_off_holds_nothing(length: int | None) -> None:
    """What had come of it is not read on, so it is not kept for the reader either."""
    source = Source()
    body = RequestBody(source, length, LimitSettings(), awaited=False)
    body.feed(b"hello" if length else b"5\r\nhello\r\n")
    assert source.waiting.count > 5
    body.leave()
    assert 0 == source.waiting.count
    with pytest.raises(ClientGone):
        await anext(body)
