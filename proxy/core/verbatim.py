"""Messages passed on as the bytes they came in: nothing is taken out, and lines are added at the end.

What is not as plain as that (another coding, an upgrade, claims of a peer, an odd spelling) is left to
`core.forwarding`, which does the same line by line; a test compares the two. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.core.forwarding import CLAIMS, OVERRIDE_HEADERS
from proxy.core.framing import BODILESS, MAX_LENGTH_DIGITS
from proxy.core.headers import HOP_BY_HOP
from proxy.core.replyhead import MAX_LINE, MAX_LINES
from proxy.core.requesthead import FIELDS, RequestHead

# Lines that are more than lines: about this hop, about those before it, or about another request than they
# stand in. A name with `_` may be one of them in the spelling of WSGI.
_NAMING: Final = frozenset({b"x-request-id", b"traceparent"})
_TELLING: Final = (
    HOP_BY_HOP
    | CLAIMS
    | OVERRIDE_HEADERS
    | _NAMING
    | {b"content-length", b"expect", b"host", b"max-forwards", b"trailer"}
)
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~\x80-\xff]*)\r\n")
_KEEPS: Final = b"keep-alive"


class Plain(NamedTuple):
    """A request that can be passed on as it came, but for its last, empty line.

    `named`: a line gives it a name for logs; `identified`: that is an `X-Request-Id`.
    """

    head: bytes
    host: bytes
    named: bool
    identified: bool


def plain_request(head: RequestHead, data: bytes) -> Plain | None:
    """The request whose head, which has been read, is `data`.

    None where a line asks for more than to be passed on. `Connection: keep-alive` does not.
    """
    if head.version != "1.1" or not data.startswith(b"/", len(head.method) + 1):
        return None
    host = b""
    named = identified = keeps = False
    for name, value in head.headers.raw:
        lower = name.lower()
        if lower in _TELLING:
            if lower == b"host":
                host = value
            elif lower in _NAMING:
                named = True
                identified |= lower == b"x-request-id"
            elif lower == b"connection" and value.lower() == _KEEPS:
                keeps = True
            elif lower != b"content-length" or (head.length == 0 and value != b"0"):
                return None
        elif b"_" in name:
            return None
    return Plain(_without_connection(data) if keeps else data[:-2], host, named, identified)


def _without_connection(data: bytes) -> bytes:
    lines = data[:-2].split(b"\r\n")
    return b"\r\n".join(line for line in lines if line[:11].lower() != b"connection:")


class Answer(NamedTuple):
    """A whole answer: the lines as they came, each with its end, and the content behind them."""

    status: int
    reason: bytes
    lines: bytes
    dated: bool
    content: bytes
    persistent: bool


def plain_answer(data: bytes, method: str) -> Answer | None:
    """The answer to `method` that `data` is, with nothing missing and nothing behind it; else None.

    It must state the length of its content, and have no line that is not passed on but `Connection` and
    `Keep-Alive`, which say that the connection goes on, or does not.
    """
    start = _STATUS.match(data)
    end = data.find(b"\r\n\r\n", 0, MAX_LINE) + 2
    if start is None or end < 2 or FIELDS.fullmatch(data, start.end(), end) is None:
        return None
    status = int(start[1])
    length: int | None = None
    dated, persistent = False, True
    dropped: list[bytes] = []
    lines = data[start.end() : end]
    if lines.count(b"\n") > MAX_LINES:
        return None
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower == b"content-length":
            digits = value.strip(b" \t")
            if length is not None or not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
                return None
            length = int(digits)
            if digits != b"%d" % length:
                return None
        elif lower == b"date":
            dated = True
        elif lower in HOP_BY_HOP:
            token = value.strip(b" \t").lower()
            if lower == b"connection" and token in (_KEEPS, b"close"):
                persistent &= token == _KEEPS
            elif lower != _KEEPS:
                return None
            dropped.append(line)
    if method == "HEAD" or status in BODILESS:
        length = 0
    content = data[end + 2 :]
    if length != len(content):
        return None
    if dropped:
        lines = b"".join(line + b"\r\n" for line in lines.split(b"\r\n")[:-1] if line not in dropped)
    return Answer(status, start[2], lines, dated, content, persistent)
