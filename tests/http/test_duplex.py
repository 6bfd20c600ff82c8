"""The ways to end a connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.duplex import RESET, Duplex
from proxy.waiting import Waiting
from tests.contract.kit import until


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


@asynccontextmanager
async def unread() -> AsyncIterator[tuple[Duplex, socket.socket]]:
    """A connection that nothing is read of, and its peer."""
    made: list[Duplex] = []

    def end() -> Duplex:
        made.append(Duplex(5.0, Waiting(1)))
        return made[0]

    server = await asyncio.get_running_loop().create_server(end, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        await until(lambda: bool(made) and made[0].transport is not None)
        made[0].pause()
        yield made[0], peer
    server.close()


async def test_a_last_word_to_a_peer_that_was_reset_unseen_is_no_failure() -> None:
    """As nothing was read of it, nobody has heard of that yet."""
    async with unread() as (mine, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        await until(lambda: mine.remains() is not None)
        mine.bow_out(5.0)
        await until(lambda: mine.gone)
