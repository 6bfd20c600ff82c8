"""One end of a connection: flow control both ways, one deadline, and the ways to end it."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Final

from proxy.deadline import Deadline
from proxy.waiting import Waiting, held

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
HUNG_UP: Final = getattr(select, "POLLRDHUP", select.POLLHUP)
RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time at all


class Duplex(asyncio.Protocol):
    """A protocol that waits where the peer takes nothing, at most `patience` seconds. `gone`: it was lost."""

    __slots__ = (
        "_deadline",
        "_drained",
        "_loop",
        "_patience",
        "_paused",
        "_stuck",
        "gone",
        "transport",
        "waiting",
    )

    def __init__(self, patience: float, waiting: Waiting) -> None:
        self.waiting = waiting
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self.transport: asyncio.Transport | None = None
        self.gone = False
        self._paused = False  # reading
        self._stuck = False  # writing
        self._drained: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - a cut and an end are alike
        """Whoever waits is told."""
        self.gone = True
        self._deadline.stop()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The peer takes less than there is for it."""
        self._stuck = True

    def resume_writing(self) -> None:
        """It has taken some, or it is gone."""
        self._stuck = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def write(self, data: bytes) -> None:
        """Raises ConnectionResetError where the peer is gone."""
        if self.gone or self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the peer is gone")
        self.transport.write(data)

    async def drain(self) -> None:
        """Waits while the peer takes nothing. Raises ConnectionError where it is gone or stalls."""
        if not self._stuck or self.transport is None:
            return
        self._drained = self._loop.create_future()
        timer = self._loop.call_later(self._patience, self.tear_off)
        try:
            with held(self.waiting, self.transport.get_write_buffer_size()):
                await self._drained
        finally:
            timer.cancel()
            self._drained = None
        if self.gone:
            raise ConnectionResetError("the peer takes nothing")

    def tear_off(self) -> None:
        """Closes at once, with a reset: to a client that reads until the connection ends, a FIN is an end."""
        # The socket of a connection that is gone is closed, and its number may be another's.
        if self.transport is not None and not self.gone:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()

    def eof_received(self) -> bool:
        """A peer that has said its last word is taken as gone."""
        return False

    def proceed(self) -> None:
        """The client may send its body."""
        if self.transport is not None and not self.gone:
            self.transport.write(CONTINUE)

    def bow_out(self, seconds: float) -> None:
        """Says no more: what was written still goes out, and what comes is taken for so long."""
        self.resume()
        transport = self.transport
        if transport is None or self.gone or transport.is_closing():
            return
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # reset, and nobody has read that yet
            transport.abort()
        else:
            self._arm(seconds, self.abort)

    def abort(self) -> None:
        """Closes at once."""
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        """Reads no more for now."""
        if not self._paused and self.transport is not None and not self.gone:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and self.transport is not None and not self.gone:
            self._paused = False
            self.transport.resume_reading()

    def remains(self) -> int | None:
        """How many bytes can still be read of a peer that has said its last word; None: it has not.

        Of TLS nobody can tell: what is left may be less than its records.
        """
        transport = self.transport
        sock = None if transport is None or self.gone else transport.get_extra_info("socket")
        if transport is None or sock is None or transport.get_extra_info("sslcontext") is not None:
            return None
        poll = select.poll()
        poll.register(sock.fileno(), HUNG_UP)
        if not poll.poll(0):
            return None
        count = fcntl.ioctl(sock.fileno(), termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", count)[0])

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        """One deadline at a time."""
        self._deadline.set(seconds, action)

    def _disarm(self) -> None:
        self._deadline.clear()
