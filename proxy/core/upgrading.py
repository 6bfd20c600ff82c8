"""Leaving HTTP on a connection (RFC 9110 §7.8): who may ask, and what may be agreed upon. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.forwarding import has_override
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Reply, Request

# HTTP in another form: requests in such a tunnel would pass by the cache, the fences and every check here.
_STILL_HTTP: Final = frozenset({"h2", "h2c", "http", "tls"})


def wanted(request: Request) -> tuple[str, ...]:
    """The protocols that a request asks for and may have, in its order.

    A request with a body would leave two readers of one stream, and on HTTP/1.0 there is no `Upgrade`.
    """
    headers = request.headers
    asked = headers.joined("upgrade")
    if asked is None or request.method != "GET" or request.body is not None:
        return ()
    if request.http_version != "1.1" or has_override(headers):
        return ()
    if "upgrade" not in _words(headers.joined("connection") or ""):
        return ()
    return tuple(word for word in _words(asked) if word.partition("/")[0] not in _STILL_HTTP)


def asking(sent: Request, protocols: tuple[str, ...]) -> Request:
    """The request as upstream gets it, with `Upgrade` for this hop."""
    if not protocols:
        return sent
    lines = ((b"Connection", b"Upgrade"), (b"Upgrade", ", ".join(protocols).encode("latin-1")))
    return msgspec.structs.replace(sent, headers=Headers((*sent.headers.raw, *lines)))


def check_agreed(asked: str | None, headers: RawHeaders) -> None:
    """Raises ValueError where upstream's 101 switches to something that nobody asked for."""
    lines = Headers(headers)
    chosen, known = _words(lines.joined("upgrade") or ""), _words(asked or "")
    if (
        not chosen
        or not set(chosen) <= set(known)
        or "upgrade" not in _words(lines.joined("connection") or "")
    ):
        raise ValueError("an upgrade that was not asked for")


def switching_head(reply: Reply, protocol: bytes) -> bytes:
    """The client's 101: upstream's lines, and those of this hop."""
    lines = [b"HTTP/1.1 101 %b\r\n" % reply.reason]
    lines += [
        b"%b: %b\r\n" % (name, value)
        for name, value in reply.headers
        # RFC 9110 §8.6, RFC 9112 §6.1: neither is in a 101.
        if name.lower() not in (b"content-length", b"transfer-encoding")
    ]
    return b"".join((*lines, b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol))


def _words(value: str) -> list[str]:
    return [word for part in value.split(",") if (word := part.strip(" \t").lower())]
