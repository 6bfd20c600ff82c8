"""The port to upstream: a slim HTTP/1.1 client that sends what it is given, and never sends it twice.

aiohttp's own client quotes paths anew, adds and reorders lines, keeps cookies, decodes content and repeats
a PUT on a broken kept-alive connection; none of that is wanted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from proxy.configtls import tls_context
from proxy.connection import Connection, Unanswered
from proxy.core.errors import (
    ClientError,
    ClientGone,
    RequestBroken,
    UpstreamError,
)
from proxy.core.forwarding import end_to_end, is_event_stream, request_head
from proxy.core.framing import Head
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Reply, Request
from proxy.core.settings import HostLine, UpstreamSettings
from proxy.core.trailers import trailer_section
from proxy.dialing import Dialer
from proxy.pool import Pool
from proxy.tunnel import Switch
from proxy.waiting import LARGEST, Waiting

# RFC 9110 §9.2.1: what may be asked twice when nobody knows whether the first was heard.
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpUpstream:
    """Implements `ports.Upstream` for an `http://`, `https://` or `unix:/path` URL.

    Raises ConfigError for another kind of URL and for files of TLS
    that cannot be read. To be used on one event loop.
    """

    def __init__(self, settings: UpstreamSettings, waiting: Waiting | None = None) -> None:
        self.until_head, self._until_next = settings.until_head, settings.until_next
        self._replace_host = settings.host is HostLine.REPLACE
        loop = asyncio.get_running_loop
        waiting = waiting or Waiting(LARGEST)
        self._dialer = Dialer(
            settings, tls_context(settings), lambda: Connection(loop(), self._pool.forget, waiting)
        )
        self._pool: Pool[Connection] = Pool(
            self._dialer.dial, limit=settings.max_connections, patience=settings.connect_timeout
        )
        # For a request that is written as it came: a connection that lies idle, if there is one, and its end.
        self.lend = _no_connection if self._replace_host else self._pool.take
        self.give_back = self._pool.release

    async def send(self, request: Request) -> Reply:
        """The answer, once its head has arrived; content that is complete by then comes as bytes.

        Hop-by-hop lines are gone. Else `Reply.body` is to be read to its end, or closed. A request goes out
        again in one case only: a kept-alive connection turned out to be closed, before anything was
        written to it or (for a GET, HEAD or OPTIONS without a body) without a byte of an answer.
        Raises UpstreamError; RequestBroken if it was the request's body that failed.
        """
        connection, used = await self._pool.acquire()
        return await self._insisting(request, self._ask(connection, request), used=used)

    async def _insisting(self, request: Request, asked: Awaitable[Reply], *, used: bool) -> Reply:
        try:
            return await asked
        except Unanswered as error:
            safe = request.method in _REPEATABLE and request.body is None
            if not used or (error.executed and not safe):
                raise
        connection, _ = await self._pool.acquire(fresh=True)
        return await self._ask(connection, request)

    @property
    def figures(self) -> dict[str, int]:
        """The connections, see Pool."""
        return self._pool.figures

    def resumed(self, connection: Connection, answer: asyncio.Future[Head]) -> Resumed:
        """For a request that went out on a connection that was lent, and its answer to come."""
        return Resumed(
            lambda request: self._insisting(request, self._answered(connection, answer), used=True)
        )

    async def _answered(self, connection: Connection, answer: asyncio.Future[Head]) -> Reply:
        try:
            return self._reply(connection, await answer)
        except BaseException:
            self._pool.release(connection, reusable=False)
            raise

    async def ping(self) -> None:
        """Makes a connection and closes it. Raises UpstreamError."""
        (await self._dialer.dial()).abort()

    async def close(self) -> None:
        """Closes all connections; idempotent."""
        self._pool.close()

    async def _ask(self, connection: Connection, request: Request) -> Reply:
        sender: asyncio.Task[None] | None = None
        try:
            try:
                head_bytes, length = request_head(
                    request, self._dialer.authority, replace_host=self._replace_host
                )
            except ValueError:
                raise UpstreamError("The request cannot be written as HTTP.", executed=False) from None
            answer = connection.begin(request.method, request.headers.get("upgrade"), request.interim)
            # A small body that is here already travels with the head: one write, and no task to send it.
            at_hand = getattr(request.body, "at_hand", None)
            ready = at_hand() if at_hand is not None and length is not None else None
            if ready is not None and len(ready) != length:
                ready = None
            if connection.write(head_bytes + ready if ready else head_bytes):
                if request.body is None or ready is not None:
                    if at_hand is not None:
                        request.body.throw_away()  # type: ignore[union-attr]
                    connection.request_sent = True
                    connection.arm(self.until_head, "did not answer in time")
                else:
                    sender = asyncio.create_task(self._send_body(connection, request.body, length))
            head = await answer
            if sender is not None:
                # Upstream has made up its mind; what it has not read by now it never gets.
                await _stop(sender)
            return self._reply(connection, head)
        except BaseException:
            self._pool.release(connection, reusable=False)
            if sender is not None:
                await _stop(sender)
            raise

    def _reply(self, connection: Connection, head: Head) -> Reply:
        if head.status == 101:
            chosen = Headers(head.headers).joined("upgrade") or ""
            switch = Switch(
                connection,
                chosen.encode("latin-1"),
                lambda: self._pool.release(connection, reusable=False),
            )
            return Reply(head.status, head.reason, end_to_end(head.headers), switch)
        whole = connection.complete()
        headers = end_to_end(head.headers)
        if whole is None:
            # Events come when something happens, so their silence is no failure.
            patience = None if is_event_stream(headers) else self._until_next
            content = Content(connection, self._pool, patience)
            return Reply(head.status, head.reason, headers, content, version=head.version)
        self._pool.release(connection, reusable=connection.finish())
        return Reply(head.status, head.reason, headers, whole, version=head.version)

    async def _send_body(
        self, connection: Connection, body: AsyncIterator[bytes], length: int | None
    ) -> None:
        """Writes the body as it comes. What goes wrong with it ends the exchange, also while upstream takes
        none of it.
        """
        sent = 0
        when_broken = getattr(body, "when_broken", _nobody_asks)
        when_broken(lambda error: connection.fail(RequestBroken(error)))
        try:
            async for chunk in body:
                if not chunk:
                    continue
                sent += len(chunk)
                if length is not None and sent > length:
                    raise ClientError(400, "bad-request", "The body is longer than its Content-Length.")
                if not connection.write(
                    chunk if length is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk)
                ):
                    return
                connection.request_sent = sent == length
                await connection.drain(self._until_next)
            if length is None:
                connection.write(trailer_section(getattr(body, "trailers", ())))
            elif sent < length:
                raise ClientError(400, "bad-request", "The body is shorter than its Content-Length.")
            connection.request_sent = True
            connection.arm(self.until_head, "did not answer in time")
        except (ClientError, ClientGone) as error:
            connection.fail(RequestBroken(error))
        except Exception as error:  # noqa: BLE001 - whatever the body's source did, the exchange ends with it
            connection.fail(error)
        finally:
            when_broken(None)


def _no_connection() -> Connection | None:
    return None


class Resumed:
    """Implements `ports.Upstream` for one request, which has been sent already."""

    def __init__(self, send: Callable[[Request], Awaitable[Reply]]) -> None:
        self.send = send


class Content:
    """What is still to come of an answer. Each step raises UpstreamError where upstream breaks off.

    Read to its end, it gives the connection back; closed, cancelled or forgotten before, it closes it.
    """

    def __init__(self, connection: Connection, pool: Pool[Connection], timeout: float | None) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self.waiting = connection.waiting
        # the lines behind the content, when it has been read
        self.trailers: RawHeaders = ()

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        try:
            data = await connection.read(self._timeout)
        except BaseException:
            await self.aclose()
            raise
        if not data:
            self.trailers = connection.trailers
            self._connection = None
            self._pool.release(connection, reusable=connection.finish())
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Reads no further; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection, reusable=False)

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and not self._loop.is_closed():
            # The collector may run on any thread.
            self._loop.call_soon_threadsafe(lambda: self._pool.release(connection, reusable=False))


def _nobody_asks(told: object) -> None:
    """Of a body that comes from no client."""


async def _stop(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
