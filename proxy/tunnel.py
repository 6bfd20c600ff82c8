"""Two connections that have left HTTP for another protocol: bytes both ways, held back where an end is slow.

No task and no buffer of its own: what one end has read is written to the other at once, and an end whose
peer takes nothing is not read. So the transports' own bounds are all the memory that a tunnel takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from proxy.connection import Connection


class Leaving(Protocol):
    """The client's protocol, as far as it is left behind: told at the end that its connection was lost."""

    transport: asyncio.Transport | None

    def resume(self) -> None:
        """Reads on."""
        ...

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end of the connection."""
        ...


class Switch:
    """Upstream's readiness to speak `protocol`: as a body it has no content. To be joined, or closed.

    The connection stays lent until both ends are gone, so that tunnels count among upstream's connections.
    """

    def __init__(self, connection: Connection, protocol: bytes, release: Callable[[], None]) -> None:
        self._connection: Connection | None = connection
        self._release = release
        self.protocol = protocol

    def __aiter__(self) -> Switch:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Gives upstream up, unless the tunnel stands; idempotent."""
        if self._connection is not None:
            self._connection = None
            self._release()

    async def join(self, client: Leaving, ahead: bytes, idle: float) -> None:
        """Carries bytes until both ends are gone. `ahead` came from the client already.

        A tunnel that carries nothing for `idle` seconds is cut. It goes on where the caller is cancelled:
        what an end has said before it left is still brought to the other one.
        """
        connection, near = self._connection, client.transport
        if connection is None or near is None:
            raise ConnectionResetError("the client is gone")
        self._connection = None
        await _Tunnel(client, near, connection, idle, self._release).begin(ahead)


class _End(asyncio.Protocol):
    """One end: `before` is the protocol that it had; `said_all`: it sends no more."""

    __slots__ = ("_before", "_tunnel", "gone", "peer", "said_all", "transport")

    peer: _End

    def __init__(self, tunnel: _Tunnel, before: Leaving | Connection, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self._before = before
        self.transport = transport
        self.said_all = self.gone = False

    @property
    def open(self) -> bool:
        """Whether it can still be written to and read."""
        return not self.gone and not self.transport.is_closing()

    def take(self, data: bytes) -> None:
        """Bytes for this end."""
        if data and self.open:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Bytes from this end."""
        self._tunnel.moved()
        self.peer.take(data)

    def eof_received(self) -> bool:
        """This end has said all. It may still listen, where the other one can be told (not over TLS)."""
        self.said_all = True
        if self.peer.said_all or not self.peer.open or not self.peer.transport.can_write_eof():
            return False
        self.peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """This end takes less than there is for it."""
        if self.peer.open:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has taken some."""
        self._tunnel.moved()
        if self.peer.open:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The other end gets what is on its way to it, and then its end."""
        self.gone = True
        if not self.peer.gone:
            self.peer.transport.close()
        self._before.connection_lost(exc)
        self._tunnel.left()


class _Tunnel:
    def __init__(
        self,
        client: Leaving,
        near: asyncio.Transport,
        connection: Connection,
        idle: float,
        release: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._release = release
        self._idle = idle
        self._moved = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(idle, self._tick)
        self._over = self._loop.create_future()
        self._client, self._connection = client, connection
        self._near = _End(self, client, near)
        far = connection.transport
        # Upstream may have gone already; its last words are in `early`.
        self._far = _End(self, connection, near if far is None else far)
        self._far.gone = far is None
        self._near.peer, self._far.peer = self._far, self._near

    async def begin(self, ahead: bytes) -> None:
        near, far = self._near, self._far
        near.transport.set_protocol(near)
        near.take(self._connection.early)
        if far.gone:
            near.transport.close()
        else:
            far.transport.set_protocol(far)
            far.take(ahead)
            far.transport.resume_reading()
        self._client.resume()
        await asyncio.shield(self._over)

    def moved(self) -> None:
        self._moved = self._loop.time()

    def left(self) -> None:
        if not (self._near.gone and self._far.gone):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release()
        if not self._over.done():
            self._over.set_result(None)

    def _tick(self) -> None:
        due = self._moved + self._idle
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._tick)
            return
        self._timer = None
        for end in (self._near, self._far):
            if not end.gone:
                end.transport.abort()
