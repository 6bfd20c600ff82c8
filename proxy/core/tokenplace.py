"""Where a request carries its token: in Authorization, in a cookie, or in a parameter of its query."""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import unquote_plus

import msgspec

from proxy.core.bearer import bearer
from proxy.core.headers import Headers
from proxy.core.identity import Rejected, Unproven
from proxy.core.model import Reason, Request

# RFC 6750 §2.1, less what means something else in a form or a cookie to some servers: `+` is a space there.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~/]+=*")


class Where(StrEnum):
    """The kind of place."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


class TokenPlace(msgspec.Struct, frozen=True, kw_only=True):
    """`token_from`: `name` is the cookie's or the parameter's."""

    where: Where = Where.HEADER
    name: str = ""


HEADER = TokenPlace()

Carried = str | Rejected | Unproven | None


def token_of(request: Request, place: TokenPlace) -> Carried:
    """The token of a request, None where it has none.

    Unproven where upstream may read another token than this one, or none: it decides then. That is so for two
    of that name, for a spelling that servers read differently, and for an Authorization line beside it.
    """
    if place.where is Where.HEADER:
        return bearer(request.headers)
    cookie = place.where is Where.COOKIE
    found = _cookies(request.headers, place.name) if cookie else _parameters(request.target, place.name)
    if not found:
        return None
    if len(found) > 1 or _PLAIN.fullmatch(found[0]) is None:
        return Unproven(Reason.TOKEN_MALFORMED)
    return Unproven(Reason.CREDENTIALS) if "authorization" in request.headers else found[0]


def in_target(target: str, place: TokenPlace) -> bool:
    """Whether the URL holds a token, so that nothing may be kept under it."""
    return place.where is Where.QUERY and bool(_parameters(target, place.name))


def _cookies(headers: Headers, name: str) -> list[str]:
    pairs = [pair.partition("=") for line in headers.get_all("cookie") for pair in line.split(";")]
    return [value.strip(" \t") for key, _, value in pairs if key.strip(" \t") == name]


def _parameters(target: str, name: str) -> list[str]:
    """In every spelling of the name; a value that is spelled otherwise than plainly is left as it is."""
    pairs = [pair.partition("=") for pair in re.split("[&;]", target.partition("?")[2])]
    return [value for key, _, value in pairs if unquote_plus(key) == name]
