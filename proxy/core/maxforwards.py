"""`Max-Forwards`: how many hops an OPTIONS may still take (RFC 9110 §7.6.2). Pure.

TRACE, the other method that it is for, is refused whatever it says.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from proxy.core.forwarding import VIA
from proxy.core.headers import Headers
from proxy.core.model import Reply, Request

# What a proxy forwards, and this one answers for where an OPTIONS ends here.
METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_NAME: Final = "max-forwards"
_HOPS: Final = re.compile(r"[0-9]{1,9}")


def onward(request: Request) -> Request | None:
    """The request with one hop less, or None where it ends here. What is no number is not counted."""
    if request.method != "OPTIONS" or _NAME not in request.headers:
        return request
    said = request.headers.get_all(_NAME)
    if len(said) > 1 or _HOPS.fullmatch(said[0]) is None:
        return request
    left = int(said[0])
    if not left:
        return None
    lines = (
        (name, b"%d" % (left - 1) if name.lower() == _NAME.encode() else value)
        for name, value in request.headers.raw
    )
    return replace(request, headers=Headers(lines))


def options_reply() -> Reply:
    """What this proxy says of itself to an OPTIONS that ends here (RFC 9110 §9.3.7)."""
    return Reply(200, b"OK", ((b"Allow", METHODS), (b"Content-Length", b"0"), VIA), b"")
