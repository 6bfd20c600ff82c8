"""Bytes thrown at the real server, an origin that writes down what reaches it, and two judges.

They are llhttp, and the grammar of RFC 9112 written down once more.

One request in, at most one out, and the same one. `FUZZ=100000 make fuzz` looks longer.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import requestbody
from proxy.client import LINGER
from proxy.core import incoming, requesthead, verbatim
from proxy.core.chunks import Chunks
from proxy.core.edgesettings import LimitSettings
from proxy.core.headers import Headers
from tests.fuzz.judge import strictly
from tests.http.test_edge import edge
from tests.origin import Origin, origin

EXAMPLES = int(os.environ.get("FUZZ", "60"))
# Streams of bytes that are thrown at once for one example, each at a server of its own.
BATCH = 5
AT_ONCE = 5

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
LINES = (
    *(b"Content-Length: %d" % number for number in (0, 1, 5, len(SMUGGLED), 2**63)),
    *(
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length:\t5 ",
        b"content-length: 05",
        b"Content-Length: 0x5",
    ),
    *(
        b"Content-Length : 5",
        b" Content-Length: 5",
        b"Content-Length: 5\r",
        b"Content_Length: 5",
        b"Content-Length:",
    ),
    *(
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: CHUNKED",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
    ),
    *(
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: x, chunked",
        b"Transfer-Encoding : chunked",
    ),
    *(
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding: chunked\0",
        b"Transfer-Encoding:\r\n chunked",
        b"X: 1\n",
    ),
    *(
        b"Host: other",
        b"Connection: close",
        b"Connection: Content-Length",
        b"Expect: 100-continue",
        b"X: \xff",
        b"Y",
    ),
    *(
        b"Connection: keep-alive, Transfer-Encoding",
        b"Upgrade: h2c",
        b"Connection: Upgrade",
        b"X:" + b"a" * 100,
    ),
)
STARTS = (
    *(
        b"GET / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"PUT /a HTTP/1.0",
        b"GET http://h/b HTTP/1.1",
        b"GET h:80 HTTP/1.1",
    ),
    *(
        b"GET /",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET  / HTTP/1.1",
        b"GET /\tx HTTP/1.1",
        b"CONNECT h:1 HTTP/1.1",
    ),
    *(
        b"OPTIONS * HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET / HTTP/1.1 ",
    ),
)
BODIES = (
    *(
        b"",
        b"x",
        b"hello",
        SMUGGLED,
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    ),
    *(
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"-5\r\n",
        b"0x5\r\nhello\r\n",
    ),
    *(
        b"10000000000000000\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"0\r\n" + SMUGGLED,
        b"0\r\n\r\n" + SMUGGLED,
        b"\r\n",
        b"\n",
    ),
    *(b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n", b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
)
KNOWN = (b"GET", b"POST", b"PUT", b"OPTIONS")
ENDS = (*(b"\r\n\r\n",) * 9, b"\n\n", b"\r\n\n", b"\r\r\n")


CONTENTS = (b"", b"x", b"hello", SMUGGLED)


def in_chunks(content: bytes, size: int) -> bytes:
    """The content in chunks of that size, and the last chunk."""
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def framings(content: bytes, chunks: bytes, said: int, odd: bytes) -> tuple[tuple[list[bytes], bytes], ...]:
    """Lines that frame a body, and the body: in one way, or in two that say different things."""
    length, coding = b"Content-Length: %d", b"Transfer-Encoding: chunked"
    return (
        ([], b""),
        ([length % len(content)], content),
        ([length % said], content),
        ([coding], chunks),
        ([coding], chunks + SMUGGLED),
        ([length % said, coding], chunks),
        ([coding, length % said], chunks),
        ([length % len(content), length % said], content),
        ([], odd),
        *(([coding], odd),) * 3,
    )


@st.composite
def framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """One of them."""
    content = draw(st.sampled_from(CONTENTS))
    chunks = in_chunks(content, draw(st.sampled_from((1, 5, 100))))
    said = draw(st.sampled_from((len(content), len(chunks), 0, 3)))
    made = framings(content, chunks, said, draw(st.sampled_from(BODIES)))
    return made[draw(st.integers(0, len(made) - 1))]


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """One message of parts that are right or almost right."""
    lines, body = draw(framed())
    if draw(st.integers(0, 2)) == 0:
        lines = [*lines, *draw(st.lists(st.sampled_from(LINES), max_size=2))]
    start = draw(st.sampled_from(STARTS[:3] * 4 + STARTS))
    head = b"\r\n".join((start, b"Host: h", *draw(st.permutations(lines))))
    return head + draw(st.sampled_from(ENDS)) + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """One to three messages, sometimes bent."""
    sent = b"".join(draw(st.lists(message(), min_size=1, max_size=3)))
    if draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(sent)))
        sent = sent[:at] + draw(st.binary(max_size=2)) + sent[at + draw(st.integers(0, 2)) :]
    return sent


def parts() -> list[bytes]:
    """A message for each way to frame a body, each body, line and end: what the fuzzer builds streams of."""
    post, get = b"POST /x HTTP/1.1\r\nHost: h", b"GET / HTTP/1.1\r\nHost: h"
    coding = [b"Transfer-Encoding: chunked"]
    made = []
    for content in CONTENTS:
        for said in (len(content), 3):
            made += framings(content, in_chunks(content, 5), said, b"")
    made += [(lines, body) for body in BODIES for lines in ([], coding)]
    made += [([b"Content-Length: 5", line], b"hello") for line in LINES]
    found = [b"\r\n".join((post, *lines)) + b"\r\n\r\n" + body for lines, body in made]
    found += [b"\r\n".join((get, line)) + b"\r\n\r\n" for line in LINES]
    return found + [get + end for end in ENDS] + [start + b"\r\nHost: h\r\n\r\n" for start in STARTS]


def in_order(seen: Sequence[object], meant: Sequence[object]) -> bool:
    """Whether nothing else was seen than what was meant; one may be missing, as its answer was an error."""
    left = iter(meant)
    return all(one in left for one in seen)


async def all_of(probes: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Throws some at once, and raises what one of them raised when all are over."""
    for at in range(0, len(probes), AT_ONCE):
        for failed in await asyncio.gather(*probes[at : at + AT_ONCE], return_exceptions=True):
            if failed is not None:
                for later in probes[at + AT_ONCE :]:
                    later.close()
                raise failed


async def throw(place: tuple[str, int], sent: bytes, cut: int) -> bytes:
    """Sends in two pieces, and gives back what is answered until the server ends it or falls silent."""
    reader, writer = await asyncio.open_connection(*place)
    said = b""
    try:
        writer.write(sent[:cut])
        await asyncio.sleep(0)
        writer.write(sent[cut:])
        # Longer than the server takes what is left of a body that nobody wanted.
        async with asyncio.timeout(LINGER + 5):
            while piece := await reader.read(65536):
                said += piece
    except ConnectionError:
        pass
    except TimeoutError:
        raise AssertionError((sent, cut, said)) from None
    finally:
        writer.close()
    return said


async def judged(sent: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The requests that llhttp reads up to where it refuses: method, target, content so far."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(
        BaseProtocol(loop), loop, 65536, max_line_size=8190, max_field_size=16384, auto_decompress=False
    )
    found = []
    # Byte by byte: what was read before the fault counts.
    for at in range(len(sent)):
        try:
            messages, upgraded, _ = parser.feed_data(sent[at : at + 1])
        except HttpProcessingError:
            break
        found += messages
        if upgraded:
            break
    return [
        (message.method.encode(), message.path.encode("utf-8", "surrogateescape"), body.read_nowait())
        for message, body in found
    ]


def arrived(at: Origin) -> list[tuple[bytes, bytes, bytes]]:
    """The same of what reached the origin whole."""
    pairs = zip(at.heads, at.bodies, strict=False)
    return [(*head.split(b" ", 2)[:2], body) for head, body in pairs]  # type: ignore[misc]


def origin_form(target: bytes) -> bytes:
    """A URL of this host is sent on as its path."""
    return target.removeprefix(b"http://h") or b"/"


async def probe(sent: bytes, cut: int) -> None:
    """Raises AssertionError where what reaches the origin is not what both judges read in the same bytes."""
    limits = LimitSettings(head_timeout=0.05, body_timeout=0.05, idle_timeout=0.05)
    async with origin() as at, edge(at, limits=limits, passing=True, connect_timeout=10) as place:
        said = await throw(place, sent, cut)
        seen = arrived(at)
    judge = await judged(sent)
    expected = [(method, origin_form(target), body) for method, target, body in judge]
    # llhttp knows a list of methods, and no targets beyond ASCII; neither is a matter of boundaries.
    odd = (at for at, one in enumerate(seen) if one[0] not in KNOWN or not one[1].isascii())
    strange = next(odd, len(seen))
    assert in_order(seen[:strange], expected), (sent, said)
    assert in_order(seen, strictly(sent)), (sent, said)
    answers = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", said)
    assert len(seen) <= len(answers) or b"close" in said.lower() or not said, (sent, said)
    assert b"Traceback" not in said


async def test_each_part_by_itself() -> None:
    """One message, made of one thing that is odd."""
    await all_of([probe(sent, len(sent)) for sent in parts()])


@settings(max_examples=EXAMPLES)
@given(data=st.data())
async def test_one_request_in_at_most_one_out(data: st.DataObject) -> None:
    """What reaches the origin is what other parsers read in the same bytes, in that order, and no more."""
    thrown = [data.draw(streams()) for _ in range(BATCH)]
    cuts = [data.draw(st.integers(0, len(sent))) for sent in thrown]
    # Most of the time is spent waiting for the end of a silence.
    await all_of([*map(probe, thrown, cuts)])


_framing = incoming._framing


def either_framing(version: str, headers: Headers) -> str | None:
    """Believes in the chunks where there is a length as well."""
    chunked = "transfer-encoding" in headers
    return _framing(version, headers.without((b"content-length",)) if chunked else headers)


class Lax(Chunks):
    """Reads a size as Python would, and a line feed as the end of its line."""

    __slots__ = ()

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        if end:
            self._left = abs(int(data[at:end].split(b";")[0].strip() or b"0", 16))
            self._pending = "data" if self._left else "trailers"
        return end or -1


def _of(pattern: re.Pattern[bytes], was: bytes, becomes: bytes) -> re.Pattern[bytes]:
    assert was in pattern.pattern
    return re.compile(pattern.pattern.replace(was, becomes))


HOLES: dict[str, tuple[object, str, object]] = {
    "two framings": (incoming, "_framing", either_framing),
    "lenient fields": (requesthead, "FIELDS", re.compile(rb"(?s:.*)")),
    "lengths that are believed": (
        verbatim,
        "_REQUEST",
        _of(verbatim._REQUEST, rb"(?(4)(?!)) *+(", rb"[^\r]*?("),
    ),
    "lenient sizes": (requestbody, "Chunks", Lax),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What throws these bytes must fall through a parser that is broken on purpose."""
    monkeypatch.setattr(*HOLES[hole])

    with pytest.raises(AssertionError):
        asyncio.run(all_of([probe(sent, len(sent)) for sent in parts()]))
