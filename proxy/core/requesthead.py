"""A request's head, read by the grammar of RFC 9112 and not a byte more liberally. Pure.

What a lenient reader would mend (a bare line feed, a folded line, a blank before the colon) is what
another reader mends differently; so it is refused, with a sentence that says which of these it was.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientError
from proxy.core.headers import Headers, RawHeaders
from proxy.core.incoming import checked_target

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Octets beyond ASCII are no part of a URL, but clients send them and services understand them.
_START: Final = re.compile(rb"(%b) ([!-\"$-~\x80-\xff]++) HTTP/([0-9]\.[0-9])" % _TOKEN)
FIELDS: Final = re.compile(rb"(?:%b:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+" % _TOKEN)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LONE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")
# A tab around the value is legal, and some readers then do not know the coding (RFC 9112 §6.1).
_TABBED: Final = re.compile(rb"(?m:^)(?i:transfer-encoding|content-length):[^\r]*\t")
_BLANK_BEFORE_COLON: Final = re.compile(rb"\r\n[^\r\n:]*[ \t]:")


class RequestHead(NamedTuple):
    """What a head says. `length` is that of the body, None where it comes in chunks."""

    method: str
    target: str
    version: str
    headers: Headers
    length: int | None
    keep_alive: bool


def read_head(data: bytes, limits: LimitSettings) -> RequestHead:
    """The head in `data`, which ends with the empty line. Raises ClientError."""
    line, _, rest = data.partition(b"\r\n")
    start = _START.fullmatch(line)
    fields = rest[:-2]
    if len(line) > limits.target + len(b"OPTIONS  HTTP/1.1"):
        raise too_long()
    if start is None or FIELDS.fullmatch(fields) is None:
        raise ClientError(400, "bad-request", _fault(line, data))
    raw = split_fields(fields)
    if b"\t" in fields and _TABBED.search(fields) is not None:
        raise ClientError(400, "bad-request", "A tab in a line that frames the body is refused.")
    if len(raw) > limits.fields or len(data) > limits.head:
        raise too_large()
    if len(fields) > limits.field and any(len(name) + len(value) > limits.field for name, value in raw):
        raise too_large()
    headers = Headers(raw)
    method, version = start[1].decode("ascii"), start[3].decode("ascii")
    target = checked_target(method, start[2].decode("utf-8", "surrogateescape"), version, headers)
    length: int | None = int(headers.get("content-length") or 0)
    if "transfer-encoding" in headers:
        length = None
    return RequestHead(method, target, version, headers, length, _persists(version, headers))


def check_beginning(data: bytes, since: int, limits: LimitSettings) -> None:
    """Raises ClientError where an unfinished head can't become a good one, so that nobody waits for it.

    The first `since` bytes were checked before: a head that comes byte by byte must not cost its square.
    """
    end = data.find(b"\r\n")
    if (end if end >= 0 else len(data)) > limits.target + len(b"OPTIONS  HTTP/1.1"):
        raise too_long()
    if len(data) > limits.head:
        raise too_large()
    # The last byte may be a CR whose LF is on its way.
    since = max(since - 1, 0)
    if LONE.search(data, since, len(data) - data.endswith(b"\r")) or _CONTROL.search(data, since):
        raise ClientError(400, "bad-request", _fault(b"", data))
    if end >= since and _START.fullmatch(data, 0, end) is None:
        raise ClientError(400, "bad-request", _fault(data[:end], data))


def split_fields(fields: bytes) -> RawHeaders:
    """The field lines of a section that is known to be well-formed; every line ends with CR LF."""
    lines = [line.partition(b":") for line in fields.split(b"\r\n")]
    lines.pop()
    return tuple([(name, value.strip(b" \t")) for name, _, value in lines])


def read_fields(section: bytes) -> RawHeaders:
    """The field lines of a trailer section. Raises ValueError."""
    if FIELDS.fullmatch(section) is None:
        raise ValueError("bad field line")
    return split_fields(section)


def too_long() -> ClientError:
    """The request line is over the limit."""
    return ClientError(414, "uri-too-long", "The request target is too long.")


def too_large() -> ClientError:
    """A line, the number of lines or the whole head is over the limit."""
    return ClientError(431, "header-too-large", "The request's head is too large.")


def _persists(version: str, headers: Headers) -> bool:
    value = headers.joined("connection")
    if value is None:
        return version == "1.1"
    options = {option.strip(" \t").lower() for option in value.split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


def _fault(line: bytes, data: bytes) -> str:
    """What was wrong, without a word of what was sent."""
    if _CONTROL.search(data):
        return "The head holds a control character."
    if LONE.search(data):
        return "Lines must end with CR LF, and neither may stand alone."
    if b"\r\n " in data or b"\r\n\t" in data:
        return "Header lines must not be folded."
    if _START.fullmatch(line) is None:
        return "The request line must be a method, a target and HTTP/1.0 or HTTP/1.1, one blank apart."
    if _BLANK_BEFORE_COLON.search(data):
        return "There must be no blank before the colon of a header line."
    return "A header line must be a name, a colon and a value."
