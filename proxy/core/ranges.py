"""Parts of a complete stored answer (RFC 9110 §14): which are asked for, and what they look like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

from proxy.core.cachecontrol import http_date
from proxy.core.headers import Headers, RawHeaders

# More parts than that are an attack on whoever has to make them (RFC 9110 §17.15).
MOST = 8
_SPEC = re.compile(r"[ \t]*(\d{1,18})?-(\d{1,18})?[ \t]*", re.ASCII)
_STRONG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No part that is asked for exists: 416."""


@dataclass(frozen=True, slots=True)
class Partial:
    """The answer's own lines and body: 206."""

    headers: RawHeaders
    body: bytes


def partial(request: Headers, stored: RawHeaders, body: bytes) -> Partial | Unsatisfiable | None:
    """What a request with Range gets of a stored 200; None: all of it (RFC 9110 §14.2).

    Unknown units, nonsense, too many parts, overlapping ones and an If-Range that does not hold mean None.
    """
    lines = request.get_all("range")
    if len(lines) != 1 or not _condition_holds(request, Headers(stored)):
        return None
    spans = _spans(lines[0], len(body))
    if spans is None:
        return None
    if not spans:
        return Unsatisfiable()
    kept = tuple(line for line in stored if line[0].lower() not in (b"content-length", b"content-range"))
    if len(spans) == 1:
        first, last = spans[0]
        told = (b"Content-Range", b"bytes %d-%d/%d" % (first, last, len(body)))
        return Partial((*kept, told), body[first : last + 1])
    return _multipart(kept, body, spans)


def _spans(value: str, length: int) -> list[tuple[int, int]] | None:
    unit, equals, text = value.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    specs = text.split(",")
    if len(specs) > MOST:
        return None
    found: list[tuple[int, int]] = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or (match[1] is None and match[2] is None):
            return None
        if match[1] is None:
            first, last = max(0, length - int(match[2])), length - 1
            if not int(match[2]):
                continue
        else:
            first = int(match[1])
            last = length - 1 if match[2] is None else min(int(match[2]), length - 1)
            if match[2] is not None and int(match[2]) < first:
                return None
        if first < length:
            found.append((first, last))
    ordered = sorted(found)
    if any(one[1] >= other[0] for one, other in pairwise(ordered)):
        return None
    return found


def _multipart(kept: RawHeaders, body: bytes, spans: list[tuple[int, int]]) -> Partial:
    kind = next((value for name, value in kept if name.lower() == b"content-type"), None)
    boundary = blake2b(body, digest_size=16).hexdigest().encode()
    pieces: list[bytes] = []
    for first, last in spans:
        pieces.append(b"\r\n--%b\r\n" % boundary)
        if kind is not None:
            pieces.append(b"Content-Type: %b\r\n" % kind)
        pieces.append(b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (first, last, len(body)))
        pieces.append(body[first : last + 1])
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    rest = tuple(line for line in kept if line[0].lower() != b"content-type")
    return Partial(
        (*rest, (b"Content-Type", b"multipart/byteranges; boundary=" + boundary)), b"".join(pieces)
    )


def _condition_holds(request: Headers, stored: Headers) -> bool:
    """If-Range: strong comparison, and a date only where it is a strong validator (RFC 9110 §13.1.5)."""
    lines = request.get_all("if-range")
    if not lines:
        return True
    if len(lines) != 1:
        return False
    value = lines[0].strip(" \t")
    if value.startswith(("W/", '"')):
        return _STRONG.fullmatch(value) is not None and value == stored.get("etag")
    asked, modified = http_date(value), http_date(stored.get("last-modified"))
    generated = http_date(stored.get("date"))
    return (
        asked is not None
        and asked == modified
        and generated is not None
        and modified <= generated - 1  # RFC 9110 §8.8.2.2
    )
