"""An answer's head by the grammar of RFC 9112: what two could read differently is no answer. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.core.headers import RawHeaders
from proxy.core.requesthead import LONE, read_fields

# Nobody's answer head is larger; a service that never ends its head must not fill memory.
MAX_HEAD: Final = 64 * 1024
MAX_LINE: Final = 16 * 1024
MAX_LINES: Final = 256

END: Final = b"\r\n\r\n"
# A reason may be missing, and old servers leave out the blank before it as well.
_START: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_BEGINNING: Final = b"HTTP/1."


class ReplyHead(NamedTuple):
    """What a head says."""

    status: int
    reason: bytes
    version: tuple[int, int]
    headers: RawHeaders


def read_reply_head(data: bytes) -> ReplyHead:
    """The head in `data`, which ends with the empty line. Raises ValueError."""
    line, _, rest = data.partition(b"\r\n")
    start = _START.fullmatch(line)
    if start is None or len(data) > MAX_HEAD:
        raise ValueError("no status line, or too much")
    headers = read_fields(rest[:-2])
    if len(headers) > MAX_LINES or any(len(name) + len(value) > MAX_LINE for name, value in headers):
        raise ValueError("too many lines, or too long ones")
    return ReplyHead(int(start[2]), start[3] or b"", (1, int(start[1])), headers)


def check_reply_beginning(data: bytes, since: int) -> None:
    """Raises ValueError where an unfinished head can't become a good one.

    The first `since` bytes were checked before.
    """
    if len(data) > MAX_HEAD or not data.startswith(_BEGINNING[: len(data)]):
        raise ValueError("no head")
    # The last byte may be a CR whose LF is on its way.
    if LONE.search(data, max(since - 1, 0), len(data) - data.endswith(b"\r")):
        raise ValueError("a bare line end")
