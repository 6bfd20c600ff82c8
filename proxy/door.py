"""Where connections come in, with TLS or without, also while its certificates are exchanged."""

from __future__ import annotations

import asyncio
import socket
import ssl

from proxy.handler import EdgeServer
from proxy.sockets import BACKLOG


class Door:
    """Takes connections on a socket for `server`."""

    def __init__(self, sock: socket.socket, server: EdgeServer) -> None:
        self._sock = sock
        self._server = server
        self._open: asyncio.AbstractServer | None = None
        self._tls = False

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Takes them, with TLS where a context is given; one that was open already is taken over unseen."""
        loop = asyncio.get_running_loop()
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
