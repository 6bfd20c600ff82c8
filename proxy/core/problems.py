"""The proxy's own errors as `application/problem+json` (RFC 9457), with types that people may rely on."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from proxy.core.errors import (
    ClientError,
    InvalidToken,
    ProxyError,
    TooManyMisses,
    UpstreamBusy,
    UpstreamError,
)
from proxy.core.forwarding import VIA
from proxy.core.headers import RawHeaders
from proxy.core.model import Reply

TYPE_PREFIX = "urn:user-cache-proxy:problem:"

# problem → (status, title). The last part of the type is stable; titles are for people.
PROBLEMS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "invalid-token": (401, "The token is not valid"),
    "foreign-page": (403, "A web page may not ask this"),
    "method-not-allowed": (405, "The method is not allowed"),
    "request-timeout": (408, "The request did not arrive in time"),
    "too-large": (413, "The request is too large"),
    "uri-too-long": (414, "The request target is too long"),
    "too-many-misses": (429, "Too many users were asked for that are not there"),
    "header-too-large": (431, "The request's header fields are too large"),
    "overloaded": (503, "Too many connections are open"),
    "store-unreachable": (503, "The cache can't be told of a write"),
    "only-if-cached": (504, "Nothing fresh is stored"),
    "internal-error": (500, "The proxy made a mistake"),
    "upstream-failed": (502, "Upstream broke off or answered something that is not HTTP"),
    "upstream-unreachable": (502, "Upstream could not be reached"),
    "upstream-busy": (503, "All connections to upstream are in use"),
    "upstream-timeout": (504, "Upstream took too long"),
}

CHALLENGE: RawHeaders = ((b"WWW-Authenticate", b'Bearer error="invalid_token"'),)
"""What goes with a refused token (RFC 6750 §3.1)."""
_RETRY_AFTER: RawHeaders = ((b"Retry-After", b"1"),)


def problem_reply(status: int, problem: str, detail: str = "", headers: RawHeaders = ()) -> Reply:
    """An answer of our own: `{"type", "title", "status", "detail"}` plus the extra field lines given.

    `detail` must be a fixed sentence: nothing of the request may be in it. `no-store` keeps a cache
    further down from remembering a moment's failure.
    """
    title = PROBLEMS[problem][1] if problem in PROBLEMS else HTTPStatus(status).phrase
    members: dict[str, str | int] = {"type": TYPE_PREFIX + problem, "title": title, "status": status}
    if detail:
        members["detail"] = detail
    return Reply(
        status=status,
        reason=HTTPStatus(status).phrase.encode("ascii"),
        headers=(
            (b"Content-Type", b"application/problem+json"),
            (b"Cache-Control", b"no-store"),
            VIA,
            *headers,
        ),
        body=msgspec.json.encode(members),
    )


def error_reply(error: ProxyError) -> Reply:
    """The answer for an error of this package; those that are not the client's or upstream's are ours."""
    match error:
        case InvalidToken():
            return problem_reply(error.status, error.problem, error.detail, CHALLENGE)
        case TooManyMisses():
            again = (b"Retry-After", str(error.seconds).encode("ascii"))
            return problem_reply(error.status, error.problem, error.detail, (again,))
        case ClientError():
            return problem_reply(error.status, error.problem, error.detail)
        case UpstreamBusy():
            return problem_reply(error.status, error.problem, error.detail, _RETRY_AFTER)
        case UpstreamError():
            return problem_reply(error.status, error.problem, error.detail)
        case _:
            return problem_reply(500, "internal-error")
