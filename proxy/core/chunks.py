"""The chunked coding of RFC 9112 §7.1, read strictly. Pure: bytes in, content out."""

from __future__ import annotations

import re
from typing import Final

from proxy.core.headers import RawHeaders
from proxy.core.requesthead import read_fields

_WORD: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb"\"(?:[^\x00-\x08\x0a-\x1f\x7f\"\\]|\\[\t -~\x80-\xff])*\""
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_WORD, _WORD, _QUOTED)
)
# What a signed 64-bit counter can hold; with larger sizes readers wrap around.
MAX_SIZE: Final = 2**63 - 1
# Extensions are for one hop and nobody uses them; without a bound they would carry a body of their own.
MAX_SIZE_LINE: Final = 256
MAX_TRAILERS: Final = 8 * 1024
MAX_TRAILER_LINES: Final = 32

_LONE: Final = re.compile(rb"(?<!\r)\n|\r[^\n]")

# RFC 9110 §6.5.1: what says where a message ends or whom it is for can't come after it.
_FRAMING: Final = frozenset({b"content-length", b"host", b"transfer-encoding"})


class Chunks:
    """Reads a chunked body as it arrives. `done` after the last chunk; `trailers` are the lines behind it.

    `lenient` takes what services write and clients may not: blanks behind a size, and any name in the lines
    behind the last chunk, which are nobody's head.
    """

    __slots__ = ("_held", "_left", "_lenient", "_pending", "done", "trailers")

    def __init__(self, *, lenient: bool = False) -> None:
        self.done = False
        self.trailers: RawHeaders = ()
        self._lenient = lenient
        self._held = b""
        self._left = 0
        # What comes next: "size", "data", "end" (of the data) or "trailers".
        self._pending = "size"

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The pieces of content in `data`, and what follows the body. Raises ValueError."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._pending == "data":
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._pending = "end"
                continue
            after = self._step(data, at)
            if after < 0:
                self._held = data[at:]
                return pieces, b""
            at = after
        return pieces, data[at:]

    def _step(self, data: bytes, at: int) -> int:
        """Where the next step starts, or -1 where a line is not complete."""
        if self._pending == "end":
            if data[at : at + 2] == b"\r\n":
                self._pending = "size"
                return at + 2
            if data[at:] == b"\r":
                return -1
            raise ValueError("no line end after a chunk")
        if self._pending == "size":
            return self._size(data, at)
        return self._section(data, at)

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + MAX_SIZE_LINE)
        if end < 0:
            # A CR is followed by its LF at once, or by nothing yet.
            if len(data) - at >= MAX_SIZE_LINE or 0 <= data.find(b"\r", at) < len(data) - 1:
                raise ValueError("size line too long")
            return -1
        line = data[at : end - 1]
        if data[end - 1 : end] != b"\r" or end == at:
            raise ValueError("bare line feed")
        found = _SIZE.fullmatch(line.rstrip(b" \t") if self._lenient else line)
        if found is None:
            raise ValueError("bad size")
        self._left = int(found[1], 16)
        if self._left > MAX_SIZE:
            raise ValueError("size too large")
        self._pending = "data" if self._left else "trailers"
        return end + 1

    def _section(self, data: bytes, at: int) -> int:
        if data[at : at + 2] == b"\r\n":
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        if end < 0:
            if len(data) - at >= MAX_TRAILERS or _LONE.search(data, at):
                raise ValueError("trailers too long")
            return -1
        lines = read_fields(data[at : end + 2])
        framed = not self._lenient and any(name.lower() in _FRAMING for name, _ in lines)
        if framed or len(lines) > MAX_TRAILER_LINES:
            raise ValueError("bad trailers")
        self.trailers = lines
        self.done = True
        return end + 4
