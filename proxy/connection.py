"""One connection to upstream: an asyncio protocol that reads one answer after the other, strictly.

Only here does the package lean on a name that aiohttp does not promise (`BaseProtocol`); a canary test
watches it. Not a byte that follows an answer can pass for the next one.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from aiohttp.base_protocol import BaseProtocol

from proxy.core.errors import UpstreamError, UpstreamTimeout
from proxy.core.framing import Head, answer_framing
from proxy.core.headers import RawHeaders
from proxy.core.replyhead import END, check_reply_beginning, read_reply_head
from proxy.core.upgrading import check_agreed
from proxy.deadline import Deadline
from proxy.receiver import Receiver
from proxy.replybody import ReplyBody
from proxy.waiting import Waiting, held

Interim = Callable[[int, RawHeaders], None]


class Unanswered(UpstreamError):
    """The connection was closed before the first byte of the answer."""


class Connection(BaseProtocol):
    """Carries one exchange after another; `on_lost` is told when it is gone.

    An exchange is `begin`, writing the request, awaiting the head, reading the content, `finish`. While
    there is a `receiver` there is no exchange here: it gets what comes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None], waiting: Waiting
    ) -> None:
        super().__init__(loop)
        self.waiting = waiting
        # for the life of the connection
        self._on_lost = on_lost
        self._poll: select.poll | None = None
        self._spoiled = False
        self.receiver: Receiver | None = None
        # for one exchange
        self.request_sent = False
        self._method = ""
        self._answer: asyncio.Future[Head] | None = None
        self._answered = False
        self._buffer = b""
        self._head: Head | None = None
        self._body: ReplyBody | None = None
        self._deadline = Deadline(loop)
        self._failure = ""
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
        self.request_sent = self._answered = False
        self._method, self._upgrade, self._interim = method, upgrade, interim
        self._head = self._body = None
        self._buffer = b""
        self._answer = self._loop.create_future()
        if self.transport is None:
            _tell(self._answer, Unanswered("Upstream closed the connection.", executed=False))
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
                with held(self.waiting, self.transport.get_write_buffer_size()):
                    await self._drain_helper()
            except ConnectionError:
                return  # whoever waits for the answer is told by connection_lost
            finally:
                self.disarm()

    def arm(self, timeout: float, failure: str) -> None:
        """From now on the exchange fails with UpstreamTimeout after `timeout` seconds, unless disarmed."""
        self._failure = failure
        self._deadline.set(timeout, self._late)

    def disarm(self) -> None:
        """Ends the current deadline."""
        self._deadline.clear()

    def _late(self) -> None:
        self.fail(UpstreamTimeout(f"Upstream {self._failure}.", executed=True))

    def fail(self, error: BaseException) -> None:
        """Ends the exchange with `error` wherever it is awaited, and the connection with it."""
        if self.receiver is not None:
            self.receiver.interrupted()
        self._spoiled = True
        if self._answer is not None and not self._answer.done():
            _tell(self._answer, error)
        elif self._body is not None:
            self._body.fail(error)
        self.abort()

    def abort(self) -> None:
        """Closes at once; what is still to be written is dropped."""
        self._spoiled = True
        self._deadline.stop()
        if self.transport is not None:
            self.transport.abort()

    def complete(self) -> bytes | None:
        """The whole content, if all of it has arrived and a length had been promised; else None."""
        head, body = self._head, self._body
        if head is None or head.framing.length is None or body is None or not body.complete:
            return None
        return body.take()

    async def read(self, timeout: float | None) -> bytes:
        """The next piece of content, b"" at its end; `timeout` None: however late. Raises UpstreamError."""
        body = self._body
        if body is None:
            return b""
        data = body.take()
        if data or body.complete:
            return data
        if timeout is not None:
            self.arm(timeout, "stopped in the middle of its answer")
        try:
            await body.wait()
        finally:
            self.disarm()
        return body.take()

    @property
    def trailers(self) -> RawHeaders:
        """The lines behind the content, once its end has come; until `finish`."""
        return () if self._body is None else self._body.trailers

    def finish(self) -> bool:
        """Ends the exchange. True if the connection is fit for another one."""
        head, body = self._head, self._body
        self._answer = self._head = self._body = None
        self.disarm()
        if head is None or body is None or not head.framing.persistent or not self.request_sent:
            return False
        return self.fit and body.complete and not body.spoiled

    @property
    def fit(self) -> bool:
        """Whether it may carry another exchange, once this one is over."""
        transport = self.transport
        return not (
            self._spoiled or transport is None or transport.is_closing() or transport.get_write_buffer_size()
        )

    def data_received(self, data: bytes) -> None:
        """Bytes from upstream."""
        if self.receiver is not None:
            self.receiver.received(data)
        elif self._head is not None:
            self._feed(data)
        elif self._answer is None:
            self.abort()
        elif not self._answer.done():
            self._answered = True
            try:
                self._read_head(data)
            except ValueError:
                self.fail(UpstreamError("Upstream's answer is not valid HTTP.", executed=True))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end of the connection: of an answer that lasts until then, or a failure."""
        if self.receiver is not None:
            self.receiver.interrupted()
        super().connection_lost(exc)
        self._spoiled = True
        self._deadline.stop()
        if self._answer is not None and not self._answer.done():
            if self._answered:
                error = UpstreamError("Upstream broke off in the head of its answer.", executed=True)
            else:
                error = Unanswered("Upstream closed the connection without an answer.", executed=True)
            _tell(self._answer, error)
        elif self._body is not None and (exc is not None or not self._body.end()):
            self._body.fail(UpstreamError("Upstream broke off in the middle of its answer.", executed=True))
        self._on_lost(self)

    def _read_head(self, data: bytes) -> None:
        buffer, since = self._buffer + data, len(self._buffer)
        while True:
            end = buffer.find(END, max(since - 3, 0)) + len(END)
            if end < len(END):
                check_reply_beginning(buffer, since)
                self._buffer = buffer
                return
            status, reason, version, headers = read_reply_head(buffer[:end])
            buffer, since = buffer[end:], 0
            if status >= 200 or status == 101:
                break
            # A 100 is between upstream and us, what else there may be is for the client (RFC 9110 §15.2).
            if self._interim is not None and status > 101:
                self._interim(status, headers)
        framing = answer_framing(self._method, status, reason, version, headers)
        head = Head(status, reason, headers, framing, "1.1" if version == (1, 1) else "1.0")
        if head.status == 101:
            check_agreed(self._upgrade, head.headers)
            self.transport.pause_reading()  # type: ignore[union-attr]
            framing, self.early, buffer = framing._replace(length=0), buffer, b""
        self._buffer = b""
        self._body = ReplyBody(self, framing)
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
        try:
            self._body.feed(data)  # type: ignore[union-attr]
        except ValueError:
            self.fail(UpstreamError("Upstream's answer is not valid HTTP.", executed=True))

    def pause(self) -> None:
        """The body has enough for now."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """The body was read."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


def _tell(answer: asyncio.Future[Head], error: BaseException) -> None:
    answer.set_exception(error)
    # Whoever asked may be gone by now; that nobody heard of it is no mistake.
    answer.exception()
