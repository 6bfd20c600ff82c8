"""Bytes thrown at the real server, an origin that writes down what reaches it, and llhttp as the judge.

One request in, at most one out, and the same one. `FUZZ=100000 make fuzz` looks longer.
"""

from __future__ import annotations

import asyncio
import os
import re

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.edgesettings import LimitSettings
from tests.http.test_edge import edge
from tests.origin import Origin, origin

EXAMPLES = int(os.environ.get("FUZZ", "60"))
# Streams of bytes that are sent one after the other for one example: a server is not started for each.
BATCH = 5

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
ENDS = (b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\r\r\n")


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """One to three messages, each built of parts that are right or almost right, and sometimes bent."""
    sent = b""
    for _ in range(draw(st.integers(1, 3))):
        lines = draw(st.lists(st.sampled_from(LINES), max_size=3))
        start = draw(st.sampled_from(STARTS[:3] * 4 + STARTS))
        sent += b"\r\n".join((start, b"Host: h", *lines)) + draw(st.sampled_from(ENDS))
        sent += draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(sent)))
        sent = sent[:at] + draw(st.binary(max_size=2)) + sent[at + draw(st.integers(0, 2)) :]
    return sent


async def throw(place: tuple[str, int], sent: bytes, cut: int) -> bytes:
    """Sends in two pieces, and gives back what is answered until the server ends it or falls silent."""
    reader, writer = await asyncio.open_connection(*place)
    said = b""
    try:
        writer.write(sent[:cut])
        await asyncio.sleep(0)
        writer.write(sent[cut:])
        async with asyncio.timeout(5):
            while piece := await reader.read(65536):
                said += piece
    except ConnectionError:
        pass
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


@settings(max_examples=EXAMPLES)
@given(data=st.data())
async def test_one_request_in_at_most_one_out(data: st.DataObject) -> None:
    """What reaches the origin is what another parser reads in the same bytes, in that order, and no more."""
    limits = LimitSettings(head_timeout=0.05, body_timeout=0.05, idle_timeout=0.05)
    for _ in range(BATCH):
        sent = data.draw(streams())
        cut = data.draw(st.integers(0, len(sent)))
        async with origin() as at, edge(at, limits=limits) as place:
            said = await throw(place, sent, cut)

            seen = arrived(at)
            judge = await judged(sent)
            expected = [(method, origin_form(target), body) for method, target, body in judge]
            # llhttp knows a list of methods, and no targets beyond ASCII; neither is a matter of boundaries.
            odd = (at for at, one in enumerate(seen) if one[0] not in KNOWN or not one[1].isascii())
            strange = next(odd, len(seen))
            assert seen[:strange] == expected[:strange], (sent, said)
            answers = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", said)
            assert len(seen) <= len(answers) or b"close" in said.lower() or not said, (sent, said)
            assert b"Traceback" not in said
