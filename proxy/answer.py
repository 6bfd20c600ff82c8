"""A Reply on its way out: exact bytes on the client's connection, with backpressure and never a false end."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from email.utils import formatdate

from proxy import logs
from proxy.client import Client
from proxy.core.errors import ProxyError
from proxy.core.forwarding import reply_head
from proxy.core.model import Reply
from proxy.core.trailers import trailer_section
from proxy.core.upgrading import switching_head
from proxy.tunnel import Switch

log = logging.getLogger("proxy.answer")


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


def whole(reply: Reply) -> bytes:
    """The last answer on a connection, complete."""
    head, _, _ = reply_head(reply, method="GET", http_version="1.1", keep_alive=False, date=date_now())
    return head + reply.body if isinstance(reply.body, bytes) else head


async def send(client: Client, reply: Reply, method: str, version: str, *, keep_alive: bool) -> bool:
    """Writes all of a reply and tells whether the connection may go on.

    A body that breaks off takes the connection with it, never a clean end. Raises ConnectionError.
    """
    body = reply.body
    if isinstance(body, Switch):
        try:
            client.write(switching_head(reply, body.protocol))
            await client.drain()
            await body.join(client, *client.leave())
        finally:
            await body.aclose()
        return False
    head, length, keep_alive = reply_head(
        reply, method=method, http_version=version, keep_alive=keep_alive, date=date_now()
    )
    if isinstance(body, bytes):
        # One write: a head and a small body in two segments cost a round trip where Nagle is on.
        client.write(head + body if length else head)
        await client.drain()
        return keep_alive
    try:
        client.write(head)
        if length != 0:
            await _stream(client, body, length, chunked=length is None and version == "1.1")
    except BaseException:
        client.tear_off()
        raise
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    return keep_alive


async def _stream(client: Client, body: AsyncIterator[bytes], length: int | None, *, chunked: bool) -> None:
    sent = 0
    try:
        async for data in body:
            sent += len(data)
            if length is not None and sent > length:
                break
            if data:
                client.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await client.drain()
    except (ProxyError, ConnectionError):
        raise ConnectionResetError("the answer broke off") from None
    except Exception as error:  # noqa: BLE001 - whatever it was, the client must see no end
        log.error("the answer failed", extra={"exception": logs.place_of(error)})  # noqa: TRY400 - texts may quote
        raise ConnectionResetError("the answer broke off") from None
    if length is not None and sent != length:
        raise ConnectionResetError("the answer is not as long as it said")
    if chunked:
        client.write(trailer_section(getattr(body, "trailers", ())))
    await client.drain()
