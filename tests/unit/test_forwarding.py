"""The rewriting of messages: what goes, what comes, what stays byte for byte; and how heads frame bodies."""

# ruff: noqa: E501 - the rows of a table are easier to compare on one line

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.core.errors import (
    ClientError,
    ClientGone,
    InvalidToken,
    ProxyError,
    RequestBroken,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.core.forwarding import (
    OVERRIDE_HEADERS,
    end_to_end,
    forwarded,
    has_override,
    reply_head,
    request_head,
    returned,
)
from proxy.core.framing import Framing, answer_framing
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Reply, Request
from proxy.core.problems import error_reply

HOST = (b"Host", b"h")
VIA = (b"Via", b"1.1 user-cache-proxy")
PROTO = (b"X-Forwarded-Proto", b"http")
XFH = (b"X-Forwarded-Host", b"h")


def lines(*given: tuple[bytes, bytes], fill: bool = False, peer: str | None = None) -> RawHeaders:
    """The lines that upstream gets for those of a GET."""
    return forwarded(Request("GET", "/", Headers(given), peer=peer), fill=fill).headers.raw


def test_lines_stay_as_they_came() -> None:
    """Order, case, duplicates and odd bytes; what is added comes after them."""
    given = (HOST, (b"x-B", b"2"), (b"X-b", b"caf\xe9"), (b"Cookie", b""), (b"x-B", b"1"), (b"Via", b"1.0 a"))

    assert (*given, (b"X-Forwarded-For", b"10.0.0.9"), PROTO, XFH, VIA) == lines(*given, peer="10.0.0.9")


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Authorization", b"Proxy-Connection", b"TE"),
        *(b"Transfer-Encoding", b"Upgrade", b"Expect"),
    ],
)
def test_hop_by_hop_lines_go(name: bytes) -> None:
    """They are between two neighbours (RFC 9110 §7.6.1)."""
    assert (HOST, PROTO, XFH, VIA) == lines(HOST, (name, b"x"))


def test_what_connection_names_goes() -> None:
    """In any case, from any Connection line; only Host can't be named away."""
    given = (HOST, (b"X-Mine", b"1"), (b"connection", b"close,  x-MINE\t"), (b"X-Too", b"2"))

    assert (HOST, PROTO, XFH, VIA) == lines(*given, (b"Connection", b"X-Too, Host"))


def test_the_peer_comes_after_those_before_it() -> None:
    """At the end of the last X-Forwarded-For line, whose place and spelling stay."""
    given = ((b"x-forwarded-for", b"1.1.1.1"), (b"X-Forwarded-FOR", b"2.2.2.2"), HOST)

    found = lines(*given, peer="3.3.3.3")

    assert (given[0], (b"X-Forwarded-FOR", b"2.2.2.2, 3.3.3.3"), HOST) == found[:3]


def test_a_named_away_peer_list_starts_anew() -> None:
    """A client can't hide its own address by naming the line."""
    found = lines(HOST, (b"X-Forwarded-For", b"9.9.9.9"), (b"Connection", b"x-forwarded-for"), peer="3.3.3.3")

    assert (b"X-Forwarded-For", b"3.3.3.3") in found
    assert 1 == sum(name.lower() == b"x-forwarded-for" for name, _ in found)


def test_what_proxies_before_us_said_stays() -> None:
    """X-Forwarded-Proto and -Host are those of the outermost proxy."""
    given = (HOST, (b"X-Forwarded-Proto", b"https"), (b"x-forwarded-host", b"public"))

    assert (*given, VIA) == lines(*given)


def test_an_old_client_is_named_in_via() -> None:
    """The version is that in which the request was received (RFC 9110 §7.6.3)."""
    request = Request("GET", "/", Headers((HOST,)), http_version="1.0")

    assert (b"Via", b"1.0 user-cache-proxy") == forwarded(request, fill=False).headers.raw[-1]


FILL = (HOST, (b"Accept-Encoding", b"identity"), PROTO, VIA)


@pytest.mark.parametrize(
    "name",
    [
        *(b"If-None-Match", b"If-Modified-Since", b"If-Match", b"If-Unmodified-Since", b"If-Range", b"Range"),
        *(b"Accept-Encoding", b"X-Forwarded-Host", b"X-Forwarded-Server", b"X-Forwarded-Prefix"),
        *(b"X-Forwarded-Port", b"X-Forwarded-Scheme", b"Forwarded", b"X-Host", b"X-HTTP-Method-Override"),
        *(b"X-Original-URL", b"X-Rewrite-URL", b"X_Forwarded_Host", b"x_original-url"),
    ],
)
def test_a_fill_carries_nothing_that_others_must_not_share(name: bytes) -> None:
    """What selects a representation, and what upstream may reflect, however it is spelled."""
    assert FILL == lines(HOST, (name, b"evil"), fill=True)


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Cookie", b"Accept-Language", b"X-Tenant", b"X-Request-Id"]
)
def test_a_fill_carries_everything_else(name: bytes) -> None:
    """Upstream needs it to answer as it would have."""
    assert (HOST, (name, b"v"), *FILL[1:]) == lines(HOST, (name, b"v"), fill=True)


def test_a_fill_tells_the_scheme_but_not_what_a_client_invents() -> None:
    """A service behind TLS redirects what it believes to be plain, so a true value must reach it."""
    https, odd = (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Proto", b"x://evil")

    assert (HOST, https, FILL[1], VIA) == lines(HOST, https, fill=True)
    assert FILL == lines(HOST, odd, fill=True)


def test_a_method_is_changed_on_demand_only() -> None:
    """A HEAD stays one unless the caller wants the content."""
    head = Request("HEAD", "/a?", Headers((HOST,)))

    assert "HEAD" == forwarded(head, fill=True).method
    assert ("GET", "/a?") == (forwarded(head, fill=True, method="GET").method, "/a?")


@pytest.mark.parametrize("name", sorted(OVERRIDE_HEADERS))
def test_overrides_are_seen_in_every_spelling(name: bytes) -> None:
    """WSGI makes `_` and `-` one letter, HTTP ignores case."""
    assert has_override(Headers(((name.upper(), b"DELETE"),)))
    assert has_override(Headers(((name.replace(b"-", b"_"), b"DELETE"),)))
    assert not has_override(Headers(((b"X-Method", b"DELETE"), (b"X-URL", b"/"))))


def test_an_answer_loses_what_is_between_neighbours() -> None:
    """Hop-by-hop and nominated lines go, duplicates and order stay, Via comes last."""
    given: RawHeaders = (
        (b"sEt-Cookie", b"a"),
        (b"Connection", b"X-Hop"),
        (b"x-hop", b"1"),
        (b"Set-Cookie", b"b"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Via", b"1.1 inner"),
    )
    kept = (given[0], given[3], given[5])

    assert kept == end_to_end(given)
    assert (*kept, VIA) == returned(given)
    assert (b"Via", b"1.0 user-cache-proxy") == returned(given, "1.0")[-1]


async def _body() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("given", "body", "expected", "length"),
    [
        ((HOST,), False, b"Host: h\r\n", 0),
        ((), False, b"Host: up:1\r\n", 0),
        ((HOST, (b"Content-Length", b"0")), False, b"Host: h\r\nContent-Length: 0\r\n", 0),
        ((HOST, (b"Content-Length", b"7")), False, b"Host: h\r\n", 0),
        (((b"content-LENGTH", b"7"), HOST), True, b"content-LENGTH: 7\r\nHost: h\r\n", 7),
        ((HOST,), True, b"Host: h\r\nTransfer-Encoding: chunked\r\n", None),
        ((HOST, (b"Transfer-Encoding", b"x")), True, b"Host: h\r\nTransfer-Encoding: chunked\r\n", None),
    ],
)
def test_a_request_is_framed_by_its_body(
    given: RawHeaders, body: bool, expected: bytes, length: int | None
) -> None:
    """A length that was given stays; a body without one is chunked; without a body no length is promised."""
    request = Request("PUT", "/a%2Fb?", Headers(given), _body() if body else None)

    assert (b"PUT /a%2Fb? HTTP/1.1\r\n" + expected + b"\r\n", length) == request_head(request, b"up:1")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("/a b", (b"X", b"1")),
        ("/a\r\nX: 1", (b"X", b"1")),
        ("/", (b"X", b"1\r\nY: 2")),
        ("/", (b"X", b"1\n")),
        ("/", (b"X\r", b"1")),
    ],
)
def test_a_head_can_hold_no_second_one(target: str, line: tuple[bytes, bytes]) -> None:
    """Whatever made such a value, it does not go out."""
    with pytest.raises(ValueError, match="line end"):
        request_head(Request("GET", target, Headers((HOST, line))), b"h")


def head(
    reply: Reply, *, method: str = "GET", version: str = "1.1", keep_alive: bool = True
) -> tuple[list[bytes], int | None, bool]:
    """`reply_head`, in lines."""
    text, length, stays = reply_head(
        reply, method=method, http_version=version, keep_alive=keep_alive, date=b"D"
    )
    assert text.endswith(b"\r\n\r\n")
    return text.split(b"\r\n")[:-2], length, stays


DATE = (b"Date", b"U")
OK = b"HTTP/1.1 200 Fine"


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        (Reply(200, b"Fine", (DATE,), b"ab"), {}, ([OK, b"Date: U", b"Content-Length: 2"], 2, True)),
        (Reply(200, b"Fine", (), b"ab"), {}, ([OK, b"Date: D", b"Content-Length: 2"], 2, True)),
        # the length sent decides, in the place and spelling of the one said
        (
            Reply(200, b"Fine", ((b"content-length", b"9"), DATE, (b"Content-Length", b"8")), b"ab"),
            {},
            ([OK, b"content-length: 2", b"Date: U"], 2, True),
        ),
        (Reply(200, b"Fine", (DATE,), b""), {}, ([OK, b"Date: U", b"Content-Length: 0"], 0, True)),
        # streamed
        (Reply(200, b"Fine", (DATE, (b"Content-Length", b"5")), _body()), {}, ([OK, b"Date: U", b"Content-Length: 5"], 5, True)),
        (Reply(200, b"Fine", (DATE,), _body()), {}, ([OK, b"Date: U", b"Transfer-Encoding: chunked"], None, True)),
        (
            Reply(200, b"Fine", (DATE,), _body()),
            {"version": "1.0"},
            ([OK, b"Date: U", b"Connection: close"], None, False),
        ),
        # without content
        (Reply(200, b"Fine", (DATE, (b"Content-Length", b"7")), b""), {"method": "HEAD"}, ([OK, b"Date: U", b"Content-Length: 7"], 0, True)),
        (Reply(200, b"Fine", (DATE,), b""), {"method": "HEAD"}, ([OK, b"Date: U"], 0, True)),
        (Reply(200, b"Fine", (DATE,), b"abc"), {"method": "HEAD"}, ([OK, b"Date: U", b"Content-Length: 3"], 0, True)),
        (Reply(304, b"Same", (DATE, (b"Content-Length", b"7")), b""), {}, ([b"HTTP/1.1 304 Same", b"Date: U", b"Content-Length: 7"], 0, True)),
        (Reply(204, b"", (DATE,), b""), {}, ([b"HTTP/1.1 204 ", b"Date: U"], 0, True)),
        (Reply(204, b"", (DATE, (b"Content-Length", b"0")), b""), {}, ([b"HTTP/1.1 204 ", b"Date: U", b"Content-Length: 0"], 0, True)),
        (Reply(204, b"", (DATE, (b"Content-Length", b"7")), b""), {}, ([b"HTTP/1.1 204 ", b"Date: U"], 0, True)),
        # the connection
        (Reply(204, b"", (DATE,), b""), {"keep_alive": False}, ([b"HTTP/1.1 204 ", b"Date: U", b"Connection: close"], 0, False)),
        (Reply(204, b"", (DATE,), b""), {"version": "1.0"}, ([b"HTTP/1.1 204 ", b"Date: U", b"Connection: keep-alive"], 0, True)),
        (Reply(204, b"", (DATE, (b"Transfer-Encoding", b"x"), (b"Connection", b"X")), b""), {}, ([b"HTTP/1.1 204 ", b"Date: U"], 0, True)),
    ],
)  # fmt: skip
def test_a_reply_is_framed_by_its_body(reply: Reply, options: dict[str, object], expected: object) -> None:
    """The client can always tell where an answer ends; lines stay as they are."""
    assert expected == head(reply, **options)  # type: ignore[arg-type]


CL, TE = b"Content-Length", b"Transfer-Encoding"


@pytest.mark.parametrize(
    ("method", "status", "version", "headers", "expected"),
    [
        ("GET", 200, (1, 1), ((CL, b"5"),), Framing(5, False, True)),
        ("GET", 200, (1, 1), ((CL, b"0"),), Framing(0, False, True)),
        ("GET", 200, (1, 1), ((TE, b"Chunked"),), Framing(None, True, True)),
        ("GET", 200, (1, 1), (), Framing(None, False, False)),
        ("GET", 200, (1, 1), ((CL, b"5"), (b"connection", b"x, Close")), Framing(5, False, False)),
        ("GET", 200, (1, 0), ((CL, b"5"),), Framing(5, False, False)),
        ("GET", 200, (1, 0), ((CL, b"5"), (b"Connection", b"Keep-Alive")), Framing(5, False, True)),
        ("HEAD", 200, (1, 1), ((CL, b"5"),), Framing(0, False, True)),
        ("HEAD", 200, (1, 1), (), Framing(0, False, True)),
        ("GET", 204, (1, 1), (), Framing(0, False, True)),
        ("GET", 304, (1, 1), ((CL, b"5"),), Framing(0, False, True)),
    ],
)
def test_an_answer_ends_where_its_head_says(
    method: str, status: int, version: tuple[int, int], headers: RawHeaders, expected: Framing
) -> None:
    """RFC 9112 §6.3, and whether another answer may follow."""
    assert expected == answer_framing(method, status, b"", version, headers)


@pytest.mark.parametrize(
    ("version", "reason", "headers"),
    [
        ((2, 0), b"", ()),
        ((0, 9), b"", ()),
        ((1, 1), b"a\rb", ()),
        ((1, 1), b"", ((b"X", b"a\x01"),)),
        ((1, 1), b"", ((b"X", b"a\nb"),)),
        ((1, 1), b"", ((CL, b"5"), (CL, b"5"))),
        ((1, 1), b"", ((CL, b"5, 5"),)),
        ((1, 1), b"", ((CL, b"-5"),)),
        ((1, 1), b"", ((CL, b""),)),
        ((1, 1), b"", ((CL, b"9" * 19),)),
        ((1, 1), b"", ((CL, b"5"), (TE, b"chunked"))),
        ((1, 1), b"", ((TE, b"gzip, chunked"),)),
        ((1, 1), b"", ((TE, b""),)),
        ((1, 1), b"", ((TE, b"chunked"), (TE, b"chunked"))),
        ((1, 0), b"", ((TE, b"chunked"),)),
    ],
)
def test_an_answer_that_may_end_in_two_places_is_refused(
    version: tuple[int, int], reason: bytes, headers: RawHeaders
) -> None:
    """Nobody behind us gets to choose."""
    with pytest.raises(ValueError, match=r"bad|unknown|two|control"):
        answer_framing("GET", 200, reason, version, headers)


@pytest.mark.parametrize(
    ("error", "status", "problem", "extra"),
    [
        (ClientError(400, "bad-request", "d"), 400, b"bad-request", None),
        (InvalidToken("token-expired"), 401, b"invalid-token", (b"WWW-Authenticate", b'Bearer error="invalid_token"')),
        (UpstreamError("d", executed=True), 502, b"upstream-failed", None),
        (UpstreamTimeout("d", executed=True), 504, b"upstream-timeout", None),
        (UpstreamBusy("d", executed=False), 503, b"upstream-busy", (b"Retry-After", b"1")),
        (RequestBroken(ClientGone()), 400, b"bad-request", None),
        (RequestBroken(ClientError(408, "request-timeout", "d")), 408, b"request-timeout", None),
        (StoreError("secret"), 500, b"internal-error", None),
    ],
)  # fmt: skip
def test_every_error_has_its_problem(
    error: ProxyError, status: int, problem: bytes, extra: tuple[bytes, bytes] | None
) -> None:
    """RFC 9457: a stable type; nothing that a cache further down may keep, and no text of ours but fixed ones."""
    reply = error_reply(error)

    assert status == reply.status
    assert isinstance(reply.body, bytes)
    assert b'"type":"urn:user-cache-proxy:problem:' + problem + b'"' in reply.body
    assert (b"Cache-Control", b"no-store") in reply.headers
    assert extra is None or extra in reply.headers
    assert b"secret" not in reply.body
