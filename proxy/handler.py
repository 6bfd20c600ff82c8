"""The aiohttp edge: a request as it came in, a reply as bytes out. aiohttp's low-level server, no framework.

aiohttp's C parser reads the head and frames the body; what two parties could read differently is refused,
with problem+json and a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import http_parser, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy import logs
from proxy.answer import STALL, Answer
from proxy.core.errors import ClientError, ClientGone, ConfigError, ProxyError
from proxy.core.headers import Headers
from proxy.core.incoming import MethodNotAllowed, checked_target
from proxy.core.model import Outcome, Reply, Request
from proxy.core.problems import error_reply, problem_reply
from proxy.core.replies import finished
from proxy.fastpath import Replaying, Replays

log = logging.getLogger("proxy.handler")

Walk = Callable[[Request], Awaitable[Reply]]

# Longer than any field that browsers, gateways and tokens of 8 KiB make; shorter than what hurts.
MAX_LINE: Final = 8190
MAX_FIELD: Final = 16 * 1024
MAX_HEADERS: Final = 128
# Longer than the idle time of the proxies and clients in front, so that they close first and never race.
KEEP_ALIVE: Final = 75.0
# How much of a body waits here for upstream to take it; reading stops at twice this.
BUFFER: Final = 64 * 1024
# How long an answered request's unread body is still taken, so that the answer is not lost in a reset.
LINGER: Final = 5.0
HEAD_END: Final = b"\r\n\r\n"
TOO_MANY: Final = "Too many headers received"  # aiohttp has no type of its own for it
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ALLOW: Final = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)


def require_c_parser() -> None:
    """Raises ConfigError where aiohttp would parse with its Python code, which has been smuggled through."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(
            ("aiohttp: its C parser is missing; install a wheel of aiohttp and unset AIOHTTP_NO_EXTENSIONS",)
        )


def make_server(walk: Walk, replays: Replays | None = None) -> web.Server:
    """The protocol factory for client connections; what `replays` can't answer goes to `walk`."""
    return _Server(_Edge(walk), replays)


class _Server(web.Server):
    """Makes connections whose parse errors are problem+json."""

    def __init__(self, edge: _Edge, replays: Replays | None) -> None:
        super().__init__(edge, handler_cancellation=True)
        self._replays = replays

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            replays=self._replays,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_HEADERS,
            read_bufsize=BUFFER,
            lingering_time=LINGER,
            # A coded body is passed on as it is.
            auto_decompress=False,
        )


class _Connection(Replaying):
    """One client connection. `ending`: no request after the ones already read will be answered."""

    __slots__ = ("_body", "_latest")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._latest: object = None
        self._body: StreamReader | None = None

    def close(self) -> None:
        """The server shuts down: the answer in the making says that it is the last."""
        self.ending = True
        super().close()

    def data_received(self, data: bytes) -> None:
        """Tells a body's reader that its framing broke; aiohttp leaves the reader waiting forever."""
        super().data_received(data)
        if not self._messages or self._messages[-1][0] is self._latest:
            return
        self._latest, content = self._messages[-1]
        if isinstance(self._latest, http_parser.RawRequestMessage):
            self._body = content
            # After a request that asks for a protocol it does not know, the parser skips the rest of the
            # segment. Closing after every such request would cost Java's clients all their connections.
            if self._latest.upgrade and not self._upgraded:
                self.ending |= not (data.endswith(HEAD_END) and data.count(HEAD_END) == 1)
        elif self._body is not None and not self._body.is_eof():
            broken, self._body = self._body, None
            broken.set_exception(ClientError(400, "bad-request", "The body's framing is broken."))
            # Nothing more can come, so that nobody lingers for it either.
            broken.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """What was not understood is answered without a word of what was sent, and the connection ends."""
        if isinstance(exc, ConnectionError):
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        return Answer(_refused(_unparsed(status, exc)), "GET", "1.1", keep_alive=False)

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """aiohttp's own log line would hold the exception's text."""
        error = kw.get("exc_info")
        log.error(
            "the connection failed",
            extra={"exception": logs.place_of(error if isinstance(error, BaseException) else None)},
        )


def _refused(reply: Reply) -> Reply:
    """An answer from this edge: it says like every other that no cache was asked."""
    return finished(reply, Outcome(refused=True))


def _unparsed(status: int, error: BaseException | None) -> Reply:
    if isinstance(error, LineTooLong) and MAX_LINE in error.args:
        return problem_reply(414, "uri-too-long", "The request target is too long.")
    if isinstance(error, LineTooLong) or (isinstance(error, BadHttpMessage) and error.message == TOO_MANY):
        return problem_reply(431, "header-too-large", "The request's head is too large.")
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
        protocol = incoming.protocol
        keep_alive = incoming.keep_alive
        try:
            request = _request(incoming, version)
            reply = await self._walk(request)
            if reply.offer is not None and keep_alive and isinstance(protocol, _Connection):
                protocol.learn(incoming._message, reply)  # noqa: SLF001 - what the connection knows it by
            if isinstance(request.body, _Body) and request.body.awaited:
                # Nobody can tell whether a body follows now, or the next request.
                keep_alive = False
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
        if isinstance(protocol, _Connection) and protocol.ending:
            keep_alive = False
        return Answer(reply, incoming.method, version, keep_alive=keep_alive)


def _request(incoming: web.BaseRequest, version: str) -> Request:
    """Raises ClientError for a head that two parties may read differently."""
    headers = Headers(incoming.raw_headers)
    method, target = incoming.method, incoming._message.path  # noqa: SLF001 - `rel_url` quotes it anew
    target = checked_target(method, target, version, headers)
    body = _Body(incoming, headers) if incoming.body_exists else None
    return Request(method, target, headers, body, incoming.remote, incoming.scheme, version)


class _Body:
    """The body as it arrives. Raises ClientError where it breaks or stops coming, ClientGone at a hang-up.

    `awaited`: the client waits for a word that its body is wanted (RFC 9110 §10.1.1).
    """

    __slots__ = ("_incoming", "awaited")

    def __init__(self, incoming: web.BaseRequest, headers: Headers) -> None:
        self._incoming = incoming
        self.awaited = (headers.get("expect") or "").lower() == "100-continue"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        content = self._incoming.content
        try:
            if self.awaited:
                self.awaited = False
                writer: Any = self._incoming.writer
                await writer.write(CONTINUE)
                # An interim answer does not count as one that was begun.
                writer.output_size = 0
            data = content.read_nowait()
            if not data and not content.is_eof():
                async with asyncio.timeout(STALL):
                    data = await content.readany()
        except TimeoutError:
            raise ClientError(408, "request-timeout", "The body stopped coming.") from None
        except (ConnectionError, RuntimeError):
            raise ClientGone from None
        if not data:
            raise StopAsyncIteration
        return data
