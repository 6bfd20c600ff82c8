"""The clients' edge: requests as they came in, replies as bytes out, and the life of the connections.

What two parties could read differently is refused, with problem+json and a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import http_parser

from proxy import answer, logs
from proxy.client import Client
from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.errors import ClientError, ClientGone, ConfigError, ProxyError
from proxy.core.incoming import MethodNotAllowed
from proxy.core.maxforwards import METHODS
from proxy.core.model import Outcome, Reply, Request
from proxy.core.problems import error_reply, problem_reply
from proxy.core.replies import finished
from proxy.fastpath import Replays
from proxy.hints import Hints
from proxy.host import Overloaded
from proxy.passage import Passages, Walk
from proxy.requestbody import RequestBody
from proxy.waiting import Waiting

log = logging.getLogger("proxy.handler")

Refused = Callable[[ClientError], None]

ALLOW: Final = ((b"Allow", METHODS),)
RETRY_AFTER: Final = ((b"Retry-After", b"1"),)


def require_c_parser() -> None:
    """Raises ConfigError where aiohttp would parse with its Python code, which has been smuggled through."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(
            ("aiohttp: its C parser is missing; install a wheel of aiohttp and unset AIOHTTP_NO_EXTENSIONS",)
        )


def make_server(
    walk: Walk,
    limits: LimitSettings | None = None,
    edge: EdgeSettings | None = None,
    replays: Replays | None = None,
) -> EdgeServer:
    """The protocol factory for client connections; what `replays` can't answer goes to `walk`."""
    return EdgeServer(Line(walk, limits or LimitSettings(), edge or EdgeSettings(), replays))


class Line:
    """What serves requests under one version of the settings, and how many it has in hand.

    `refused` is told of what was no request, or one too many. `passages` take what needs no walk.
    """

    def __init__(
        self,
        walk: Walk,
        limits: LimitSettings,
        edge: EdgeSettings,
        replays: Replays | None,
        refused: Refused | None = None,
        passages: Passages | None = None,
    ) -> None:
        self.refused = refused or _nobody_asks
        self.walk = walk
        self.limits = limits
        self.edge = edge
        self.replays = replays
        self.passages = passages
        if passages is not None:
            passages.line = self
        self.busy = 0
        self._ended: asyncio.Event | None = None

    async def ended(self) -> None:
        """Waits for the last request; nobody begins another one here any more."""
        self._ended = asyncio.Event()
        if self.busy:
            await self._ended.wait()

    def left(self) -> None:
        """One request has ended."""
        self.busy -= 1
        if self._ended is not None and not self.busy:
            self._ended.set()


class EdgeServer:
    """Makes connections, bounds their number, and ends them."""

    def __init__(self, line: Line, waiting: Waiting | None = None) -> None:
        self.waiting = waiting or Waiting(line.limits.memory)
        self.connections: set[Client] = set()
        self._emptied: asyncio.Event | None = None
        self.follow(line)

    def follow(self, line: Line) -> None:
        """Every request from now on goes there, also on the connections there are."""
        self._line = line
        self.replays, self.passages = line.replays, line.passages
        self.limits, self.edge = line.limits, line.edge
        self.waiting.limit = line.limits.memory
        for client in self.connections:
            client.trusted = line.edge.trusts(client.peer)

    def __repr__(self) -> str:
        return f"<EdgeServer connections={len(self.connections)}>"

    def __call__(self) -> Client:
        return Client(self)

    def opened(self, client: Client) -> bool:
        """Counts a connection. False: it is one too many."""
        self.connections.add(client)
        return len(self.connections) <= self.limits.connections

    @property
    def figures(self) -> dict[str, int]:
        """The clients' connections now, and what waits in all connections."""
        busy = sum(client.busy for client in self.connections)
        return {
            "limit": self.limits.connections,
            "busy": busy,
            "idle": len(self.connections) - busy,
            "waiting_bytes": self.waiting.count,
            "waiting_bytes_limit": self.waiting.limit,
        }

    def closed(self, client: Client) -> None:
        """Counts it no more."""
        self.connections.discard(client)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    def pre_shutdown(self) -> None:
        """Idle connections end, and each answer in the making says that it is the last."""
        for client in tuple(self.connections):
            client.wind_down()

    async def shutdown(self, timeout: float) -> None:
        """Waits so long for what is being answered, then closes whatever is left."""
        self.pre_shutdown()
        if self.connections:
            self._emptied = asyncio.Event()
            try:
                async with asyncio.timeout(timeout):
                    await self._emptied.wait()
            except TimeoutError:
                for client in tuple(self.connections):
                    client.abort()
                await asyncio.sleep(0)

    async def serve(self, client: Client, request: Request, walk: Walk | None, *, keep_alive: bool) -> bool:
        """Walks the request and sends the answer; whether the connection may go on."""
        line = self._line
        line.busy += 1
        try:
            return await self._serve(line, client, request, walk or line.walk, keep_alive=keep_alive)
        finally:
            line.left()

    async def _serve(
        self, line: Line, client: Client, request: Request, walk: Walk, *, keep_alive: bool
    ) -> bool:
        try:
            reply = await walk(request)
            # What was allowed under other settings is not made ready under these.
            if reply.offer is not None and keep_alive and line is self._line:
                client.learn(reply)
            body = request.body
            if isinstance(body, RequestBody) and (body.awaited or body.error is not None):
                # Nobody can tell whether a body follows now, or the next request.
                keep_alive = False
        except ClientError as error:
            reply, keep_alive = _refused(error), False
        except ClientGone:
            raise ConnectionResetError from None
        except ProxyError as error:
            reply = finished(error_reply(error), Outcome(refused=True))
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            log.error("the walk failed", extra={"exception": logs.place_of(error)})  # noqa: TRY400 - texts may quote
            reply = finished(problem_reply(500, "internal-error"), Outcome(refused=True))
        finally:
            if isinstance(request.interim, Hints):
                request.interim.close()
        keep_alive = keep_alive and not client.ending
        return await answer.send(client, reply, request.method, request.http_version, keep_alive=keep_alive)

    def no_tls(self, code: str) -> None:
        """A client got no TLS, so it can get no answer; `code` is OpenSSL's, such as NO_SHARED_CIPHER."""
        self._line.refused(ClientError(0, "tls-handshake", code))

    def refuse(self, client: Client, error: ClientError) -> None:
        """Answers what is no request, without a word of what was sent, and ends the connection."""
        self._line.refused(error)
        try:
            client.write(answer.whole(_refused(error)))
        except ConnectionError:
            return
        client.close()


def _nobody_asks(error: ClientError) -> None:
    """Nobody wants to know."""


def _refused(error: ClientError) -> Reply:
    """An answer from this edge: it says like every other that no cache was asked."""
    extra = ALLOW if isinstance(error, MethodNotAllowed) else ()
    extra = RETRY_AFTER if isinstance(error, Overloaded) else extra
    reply = problem_reply(error.status, error.problem, error.detail, extra) if extra else error_reply(error)
    return finished(reply, Outcome(refused=True))
