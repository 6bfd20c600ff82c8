"""What a request's head may look like: where two parties could read it differently, it is refused.

Its lines have been read by then; this is what they say together (RFC 9112 §3.2, §6.3, §11.2).
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.errors import ClientError
from proxy.core.framing import MAX_LENGTH_DIGITS
from proxy.core.headers import Headers

REFUSED_METHODS: Final = frozenset({"TRACE", "CONNECT"})

# RFC 3986 §3.2.2 and §3.2.3 without the comma, which joins the values of two lines.
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+;=:\[\]]*")
_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)


class MethodNotAllowed(ClientError):
    """TRACE shows credentials to scripts, CONNECT makes a tunnel; neither is for a users API."""

    def __init__(self) -> None:
        super().__init__(405, "method-not-allowed", "TRACE and CONNECT are not forwarded.")


def checked_target(method: str, target: str, version: str, headers: Headers) -> str:
    """The request target in origin form, untouched if it came so. Raises ClientError for a bad head."""
    if method in REFUSED_METHODS:
        raise MethodNotAllowed
    fault = _version(version) or _host(version, headers) or _framing(version, headers)
    if fault is not None:
        raise ClientError(400, "bad-request", fault)
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or absolute[1].lower() != (headers.get("host") or "").lower():
        raise ClientError(400, "bad-request", "The request target must be a path, or a URL of this host.")
    # RFC 9112 §3.2.1, §3.2.4: an empty path is "/", or "*" where OPTIONS asks about the server.
    if not absolute[2] and method == "OPTIONS":
        return "*"
    return absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]


def _version(version: str) -> str | None:
    return None if version in ("1.0", "1.1") else "Only HTTP/1.0 and HTTP/1.1 are understood."


def _host(version: str, headers: Headers) -> str | None:
    hosts = headers.get_all("host")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return "There must be exactly one Host line."
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        return "The Host line must hold a host and at most a port."
    return None


def _framing(version: str, headers: Headers) -> str | None:
    lengths, codings = headers.get_all("content-length"), headers.get_all("transfer-encoding")
    if not lengths and not codings:
        return None
    if codings and (lengths or version == "1.0" or [coding.lower() for coding in codings] != ["chunked"]):
        return "Transfer-Encoding must be chunked, once, on HTTP/1.1, and without Content-Length."
    for length in lengths:
        if len(lengths) > 1 or not (length.isascii() and length.isdigit()) or len(length) > MAX_LENGTH_DIGITS:
            return "There must be at most one Content-Length, a whole number of at most 18 digits."
    return None
