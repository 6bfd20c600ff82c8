"""A Reply on its way out: exact bytes on aiohttp's connection, with backpressure and never a false end."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web

from proxy import logs
from proxy.core.errors import ProxyError
from proxy.core.forwarding import reply_head
from proxy.core.model import Reply

log = logging.getLogger("proxy.answer")

# A client that takes or sends nothing for so long in the middle of a body would hold upstream's connection.
STALL: Final = 60.0
RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time at all


class _Clock:
    """The Date line of this second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode("ascii")
        return self._text


date_now = _Clock()


class Answer(web.StreamResponse):
    """Writes a Reply as it is; aiohttp adds nothing to it."""

    def __init__(self, reply: Reply, method: str, version: str, *, keep_alive: bool) -> None:
        super().__init__(status=reply.status)
        self._reply = reply
        self._method = method
        self._version = version
        self._persists = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on after this answer."""
        return self._persists

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes all of it; a body that breaks off takes the connection with it, never a clean end."""
        body = self._reply.body
        head, length, self._persists = reply_head(
            self._reply,
            method=self._method,
            http_version=self._version,
            keep_alive=self._persists,
            date=date_now(),
        )
        if isinstance(body, bytes):
            # One write: a head and a small body in two segments cost a round trip where Nagle is on.
            await _write(request, head + body if length else head)
            return
        try:
            await _write(request, head)
            if length != 0:
                await self._stream(request, body, length)
        except BaseException:
            _tear_off(request)
            raise
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _stream(self, request: web.BaseRequest, body: AsyncIterator[bytes], length: int | None) -> None:
        chunked = length is None and self._version == "1.1"
        sent = 0
        try:
            async for data in body:
                sent += len(data)
                if length is not None and sent > length:
                    break
                if data:
                    await _write(request, b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        except (ProxyError, ConnectionError):
            raise ConnectionResetError("the answer broke off") from None
        except Exception as error:  # noqa: BLE001 - whatever it was, the client must see no end
            log.error("the answer failed", extra={"exception": logs.place_of(error)})  # noqa: TRY400 - texts may quote
            raise ConnectionResetError("the answer broke off") from None
        if length is not None and sent != length:
            raise ConnectionResetError("the answer is not as long as it said")
        if chunked:
            await _write(request, b"0\r\n\r\n")

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything is written by then."""


async def _write(request: web.BaseRequest, data: bytes) -> None:
    """Writes, and waits while the client takes nothing. Raises ConnectionError where it is gone or stalls."""
    writer: Any = request.writer
    await writer.write(data, drain=False)
    if request.protocol.writing_paused:
        try:
            async with asyncio.timeout(STALL):
                await writer.drain()
        except TimeoutError:
            _tear_off(request)
            raise ConnectionResetError("the client takes nothing") from None


def _tear_off(request: web.BaseRequest) -> None:
    """Closes at once, with a reset: to a client that reads until the connection ends, a FIN is an end."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()
