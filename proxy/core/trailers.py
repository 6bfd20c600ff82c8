"""The fields behind a chunked body, and which of them go on (RFC 9110 §6.5.1). Pure."""

from __future__ import annotations

from typing import Final

from proxy.core.forwarding import OVERRIDE_HEADERS
from proxy.core.headers import HOP_BY_HOP, RawHeaders

# Whoever merges trailers into the head would take them for what stood there: where a message ends, whom it is
# for and from, what it may do, how it is stored and how its content is read. None of that can come late.
_FORBIDDEN: Final = (
    HOP_BY_HOP
    | OVERRIDE_HEADERS
    | {
        *(b"age", b"authentication-info", b"authorization", b"cache-control", b"cache-status", b"cookie"),
        *(b"date", b"expect", b"expires", b"forwarded", b"host", b"location", b"max-forwards", b"origin"),
        *(b"pragma", b"range", b"retry-after", b"set-cookie", b"vary", b"via", b"warning"),
        *(b"trailer", b"www-authenticate", b"x-cache", b"x-host", b"x-real-ip", b"surrogate-control"),
    }
)
_FORBIDDEN_KINDS: Final = (
    b"content-",
    b"if-",
    b"proxy-",
    b"sec-",
    b"x-forwarded-",
    b"access-control-",
    b"cdn-",
)


def trailer_section(lines: RawHeaders) -> bytes:
    """The end of a chunked message: the last chunk, the fields that may go on, and the empty line."""
    return b"".join((b"0\r\n", *(b"%b: %b\r\n" % line for line in lines if _goes_on(line[0])), b"\r\n"))


def _goes_on(name: bytes) -> bool:
    # WSGI and CGI make `_` and `-` the same letter.
    folded = name.lower().replace(b"_", b"-")
    return folded not in _FORBIDDEN and not folded.startswith(_FORBIDDEN_KINDS)
