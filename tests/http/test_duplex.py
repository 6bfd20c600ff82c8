"""The ways to end a connection."""

from __future__ import annotations

import asyncio
import socket

from proxy.duplex import Duplex
from proxy.waiting import Waiting


async def test_a_connection_that_is_gone_is_not_torn_off_again() -> None:
    """Its socket is closed by then, and its number may be another connection's."""
    ends: asyncio.Future[Duplex] = asyncio.get_running_loop().create_future()

    class End(Duplex):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            ends.set_result(self)

    server = await asyncio.get_running_loop().create_server(lambda: End(5.0, Waiting(1)), "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        pass
    end = await ends
    await asyncio.sleep(0)
    end.tear_off()
    server.close()
