"""The token of a request, and the hash that stands for it everywhere else."""

from __future__ import annotations

import re
from hashlib import sha256

from proxy.core.headers import Headers
from proxy.core.identity import Rejected
from proxy.core.model import Reason

_BEARER = re.compile(r"bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])(.*)", re.IGNORECASE | re.DOTALL)
_B64TOKEN = re.compile(r" +([A-Za-z0-9\-._~+/]+=*)")  # RFC 6750 §2.1


def bearer(headers: Headers) -> str | Rejected | None:
    """The request's bearer token; None where it has none (no Authorization, or another scheme).

    Rejected(TOKEN_MALFORMED) for more than one Authorization line, or a Bearer line without one well-formed
    b64token (RFC 6750 §2.1): upstream might read such a request as anybody's.
    """
    lines = headers.get_all("authorization")
    if not lines:
        return None
    if len(lines) > 1:
        return Rejected(Reason.TOKEN_MALFORMED)
    scheme = _BEARER.fullmatch(lines[0].strip(" \t"))
    if scheme is None:
        return None
    token = _B64TOKEN.fullmatch(scheme[1])
    return Rejected(Reason.TOKEN_MALFORMED) if token is None else token[1]


def token_hash(token: str) -> str:
    """SHA-256 of the token, 64 hex digits: what stands for it in keys and memory."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
