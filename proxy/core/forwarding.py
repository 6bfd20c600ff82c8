"""What a proxy changes in the messages it passes on: field lines rewritten, and the heads as bytes. Pure."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from proxy.core.edgesettings import EdgeSettings, XForwarded
from proxy.core.framing import BODILESS
from proxy.core.headers import HOP_BY_HOP, Headers, RawHeaders
from proxy.core.model import Reply, Request

PSEUDONYM: Final = b"user-cache-proxy"
VIA: Final = (b"Via", b"1.1 " + PSEUDONYM)

# A method or a path that replaces the one in the request line: upstream may act on these instead.
OVERRIDE_HEADERS: Final = frozenset(
    {
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-rewrite-url",
    }
)

_OVERRIDE_LENGTHS: Final = frozenset(map(len, OVERRIDE_HEADERS))

# What upstream may write into its answer although no key holds it; a shared copy must not depend on it.
_REFLECTED: Final = OVERRIDE_HEADERS | {
    b"forwarded",
    b"x-forwarded-host",
    b"x-forwarded-path",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-scheme",
    b"x-forwarded-server",
    b"x-forwarded-uri",
    b"x-host",
}

# What makes an answer fit one client only: a validator it holds, a part it wants, a coding it understands.
_SELECTING: Final = frozenset(
    {
        b"accept-encoding",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    }
)

# `Expect` is between the client and the edge, which answers it when the body is first read.
_NEVER_FORWARDED: Final = HOP_BY_HOP | {b"expect"}
_NEVER_FILLED: Final = _NEVER_FORWARDED | _REFLECTED | _SELECTING | {b"trailer"}
# RFC 9110 §10.1.4: said for this hop where the client says it, for what upstream then adds goes on to it.
_TAKES_TRAILERS: Final = ((b"Connection", b"TE"), (b"TE", b"trailers"))
# `Connection: Host` would let a client choose another virtual host for an answer that others get.
_NOT_NOMINABLE: Final = frozenset({b"host"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
# What peers say of those before them.
CLAIMS: Final = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-real-ip",
    }
)
_RULES: Final = EdgeSettings()
_SCHEMES: Final = (b"http", b"https")


def has_override(headers: Headers) -> bool:
    """True if a line may give the request another method or path than its request line says."""
    for name, _ in headers.raw:
        if len(name) in _OVERRIDE_LENGTHS and _folded(name) in OVERRIDE_HEADERS:
            return True
    return False


def forwarded(
    request: Request, *, fill: bool, method: str | None = None, rules: EdgeSettings = _RULES
) -> Request:
    """The request as upstream gets it (RFC 9110 §7.6): all lines as they came but for the rules below.

    Dropped: hop-by-hop lines, those that `Connection` names, and `Expect`, which the edge answers itself;
    `TE: trailers` is said anew.
    Added: `Via`, and by the rules `X-Forwarded-For` (the peer, after what was there), where absent
    `X-Forwarded-Proto` and `X-Forwarded-Host`, and `Forwarded` (RFC 7239). What a peer that is not trusted
    says in these is replaced. With `fill` the answer may be given to others: lines that choose a
    representation or that upstream may reflect are dropped and an unencoded answer is asked for.
    `method` replaces the method (a HEAD that fills the cache becomes a GET).
    """
    drop = (_NEVER_FILLED if fill else _NEVER_FORWARDED) | _nominated(request.headers.raw)
    if rules.x_forwarded is not XForwarded.OFF and not (
        request.trusted and rules.x_forwarded is XForwarded.APPEND
    ):
        drop |= CLAIMS
    claims = fill or bool(drop & CLAIMS)
    lines: list[tuple[bytes, bytes]] = []
    schemed = hosted = trailing = False
    host: bytes | None = None
    for name, value in request.headers.raw:
        # A claim in WSGI's spelling is one as well.
        key = _folded(name) if claims else name.lower()
        if key in drop:
            trailing |= key == b"te" and not fill and takes_trailers(value)
            continue
        if key == b"x-forwarded-proto":
            if fill and value.lower() not in _SCHEMES:
                continue
            schemed = True
        elif key == b"x-forwarded-host":
            hosted = True
        elif key == b"host":
            host = value
        lines.append((name, value))
    if fill:
        lines.append((b"Accept-Encoding", b"identity"))
    if rules.x_forwarded is not XForwarded.OFF:
        if request.peer:
            _append(lines, b"X-Forwarded-For", request.peer.encode("latin-1"))
        if not schemed:
            lines.append((b"X-Forwarded-Proto", request.scheme.encode("ascii")))
        if host and not hosted and not fill:
            lines.append((b"X-Forwarded-Host", host))
    if rules.forwarded:
        _append(lines, b"Forwarded", _hop(request, None if fill else host))
    lines.append((b"Via", request.http_version.encode("ascii") + b" " + PSEUDONYM))
    if trailing and request.http_version == "1.1":
        lines += _TAKES_TRAILERS
    return replace(request, method=method or request.method, headers=Headers(lines))


def returned(headers: RawHeaders, version: str = "1.1") -> RawHeaders:
    """An answer's lines as the client gets them: end-to-end ones, and our `Via` after them.

    `version` is that of the HTTP in which upstream answered.
    """
    return (*end_to_end(headers), (b"Via", version.encode("ascii") + b" " + PSEUDONYM))


def end_to_end(headers: RawHeaders) -> RawHeaders:
    """An answer's lines without hop-by-hop ones and those that `Connection` names (RFC 9110 §7.6.1)."""
    drop = HOP_BY_HOP | _nominated(headers)
    return tuple(line for line in headers if line[0].lower() not in drop)


def is_event_stream(headers: RawHeaders) -> bool:
    """Whether an answer is a stream of server-sent events."""
    return any(
        name.lower() == b"content-type" and value.partition(b";")[0].strip().lower() == b"text/event-stream"
        for name, value in headers
    )


def takes_trailers(te: bytes) -> bool:
    """Whether a value of `TE` says that fields behind the content are welcome."""
    return any(member.partition(b";")[0].strip(b" \t").lower() == b"trailers" for member in te.split(b","))


def request_head(
    request: Request, authority: bytes, *, replace_host: bool = False
) -> tuple[bytes, int | None]:
    """The head as bytes, and the body's length; None: there is a body, and it is sent in chunks.

    A request without `Host` (HTTP/1.0, or one of our own) gets `authority` (RFC 9112 §3.2),
    and with `replace_host` each one does.
    Raises ValueError where a value would end its line early.
    """
    target = request.target.encode("utf-8", "surrogateescape")
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), target)]
    length: int | None = 0 if request.body is None else None
    hosted = False
    for name, value in request.headers.raw:
        lower = name.lower()
        if lower in _FRAMING:
            if lower != b"content-length" or (request.body is None and value != b"0"):
                continue
            length = int(value)
        elif lower == b"host":
            hosted = True
            value = authority if replace_host else value
        lines.append(b"%b: %b\r\n" % (name, value))
    if not hosted:
        lines.insert(1, b"Host: %b\r\n" % authority)
    if length is None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or " " in request.target:
        raise ValueError("a part of the request holds a line end")
    return head, length


def reply_head(
    reply: Reply, *, method: str, http_version: str, keep_alive: bool, date: bytes
) -> tuple[bytes, int | None, bool]:
    """The head as bytes, the length of the content that follows (None: to be chunked), and keep-alive.

    To an HTTP/1.0 client nothing is chunked: the end of the connection ends the content (RFC 9112 §6.3).
    A `Content-Length` is made up only for complete content; that of HEAD, 204 and 304 stays as it came.
    """
    bodiless = method == "HEAD" or reply.status in BODILESS
    length = len(reply.body) if isinstance(reply.body, bytes) else None
    lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, reply.reason)]
    stated = dated = False
    for name, value in reply.headers:
        lower = name.lower()
        if lower in HOP_BY_HOP:
            continue
        if lower == b"content-length":
            # Of a 204 some clients believe it, and take the next answer for content (RFC 9110 §8.6).
            if stated or (reply.status == 204 and int(value)):
                continue
            stated = True
            if not bodiless:
                if length is None:
                    length = int(value)
                value = b"%d" % length  # what is sent decides, not what was said
        elif lower == b"date":
            dated = True
        lines.append(b"%b: %b\r\n" % (name, value))
    if not dated:
        lines.append(b"Date: %b\r\n" % date)
    if bodiless:
        if not stated and length and reply.status not in BODILESS:
            lines.append(b"Content-Length: %d\r\n" % length)
        length = 0
    elif length is None:
        if http_version == "1.0":
            keep_alive = False
        else:
            lines.append(b"Transfer-Encoding: chunked\r\n")
    elif not stated:
        lines.append(b"Content-Length: %d\r\n" % length)
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif http_version == "1.0":
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines), length, keep_alive


def _nominated(headers: RawHeaders) -> frozenset[bytes]:
    names: list[bytes] = []
    for name, value in headers:
        # The length first: nearly no line is one.
        if len(name) == 10 and name.lower() == b"connection":
            names += [token.strip(b" \t").lower() for token in value.split(b",")]
    return frozenset(names) - _NOT_NOMINABLE if names else frozenset()


def _folded(name: bytes) -> bytes:
    # WSGI and CGI make `_` and `-` the same letter.
    return name.lower().replace(b"_", b"-")


def _append(lines: list[tuple[bytes, bytes]], header: bytes, value: bytes) -> None:
    """Puts the value behind the last line of that name, or into a line of its own."""
    for index in range(len(lines) - 1, -1, -1):
        name, before = lines[index]
        if name.lower() == header.lower():
            lines[index] = (name, before + b", " + value if before else value)
            return
    lines.append((header, value))


def _hop(request: Request, host: bytes | None) -> bytes:
    """This hop as an element of `Forwarded` (RFC 7239 §4)."""
    peer = request.peer or "unknown"
    node = f'"[{peer}]"' if ":" in peer else peer
    element = b"for=%b;proto=%b" % (node.encode("latin-1"), request.scheme.encode("ascii"))
    return element + b';host="%b"' % host if host else element
