"""Messages passed on as the bytes they came in: nothing is taken out, and lines are added at the end.

What is not as plain as that (another coding, an upgrade, claims of a peer, an odd spelling, a fault) matches
no pattern here, and is left to `core.requesthead` and `core.forwarding`, which do the same line by line;
tests compare the two. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from proxy.core.forwarding import CLAIMS, OVERRIDE_HEADERS
from proxy.core.framing import BODILESS, MAX_LENGTH_DIGITS
from proxy.core.headers import HOP_BY_HOP, Headers
from proxy.core.replyhead import MAX_LINE, MAX_LINES


def any_case(names: Iterable[bytes]) -> bytes:
    """A pattern of these lower-case names in any case, which looks at the first letter first."""
    rest: dict[bytes, list[bytes]] = {}
    for name in sorted(names):
        rest.setdefault(name[:1], []).append(re.escape(name[1:]))
    return b"|".join(b"[%b%b](?i:%b)" % (one.upper(), one, b"|".join(rest[one])) for one in rest)


# Lines that are more than lines: about this hop, about those before it, or about another request than they
# stand in.
_TELLING: Final = any_case(
    HOP_BY_HOP
    | CLAIMS
    | OVERRIDE_HEADERS
    | {b"content-length", b"expect", b"host", b"max-forwards", b"traceparent", b"x-request-id"}
)
_VALUE: Final = rb"[^\x00-\x08\x0a-\x1f\x7f]*+"
# A name with `_` may be one of the telling ones in the spelling of WSGI. `(?(N)(?!))`: not a second time.
# What repeats the lines is not possessive, as Python 3.11 then loses its groups.
_REQUEST: Final = re.compile(
    rb"(?!TRACE |CONNECT )([!#$%%&'*+\-.^_`|~0-9A-Za-z]++) (/[!-\"$-~\x80-\xff]*+) HTTP/1\.1\r\n"
    rb"(?:(?:(?!(?:%b):)[!#$%%&'*+\-.^`|~0-9A-Za-z]++:%b"
    rb"|[Hh](?i:ost):(?(3)(?!))[ \t]*+([A-Za-z0-9\-._~%%!$&'()*+;=:\[\]]*+)[ \t]*+"
    rb"|[Cc](?i:ontent-length):(?(4)(?!)) *+([0-9]{1,%d}+) *+"
    rb"|(?(5)(?!))([Cc](?i:onnection):[ \t]*+(?i:keep-alive)[ \t]*+)"
    rb"|[Xx](?i:-request-id):(?(6)(?!))[ \t]*+(%b)"
    rb"|[Tt](?i:raceparent):(?(7)(?!))[ \t]*+(%b)"
    rb")\r\n)*\r\n" % (_TELLING, _VALUE, MAX_LENGTH_DIGITS, _VALUE, _VALUE)
)
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [ -~\x80-\xff]*+\r\n"
    rb"(?:(?:(?!(?:%b):)[!#$%%&'*+\-.^_`|~0-9A-Za-z]++:%b"
    rb"|[Cc](?i:ontent-length):(?(2)(?!))[ \t]*+(0|[1-9][0-9]{0,%d}+)[ \t]*+"
    rb"|[Dd](?i:ate)(:)%b"
    rb"|[Cc](?i:onnection)(:)[ \t]*+(?i:keep-alive|(close))[ \t]*+"
    rb"|[Kk](?i:eep-alive)(:)%b"
    rb")\r\n){0,%d}\r\n"
    % (
        *(any_case(HOP_BY_HOP | {b"content-length", b"date"}), _VALUE, MAX_LENGTH_DIGITS - 1, _VALUE, _VALUE),
        MAX_LINES,
    )
)
_HOP: Final = re.compile(rb"\n(?i:connection|keep-alive):[^\r]*+\r")


class Plain(msgspec.Struct, frozen=True):
    """A request that can be passed on as it came, but for its last, empty line."""

    method: str
    target: str
    head: bytes
    host: bytes
    length: int
    request_id: bytes | None
    traceparent: bytes | None

    @property
    def names(self) -> Headers:
        """The lines that give it a name for logs."""
        lines = ((b"X-Request-Id", self.request_id), (b"traceparent", self.traceparent))
        return Headers((name, value.strip(b" \t")) for name, value in lines if value is not None)


def plain_request(data: bytes) -> Plain | None:
    """The request whose whole head is `data`, if `core.requesthead` would take it, but for the limits.

    None where a line asks for more than to be passed on. `Connection: keep-alive` does not.
    """
    found = _REQUEST.fullmatch(data)
    if found is None:
        return None
    method, target, host, digits, keeps, request_id, traceparent = found.groups()
    length = 0 if digits is None else int(digits)
    if host is None or (digits is not None and not length and digits != b"0"):
        return None
    head = data[:-2]
    if keeps is not None:
        start, end = found.span(5)
        head = data[:start] + data[end + 2 : -2]
    line = method.decode("ascii"), target.decode("utf-8", "surrogateescape")
    return Plain(*line, head, host, length, request_id, traceparent)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer: its status line and lines as they came, each with its end, and the content."""

    status: int
    head: bytes
    dated: bool
    content: bytes
    persistent: bool


def plain_answer(data: bytes, method: str) -> Answer | None:
    """The answer to `method` that `data` is, with nothing missing and nothing behind it; else None.

    It must state the length of its content, and have no line that is not passed on but `Connection` and
    `Keep-Alive`, which say that the connection goes on, or does not.
    """
    found = _ANSWER.match(data, 0, MAX_LINE)
    if found is None:
        return None
    status, digits, dated, connection, close, keep_alive = found.groups()
    number, end = int(status), found.end()
    content = data[end:]
    if number == 204 and digits not in (None, b"0"):
        return None
    bodiless = method == "HEAD" or number in BODILESS
    if len(content) != (0 if bodiless else -1 if digits is None else int(digits)):
        return None
    head = data[: end - 2]
    if connection is not None or keep_alive is not None:
        head = _HOP.sub(b"", head)
    return Answer(number, head, dated is not None, content, close is None)
