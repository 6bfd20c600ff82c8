"""Bytes of a service thrown at the whole proxy: a client gets what another parser reads in them, or an error.

Never more than that, and never a part of it as another answer. `FUZZ=100000 make fuzz` looks longer.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import connection
from proxy.core import replyhead
from proxy.core.framing import Framing, answer_framing
from proxy.core.headers import RawHeaders
from tests.fuzz.judge import answer
from tests.fuzz.test_smuggling import CONTENTS, EXAMPLES, all_of, framings, in_chunks
from tests.http.test_attacks import EVIL, NEXT, PLACES, Service, attacked, exchange

BATCH = 5
STARTS = (
    *(b"HTTP/1.1 200 OK",) * 12,
    *(b"HTTP/1.0 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 599", b"HTTP/1.1 204 No Content"),
    *(
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK",
    ),
    *(
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2 200",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1\t200",
    ),
)
LINES = (
    *(b"Content-Length: %d" % number for number in (0, 1, 5, 2**63)),
    *(
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"content-length:05",
        b"Content-Length : 5",
        b" Content-Length: 5",
    ),
    *(
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"TE: x",
    ),
    *(
        b"Connection: close",
        b"Connection: Content-Length",
        b"Connection: keep-alive",
        b"Upgrade: websocket",
        b"Trailer: X",
    ),
    *(
        b"X: \xff",
        b"X: 1\n",
        b"X: a\rb",
        b"X: \0",
        b"X",
        b": 1",
        b"X:",
        b"Set-Cookie: a=b",
        b"Vary: *",
        b"Age: 5",
    ),
    *(
        b"Cache-Control: max-age=60",
        b'ETag: "1"',
        b"Content-Type: application/json",
        b"Content-Encoding: gzip",
    ),
)
BODIES = (
    *(
        b"",
        b"x",
        b"hello",
        EVIL,
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"-5\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
    ),
    *(
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n" + EVIL,
        b"0\r\nContent-Length: 5\r\n\r\n" + EVIL,
    ),
    *(
        b"5\r\nhello\r\n",
        b"0\r\nX: 1\r\n 2\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"0\r\n" + b"X: 1\r\n" * 40 + b"\r\n",
    ),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """One answer of parts that are right or almost right, perhaps with another one behind it, or bent."""
    content = draw(st.sampled_from((*CONTENTS, EVIL, b'{"id":1}')))
    said = draw(st.sampled_from((len(content), 0, 3)))
    made = framings(
        content, in_chunks(content, draw(st.sampled_from((1, 100)))), said, draw(st.sampled_from(BODIES))
    )
    lines, body = made[draw(st.integers(0, len(made) - 1))]
    if draw(st.integers(0, 1)):
        lines = [*lines, *draw(st.lists(st.sampled_from(LINES), max_size=2))]
    ends = draw(st.sampled_from((*(b"\r\n\r\n",) * 9, b"\n\n", b"\r\n\n")))
    sent = b"\r\n".join((draw(st.sampled_from(STARTS)), *draw(st.permutations(lines)))) + ends + body
    sent += draw(st.sampled_from((b"", b"", EVIL)))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(sent)))
        sent = sent[:at] + draw(st.binary(max_size=2)) + sent[at + draw(st.integers(0, 2)) :]
    return sent


def parts() -> list[bytes]:
    """An answer for each way to frame content, each body, line and start."""
    ok, coding, length = b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], b"Content-Length: 5"
    made = []
    for content in CONTENTS:
        for said in (len(content), 3):
            made += framings(content, in_chunks(content, 5), said, b"")
    made += [(lines, body) for body in BODIES for lines in ([], coding)]
    made += [([length, line], b"hello") for line in LINES]
    found = [b"\r\n".join((ok, *lines)) + b"\r\n\r\n" + body for lines, body in made]
    return found + [b"\r\n".join((start, length)) + b"\r\n\r\nhello" for start in STARTS]


class Got(NamedTuple):
    """One answer of the proxy, `content` None where it breaks off."""

    status: int
    ours: bool
    content: bytes | None


def told(said: bytes) -> list[Got]:
    """The answers in what the proxy said, whose own framing is beyond doubt."""
    found = []
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status < 200:
            continue
        # A service's own spelling of the name goes on.
        length = re.search(rb"(?i)\r\nContent-Length: (\d+)", head)
        if b"\r\nTransfer-Encoding: chunked" in head:
            content: bytes | None = b""
            while content is not None:
                size, ended, rest = said.partition(b"\r\n")
                count = int(size, 16) if ended else -1
                if count < 0 or len(rest) < count + 2:
                    content, said = None, b""
                elif count == 0:
                    # The trailers, and the empty line.
                    said = (b"\r\n" + rest).partition(b"\r\n\r\n")[2]
                    break
                else:
                    content, said = content + rest[:count], rest[count + 2 :]
        else:
            count = 0 if length is None or status in (204, 304) else int(length[1])
            content, said = (said[:count] if len(said) >= count else None), said[count:]
        found.append(Got(status, b"application/problem+json" in head, content))
    return found


async def probe(sent: bytes, path: str) -> None:
    """Raises AssertionError where the client gets what no other parser reads in these bytes."""
    with TemporaryDirectory() as folder:
        async with attacked(Path(folder), Service(sent, path.encode(), last=True), patience="5s") as place:
            said = await exchange(place, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() + NEXT)
    got, read = told(said), answer(sent)
    assert got, (sent, path)
    first = got[0]
    if first.ours:
        assert first.status in (502, 504), (sent, path, said)
    else:
        assert read is not None, (sent, path, said)
        assert first.status == read[0], (sent, path, said)
        assert first.content in (None, read[1]) or (read[1] is not None and path in _LOOKED_INTO), (
            sent,
            path,
            said,
        )
    # Its own, or none where the connection broke with the first one.
    assert [(200, True)] == [(one.status, b"/nowhere/next" in (one.content or b"")) for one in got[1:]] or (
        len(got) == 1 and first.content is None
    ), (sent, path, said)


# JSON of these may have been taken apart and written anew.
_LOOKED_INTO = ("/users/1", "/kept/a")


async def test_each_part_by_itself() -> None:
    """One answer, made of one thing that is odd."""
    await all_of([probe(sent, "/kept/a") for sent in parts()])


@settings(max_examples=max(EXAMPLES // 3, 1))
@given(data=st.data())
async def test_a_client_gets_what_was_answered(data: st.DataObject) -> None:
    """On every kind of route, and the next answer on its connection is its own."""
    thrown = [data.draw(answers()) for _ in range(BATCH)]
    places = [data.draw(st.sampled_from(PLACES)) for _ in range(BATCH)]
    await all_of([*map(probe, thrown, places)])


def either_framing(
    method: str, status: int, reason: bytes, version: tuple[int, int], headers: RawHeaders
) -> Framing:
    """Believes in the chunks where there is a length as well."""
    chunked = any(name.lower() == b"transfer-encoding" for name, _ in headers)
    kept = tuple(line for line in headers if not (chunked and line[0].lower() == b"content-length"))
    return answer_framing(method, status, reason, version, kept)


def any_fields(section: bytes) -> RawHeaders:
    """Takes every line for a field."""
    lines = [line.partition(b":") for line in re.split(rb"\r?\n", section) if line]
    return tuple((name.strip() or b"X", value.strip()) for name, _, value in lines)


HOLES: dict[str, tuple[object, str, object]] = {
    "two framings": (connection, "answer_framing", either_framing),
    "lenient fields": (replyhead, "read_fields", any_fields),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What throws these bytes must fall through a parser that is broken on purpose."""
    monkeypatch.setattr(*HOLES[hole])

    with pytest.raises(AssertionError):
        asyncio.run(all_of([probe(sent, "/nowhere") for sent in parts()]))
