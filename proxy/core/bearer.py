"""Where a request carries its token, and the hash that stands for it everywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

from proxy.core.headers import Headers
from proxy.core.identity import Rejected, Unproven
from proxy.core.model import Reason
from proxy.core.settings import TokenPlace
from proxy.core.spelling import query

_BEARER = re.compile(r"bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])(.*)", re.IGNORECASE | re.DOTALL)
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 §2.1
_CREDENTIALS = re.compile(rf" +({_B64TOKEN.pattern})")


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
    token = _CREDENTIALS.fullmatch(scheme[1])
    return Rejected(Reason.TOKEN_MALFORMED) if token is None else token[1]


def carried(headers: Headers, target: str, places: Iterable[TokenPlace]) -> str | Rejected | Unproven | None:
    """The token of a request that may carry it in any of `places`; None where it has none.

    Two different ones, be it in two places or twice in one, are Unproven: which of them counts is upstream's
    to say (RFC 6750 §2 forbids it).
    """
    found: set[str] = set()
    for place in places:
        if place.kind == "header" and not place.name:
            token = bearer(headers)
            if isinstance(token, Rejected):
                return token
            texts = [] if token is None else [token]
        else:
            texts = _texts(headers, target, place)
        if not all(map(_B64TOKEN.fullmatch, texts)):
            return Rejected(Reason.TOKEN_MALFORMED)
        found.update(texts)
    if len(found) > 1:
        return Unproven(Reason.TOKEN_AMBIGUOUS)
    return found.pop() if found else None


def _texts(headers: Headers, target: str, place: TokenPlace) -> list[str]:
    if place.kind == "header":
        return [line.strip(" \t") for line in headers.get_all(place.name)]
    if place.kind == "cookie":
        pairs = (pair.partition("=") for line in headers.get_all("cookie") for pair in line.split(";"))
        return [value.strip(" \t") for name, _, value in pairs if name.strip(" \t") == place.name]
    # A value whose end is unclear is none of the token's letters.
    return [text or "" for text in query(target).get(place.name, ())]


def token_hash(token: str) -> str:
    """SHA-256 of the token, 64 hex digits: what stands for it in keys and memory."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
