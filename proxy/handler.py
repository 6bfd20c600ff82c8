"""The aiohttp edge: a request as it came in, a reply as bytes out. aiohttp's low-level server, no framework.

aiohttp's C parser reads the head and frames the body; what it lets through although two parties could read
it differently is refused here (RFC 9112 §3.2, §6.3, §11.2), with problem+json and a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any, Final

from aiohttp import http_parser, web
from aiohttp.client_exceptions import ClientConnectionError
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from proxy import logs
from proxy.core.errors import ClientError, ClientGone, ConfigError, ProxyError
from proxy.core.forwarding import reply_head
from proxy.core.headers import Headers
from proxy.core.model import Outcome, Reply, Request
from proxy.core.problems import error_reply, problem_reply
from proxy.core.replies import finished

log = logging.getLogger("proxy.handler")

Walk = Callable[[Request], Awaitable[Reply]]

# Longer than any field that browsers, gateways and tokens of 8 KiB make; shorter than what hurts.
MAX_LINE: Final = 8190
MAX_FIELD: Final = 16 * 1024
MAX_HEADERS: Final = 128
# Longer than the idle time of the proxies and clients in front, so that they close first and never race.
KEEP_ALIVE: Final = 75.0
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
REFUSED: Final = frozenset({"TRACE", "CONNECT"})
ALLOW: Final = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)


def require_c_parser() -> None:
    """Raises ConfigError where aiohttp would parse with its Python code, which has been smuggled through."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(
            ("aiohttp: its C parser is missing; install a wheel of aiohttp and unset AIOHTTP_NO_EXTENSIONS",)
        )


def make_server(walk: Walk) -> web.Server:
    """The protocol factory for client connections; each request goes to `walk`."""
    return _Server(_Edge(walk))


class _Server(web.Server):
    """Makes connections whose parse errors are problem+json."""

    def __init__(self, edge: _Edge) -> None:
        super().__init__(edge, handler_cancellation=True)

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEP_ALIVE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_HEADERS,
        )


class _Connection(RequestHandler):
    """One client connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """What was not understood is answered without a word of what was sent, and the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        return Answer(_refused(_unparsed(status, exc)), "GET", "1.1", keep_alive=False)


def _refused(reply: Reply) -> Reply:
    """An answer from this edge: it says like every other that no cache was asked."""
    return finished(reply, Outcome(refused=True))


def _unparsed(status: int, error: BaseException | None) -> Reply:
    if isinstance(error, LineTooLong):
        return problem_reply(431, "header-too-large", "A line of the request's head is too long.")
    if status < 500:
        return problem_reply(400, "bad-request", "The request could not be parsed.")
    log.error("the edge failed", extra={"exception": logs.place_of(error)})
    return problem_reply(500, "internal-error")


class _Edge:
    """Turns aiohttp's request into ours, and a failure into an answer."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    async def __call__(self, incoming: web.BaseRequest) -> web.StreamResponse:
        version = f"{incoming.version.major}.{incoming.version.minor}"
        keep_alive = incoming.keep_alive
        try:
            reply = await self._walk(_request(incoming, version))
        except MethodNotAllowed as error:
            reply = _refused(problem_reply(405, error.problem, error.detail, ALLOW))
            keep_alive = False
        except ClientError as error:
            reply, keep_alive = _refused(error_reply(error)), False
        except ClientGone:
            raise ConnectionResetError from None
        except ProxyError as error:
            reply = _refused(error_reply(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            log.error("the walk failed", extra={"exception": logs.place_of(error)})  # noqa: TRY400 - texts may quote
            reply = _refused(problem_reply(500, "internal-error"))
        return Answer(reply, incoming.method, version, keep_alive=keep_alive)


def _request(incoming: web.BaseRequest, version: str) -> Request:
    """Raises ClientError for a head that two parties may read differently."""
    headers = Headers(incoming.raw_headers)
    method, target = incoming.method, incoming._message.path  # noqa: SLF001 - `rel_url` quotes it anew
    if method in REFUSED:
        raise MethodNotAllowed
    fault = _fault(method, target, version, headers)
    if fault is not None:
        raise ClientError(400, "bad-request", fault)
    body = _Body(incoming, headers) if incoming.body_exists else None
    return Request(method, target, headers, body, incoming.remote, incoming.scheme, version)


class MethodNotAllowed(ClientError):
    """TRACE shows credentials to scripts, CONNECT makes a tunnel; neither is for a users API."""

    def __init__(self) -> None:
        super().__init__(405, "method-not-allowed", "TRACE and CONNECT are not forwarded.")


def _fault(method: str, target: str, version: str, headers: Headers) -> str | None:
    """What is wrong with a head that the parser took, or None."""
    if version not in ("1.0", "1.1"):
        return "Only HTTP/1.0 and HTTP/1.1 are understood."
    if not (target.startswith("/") or (target == "*" and method == "OPTIONS")):
        return "The request target must begin with a slash."
    hosts = headers.get_all("host")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return "There must be exactly one Host line."
    lengths, codings = headers.get_all("content-length"), headers.get_all("transfer-encoding")
    if codings and (lengths or version == "1.0" or [one.lower().strip() for one in codings] != ["chunked"]):
        return "Transfer-Encoding must be chunked, once, on HTTP/1.1, and without Content-Length."
    if len(lengths) > 1 or (lengths and not (lengths[0].isascii() and lengths[0].isdigit())):
        return "There must be at most one Content-Length, a whole number."
    return None


class _Body:
    """The body as it arrives. Raises ClientError where its framing breaks, ClientGone at a hang-up."""

    __slots__ = ("_expects", "_incoming")

    def __init__(self, incoming: web.BaseRequest, headers: Headers) -> None:
        self._incoming = incoming
        # RFC 9110 §10.1.1: the client waits for this before it sends the body.
        self._expects = (headers.get("expect") or "").lower() == "100-continue"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            if self._expects:
                self._expects = False
                writer: Any = self._incoming.writer
                await writer.write(CONTINUE)
                # An interim answer does not count as one that was begun.
                writer.output_size = 0
            data = await self._incoming.content.readany()
        except (ConnectionError, ClientConnectionError, asyncio.IncompleteReadError):
            raise ClientGone from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise ClientError(400, "bad-request", "The body's framing is broken.") from None
        if not data:
            raise StopAsyncIteration
        return data


class _Clock:
    """The Date line of this second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode("ascii")
        return self._text


_date = _Clock()


class Answer(web.StreamResponse):
    """Writes a Reply as it is; aiohttp adds nothing to it."""

    def __init__(self, reply: Reply, method: str, version: str, *, keep_alive: bool) -> None:
        super().__init__(status=reply.status)
        self._reply = reply
        self._method = method
        self._version = version
        self._persists = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on after this answer."""
        return self._persists

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes all of it; a body that breaks off takes the connection with it, never a clean end."""
        body = self._reply.body
        head, length, self._persists = reply_head(
            self._reply,
            method=self._method,
            http_version=self._version,
            keep_alive=self._persists,
            date=_date(),
        )
        writer: Any = request.writer
        if isinstance(body, bytes):
            # One write: a head and a small body in two segments cost a round trip where Nagle is on.
            await writer.write(head + body if length else head)
            return
        try:
            await writer.write(head)
            if length != 0:
                await self._stream(writer, body, chunked=length is None and self._version == "1.1")
        except BaseException:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _stream(self, writer: Any, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        try:
            async for data in body:
                if data:
                    await writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        except ProxyError:
            raise ConnectionResetError("upstream broke off") from None
        if chunked:
            await writer.write(b"0\r\n\r\n")

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything is written by then."""
