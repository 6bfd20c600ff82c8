"""One connection to upstream: an asyncio protocol around aiohttp's C response parser.

Only here does the package lean on names that aiohttp does not promise (`BaseProtocol`, the parser, the
stream it feeds); a canary test watches them. The parser is shown one head at a time, so that not a byte
that follows an answer can pass for the next one.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
from collections.abc import Callable
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser
from aiohttp.streams import StreamReader

from proxy.core.errors import UpstreamError, UpstreamTimeout
from proxy.core.framing import Head, answer_framing
from proxy.core.headers import RawHeaders
from proxy.core.upgrading import check_agreed

# Nobody's answer head is larger; a peer that never ends its head must not fill memory.
MAX_HEAD: Final = 64 * 1024
MAX_LINE: Final = 16 * 1024
MAX_LINES: Final = 256
BUFFER: Final = 64 * 1024  # reading stops at twice this, until the client has taken it

Interim = Callable[[int, RawHeaders], None]
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class Unanswered(UpstreamError):
    """The connection was closed before the first byte of the answer."""


class Connection(BaseProtocol):
    """Carries one exchange after another; `on_lost` is told when it is gone.

    An exchange is `begin`, writing the request, awaiting the head, reading the content, `finish`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]) -> None:
        super().__init__(loop)
        # for the life of the connection
        self._on_lost = on_lost
        self._poll: select.poll | None = None
        self._spoiled = False
        # for one exchange
        self.request_sent = False
        self._method = ""
        self._answer: asyncio.Future[Head] | None = None
        self._answered = False
        self._buffer = b""
        self._head: Head | None = None
        self._left: int | None = None
        self._content: StreamReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: str | None = None
        self._interim: Interim | None = None
        # what came behind a 101
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the socket's readiness at hand for `is_alive`."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # A stream of events may be silent for hours; that its sender is gone must be seen some day.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def is_alive(self) -> bool:
        """False if the peer closed it, or sent anything unasked, even where the loop has not seen it yet."""
        if self._spoiled or self.transport is None or self.transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def begin(
        self, method: str, upgrade: str | None = None, interim: Interim | None = None
    ) -> asyncio.Future[Head]:
        """A new exchange; the future becomes the answer's head, or raises UpstreamError.

        A 101 is an answer only to the request for an `upgrade`: reading pauses behind it, see `early`.
        """
        self._parser = HttpResponseParser(
            self,
            self._loop,
            BUFFER,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_LINES,
            read_until_eof=True,
            auto_decompress=False,
        )
        self.request_sent = self._answered = False
        self._method, self._upgrade, self._interim = method, upgrade, interim
        self._head = self._content = None
        self._buffer = b""
        self._answer = self._loop.create_future()
        if self.transport is None:
            self._answer.set_exception(Unanswered("Upstream closed the connection.", executed=False))
        return self._answer

    def write(self, data: bytes) -> bool:
        """Writes, or returns False where the connection is gone (`begin`'s future tells why)."""
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.write(data)
        return True

    async def drain(self, timeout: float) -> None:
        """Waits until upstream has taken what was written, at most `timeout` seconds for some progress."""
        if self._paused and self.transport is not None:
            self.arm(timeout, "did not take the request in time")
            try:
                await self._drain_helper()
            except ConnectionError:
                return  # whoever waits for the answer is told by connection_lost
            finally:
                self.disarm()

    def arm(self, timeout: float, failure: str) -> None:
        """From now on the exchange fails with UpstreamTimeout after `timeout` seconds, unless disarmed."""
        self.disarm()
        error = UpstreamTimeout(f"Upstream {failure}.", executed=True)
        self._timer = self._loop.call_later(timeout, self.fail, error)

    def disarm(self) -> None:
        """Ends the current deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def fail(self, error: BaseException) -> None:
        """Ends the exchange with `error` wherever it is awaited, and the connection with it."""
        self._spoiled = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        elif self._content is not None and not self._content.is_eof():
            self._content.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Closes at once; what is still to be written is dropped."""
        self._spoiled = True
        self.disarm()
        if self.transport is not None:
            self.transport.abort()

    def complete(self) -> bytes | None:
        """The whole content, if all of it has arrived and a length had been promised; else None."""
        if self._head is None or self._head.framing.length is None:
            return None
        if self._content is None:
            return b""
        if not self._content.is_eof() or self._content.exception() is not None:
            return None
        return self._content.read_nowait()

    async def read(self, timeout: float | None) -> bytes:
        """The next piece of content, b"" at its end; `timeout` None: however late. Raises UpstreamError."""
        content = self._content
        if content is None:
            return b""
        data = content.read_nowait()
        if data or content.is_eof():
            return data
        if timeout is not None:
            self.arm(timeout, "stopped in the middle of its answer")
        try:
            return await content.readany()
        finally:
            self.disarm()

    def finish(self) -> bool:
        """Ends the exchange. True if the connection is fit for another one."""
        head, parser = self._head, self._parser
        self._answer = self._head = self._content = self._parser = None
        self.disarm()
        if (
            head is None
            or not head.framing.persistent
            or not self.request_sent
            or self._spoiled
            or parser is None
        ):
            return False
        if self.transport is None or self.transport.is_closing() or self.transport.get_write_buffer_size():
            return False
        if head.framing.chunked:
            try:
                # After the last chunk the parser may hold the beginning of an answer that nobody asked for.
                return parser.feed_eof() is None
            except HttpProcessingError:
                return False
        return self._left == 0

    def data_received(self, data: bytes) -> None:
        """Bytes from upstream; b"" is aiohttp's way of saying that reading goes on after a pause."""
        if self._head is not None:
            self._feed(data)
        elif self._answer is None:
            if data:
                self.abort()
        elif not self._answer.done():
            self._answered = True
            try:
                self._read_head(data)
            except (HttpProcessingError, ValueError):
                self.fail(UpstreamError("Upstream's answer is not valid HTTP.", executed=True))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end of the connection: of an answer that lasts until then, or a failure."""
        super().connection_lost(exc)
        self._spoiled = True
        self.disarm()
        if self._answer is not None and not self._answer.done():
            if self._answered:
                error = UpstreamError("Upstream broke off in the head of its answer.", executed=True)
            else:
                error = Unanswered("Upstream closed the connection without an answer.", executed=True)
            self._answer.set_exception(error)
        elif self._content is not None and not self._content.is_eof() and self._parser is not None:
            try:
                if exc is not None:
                    raise HttpProcessingError
                self._parser.feed_eof()
            except HttpProcessingError:
                broken = UpstreamError("Upstream broke off in the middle of its answer.", executed=True)
                self._content.set_exception(broken)
        self._on_lost(self)

    def _read_head(self, data: bytes) -> None:
        buffer = self._buffer + data
        while True:
            end = _HEAD_END.search(buffer)
            if end is None:
                if len(buffer) > MAX_HEAD or not buffer.startswith(b"HTTP/1."[: len(buffer)]):
                    raise ValueError("no head")
                self._buffer = buffer
                return
            messages, _, _ = self._parser.feed_data(buffer[: end.end()])  # type: ignore[union-attr]
            message, content = messages[0] if messages else (None, None)
            if message is None:
                raise ValueError("no answer")
            buffer = buffer[end.end() :]
            if message.code >= 200 or message.code == 101:
                break
            # A 100 is between upstream and us, what else there may be is for the client (RFC 9110 §15.2).
            if self._interim is not None and message.code > 101:
                self._interim(message.code, message.raw_headers)
        reason = message.reason.encode("utf-8", "surrogateescape")
        framing = answer_framing(self._method, message.code, reason, message.version, message.raw_headers)
        head = Head(message.code, reason, message.raw_headers, framing)
        if head.status == 101:
            check_agreed(self._upgrade, head.headers)
            self.transport.pause_reading()  # type: ignore[union-attr]
            content, framing, self.early, buffer = None, framing._replace(length=0), buffer, b""
        self._buffer = b""
        self._left = framing.length
        self._content = content if framing.length != 0 else None
        self._head = head
        self.disarm()
        if self._answer is not None:
            self._answer.set_result(head)
        if buffer:
            self._feed(buffer)

    def _feed(self, data: bytes) -> None:
        if self._head is not None and self._head.status == 101:
            self.early += data
            return
        if self._left is not None:
            # What comes after the promised length is not content, and belongs to no other answer.
            self._spoiled |= len(data) > self._left
            data = data[: self._left]
            self._left -= len(data)
        content, parser = self._content, self._parser
        if content is None or parser is None or content.is_eof():
            self._spoiled |= bool(data)
            return
        try:
            messages, _, _ = parser.feed_data(data)
        except HttpProcessingError:
            self._spoiled = True
            if not content.is_eof():
                self.fail(UpstreamError("Upstream's answer is not valid HTTP.", executed=True))
        else:
            self._spoiled |= bool(messages)
