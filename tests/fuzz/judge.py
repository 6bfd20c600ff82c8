"""The requests in a stream of bytes by the letter of RFC 9112, up to the first that is none.

Written for the tests alone: it shares no line with what it judges.
"""

from __future__ import annotations

import re

Read = tuple[bytes, bytes, bytes]

START = re.compile(rb"([!#-'*+.^_`|~\w-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])", re.ASCII)
FIELD = re.compile(rb"([!#-'*+.^_`|~\w-]+):([^\x00-\x08\x0a-\x1f\x7f]*)", re.ASCII)
# Old services write blanks behind the size.
PADDED = re.compile(rb"([0-9a-fA-F]{1,16})([ \t]*;[^\r\n]*)?[ \t]*\r\n")
CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})([ \t]*;[^\r\n]*)?\r\n")


Named = dict[bytes, list[bytes]]


def strictly(sent: bytes) -> list[Read]:
    """Method, target in origin form and content of each request that is whole and beyond doubt."""
    found: list[Read] = []
    while True:
        while sent.startswith(b"\r\n"):
            sent = sent[2:]
        read = _head(sent, START)
        if read is None:
            return found
        request, named, sent = read
        method, target, minor = request.groups()
        place = _place(method, target, named, minor)
        length = _length(named, minor)
        whole = None if place is None or length == -2 else _content(sent, length)
        if place is None or whole is None:
            return found
        content, sent = whole
        found.append((method, place, content))
        options = [one.strip() for line in named.get(b"connection", []) for one in line.split(b",")]
        if b"close" in options or (minor == b"0" and b"keep-alive" not in options):
            return found


def _head(sent: bytes, starts: re.Pattern[bytes]) -> tuple[re.Match[bytes], Named, bytes] | None:
    """The start line, the values of each field in lower case, and what follows; None: it is no head."""
    head, ended, rest = sent.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    said = starts.fullmatch(start)
    if not ended or said is None:
        return None
    named: Named = {}
    for line in lines:
        field = FIELD.fullmatch(line)
        if field is None:
            return None
        named.setdefault(field[1].lower(), []).append(field[2].strip(b" \t").lower())
    return said, named, rest


def _place(method: bytes, target: bytes, named: Named, minor: bytes) -> bytes | None:
    hosts = named.get(b"host", [])
    if method in (b"TRACE", b"CONNECT") or len(hosts) > 1 or (minor == b"1" and not hosts):
        return None
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    absolute = re.fullmatch(rb"(?i:https?)://([^/?#]*)(.*)", target)
    if absolute is None or absolute[1].lower() != hosts[0]:
        return None
    return absolute[2] or (b"*" if method == b"OPTIONS" else b"/")


def _length(named: Named, minor: bytes) -> int:
    """Of the content; -1: in chunks, -2: in doubt."""
    lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
    if codings:
        return -1 if codings == [b"chunked"] and not lengths and minor == b"1" else -2
    if not lengths:
        return 0
    return int(lengths[0]) if len(lengths) == 1 and re.fullmatch(rb"[0-9]{1,18}", lengths[0]) else -2


def _content(sent: bytes, length: int, sizes: re.Pattern[bytes] = CHUNK) -> tuple[bytes, bytes] | None:
    if length >= 0:
        return (sent[:length], sent[length:]) if len(sent) >= length else None
    content = b""
    while True:
        chunk = sizes.match(sent)
        if chunk is None:
            return None
        size, sent = int(chunk[1], 16), sent[chunk.end() :]
        if not size:
            break
        if sent[size : size + 2] != b"\r\n":
            return None
        content, sent = content + sent[:size], sent[size + 2 :]
    section, ended, rest = (b"\r\n" + sent).partition(b"\r\n\r\n")
    lines = section.split(b"\r\n")[1:]
    return (content, rest) if ended and all(FIELD.fullmatch(line) for line in lines) else None


STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [\t\x20-\x7e\x80-\xff]*)?")


def answer(sent: bytes) -> tuple[int, bytes | None] | None:
    """Status and content (None where it breaks off) of the answer to a GET that a connection ended with."""
    while True:
        read = _head(sent, STATUS)
        if read is None:
            return None
        said, named, rest = read
        status = int(said[2])
        if status >= 200 or status == 101:
            break
        sent = rest
    length = _length(named, said[1])
    if length == -2 or status == 101:
        return None
    if status in (204, 304):
        return status, b""
    if b"content-length" not in named and length == 0:
        return status, rest
    whole = _content(rest, length, PADDED)
    return status, None if whole is None else whole[0]
