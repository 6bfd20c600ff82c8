"""Where connections come in, with TLS or without, also while its certificates are exchanged."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from proxy.handler import EdgeServer
from proxy.sockets import BACKLOG


def handshakes(failed: Callable[[str], None]) -> type[ssl.SSLObject]:
    """TLS connections that tell OpenSSL's reason where one could not be agreed on: no loop tells it."""

    class Handshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                failed(error.reason or "UNKNOWN")
                raise

    return Handshake


class Door:
    """Takes connections on a socket for `server`."""

    def __init__(self, sock: socket.socket, server: EdgeServer) -> None:
        self._sock = sock
        self._server = server
        self._open: asyncio.AbstractServer | None = None

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Takes them, with TLS where a context is given; one that was open already is taken over unseen."""
        loop = asyncio.get_running_loop()
        if context is not None:
            context.sslobject_class = handshakes(self._server.no_tls)
        before = self._open
        self._open = await loop.create_server(
            self._server, sock=self._sock.dup(), backlog=BACKLOG, ssl=context
        )
        if before is not None:
            before.close()

    def close(self) -> None:
        """Takes no more."""
        if self._open is not None:
            self._open.close()
