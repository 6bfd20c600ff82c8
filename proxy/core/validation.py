"""Conditional requests on both sides: what upstream is asked, and what its word does to a stored answer."""

from __future__ import annotations

import re

from proxy.core.cachecontrol import http_date
from proxy.core.headers import Headers, RawHeaders

# What chooses or conditions an answer; a fill asks without, a revalidation with conditions of its own.
CONDITIONS = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)

_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # RFC 9110 §8.8.3
_STRONG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')

# What a stored body depends on, so that a 304 can't change it (RFC 9111 §3.2).
_ABOUT_THE_BODY = frozenset({b"content-length", b"content-encoding", b"content-range"})


def has_validator(headers: Headers) -> bool:
    """Whether an answer can be revalidated."""
    return "etag" in headers or http_date(headers.get("last-modified")) is not None


def conditions(stored: RawHeaders) -> RawHeaders:
    """The lines that ask upstream whether a stored answer still holds (RFC 9111 §4.3.1), if any do."""
    lines: list[tuple[bytes, bytes]] = []
    for name, value in stored:
        lower = name.lower()
        if lower == b"etag" and value:
            lines.append((b"If-None-Match", value))
        elif lower == b"last-modified" and http_date(value.decode("latin-1")) is not None:
            lines.append((b"If-Modified-Since", value))
    names = [name for name, _ in lines]
    # Of two validators of one kind nobody knows which one counts.
    return tuple(lines) if len(names) == len(set(names)) else ()


def confirms(stored: Headers, reply: Headers) -> bool:
    """Whether a 304 is about this stored answer (RFC 9111 §4.3.4): it names no other validator."""
    told, kept = reply.get("etag"), stored.get("etag")
    if told is not None and kept is not None:
        one, other = _ENTITY_TAG.fullmatch(told), _ENTITY_TAG.fullmatch(kept)
        if one is None or other is None:
            return told == kept
        return one[1] == other[1]
    if told is not None and _STRONG.fullmatch(told):
        return False
    modified = reply.get("last-modified")
    return modified is None or kept is not None or modified == stored.get("last-modified")


def freshened(stored: RawHeaders, update: RawHeaders) -> RawHeaders:
    """The stored lines with those of a later answer in their place (RFC 9111 §3.2).

    A field that the later answer has replaces all lines of that field; others stay as they are.
    """
    changed = {name.lower() for name, _ in update} - _ABOUT_THE_BODY
    kept = [line for line in stored if line[0].lower() not in changed]
    return (*kept, *(line for line in update if line[0].lower() in changed))


def describes(stored: Headers, body: bytes, head: Headers) -> bool:
    """Whether the answer to a HEAD is about the stored one: no name of it differs (RFC 9111 §4.3.5)."""
    for name in ("etag", "last-modified"):
        told = head.get(name)
        if told is not None and told != stored.get(name):
            return False
    length = head.get("content-length")
    return length is None or not length.isdecimal() or int(length) == len(body)


def not_modified(request: Headers, stored: Headers, received: float | None = None) -> bool:
    """Whether the client's copy is the stored one, so that 304 answers it (RFC 9110 §13.2.2, 9111 §4.3.2).

    Only for a stored 200: preconditions do not apply to other answers (9110 §13.2.1). Where it is said when
    the answer was `received`, its Date counts without Last-Modified, and that time without a Date.
    """
    asked = request.joined("if-none-match")
    if asked is not None:
        # RFC 9110 §13.1.2: weak comparison, and If-Modified-Since is not looked at.
        if asked.strip(" \t") == "*":
            return True
        tag = _ENTITY_TAG.fullmatch(stored.get("etag") or "")
        return tag is not None and tag[1] in _ENTITY_TAG.findall(asked)
    lines = request.get_all("if-modified-since")
    since = http_date(lines[0]) if len(lines) == 1 else None
    if since is None:
        return False
    modified = http_date(stored.get("last-modified"))
    if received is not None and "last-modified" not in stored:
        generated = http_date(stored.get("date"))
        modified = received if generated is None else generated
    return modified is not None and modified <= since
