"""Where an answer's content ends, and what of its framing two readers could read differently. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.core.headers import RawHeaders

# More digits than any length has that a signed 64-bit counter can hold: readers differ on such values.
MAX_LENGTH_DIGITS: Final = 18

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Content of these statuses does not exist (RFC 9110 §15.3.5, §15.4.5).
BODILESS: Final = frozenset({204, 304})


class Framing(NamedTuple):
    """Where an answer's content ends: after `length` bytes, with the last chunk, or with the connection.

    `persistent`: another answer may follow on the connection.
    """

    length: int | None
    chunked: bool
    persistent: bool


class Head(NamedTuple):
    """An answer's head: all lines, hop-by-hop ones too, and what they say about the content's end."""

    status: int
    reason: bytes
    headers: RawHeaders
    framing: Framing
    version: str = "1.1"


def answer_framing(
    method: str, status: int, reason: bytes, version: tuple[int, int], headers: RawHeaders
) -> Framing:
    """The framing of an answer to `method` (RFC 9112 §6.3). Raises ValueError where readers could differ."""
    length: int | None = None
    tokens: list[bytes] = []
    chunked = False
    if version not in ((1, 0), (1, 1)) or _CONTROL.search(reason):
        raise ValueError("bad status line")
    for name, value in headers:
        lower = name.lower()
        if _CONTROL.search(value):
            raise ValueError("control character")
        if lower == b"content-length":
            if length is not None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                raise ValueError("bad length")
            length = int(value)
        elif lower == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or version != (1, 1):
                raise ValueError("unknown coding")
            chunked = True
        elif lower == b"connection":
            tokens += [token.strip().lower() for token in value.split(b",")]
    if chunked and length is not None:
        raise ValueError("two framings")
    persistent = b"close" not in tokens if version == (1, 1) else b"keep-alive" in tokens
    if method == "HEAD" or status in BODILESS:
        return Framing(0, chunked=False, persistent=persistent)
    return Framing(length, chunked, persistent and (chunked or length is not None))
