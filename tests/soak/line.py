"""One kept connection on raw streams: the load must not be what the run measures."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

_FIELD = re.compile(rb"\r\n(content-length|x-cache|connection): *([^\r]*)", re.IGNORECASE)

# The longest that anybody is waited for, in seconds.
ENOUGH = 20.0


class Line:
    """Sends requests one after another to one server at a time; connects again where that changes or breaks.

    Nothing is ever sent twice.
    """

    def __init__(self) -> None:
        self._url = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, url: str, method: str, path: str, token: str | None, patience: float, body: bytes = b""
    ) -> tuple[int, str, bytes]:
        """Status, `X-Cache`, body. Raises OSError, TimeoutError; a broken answer is a ConnectionError."""
        try:
            async with asyncio.timeout(patience):
                return await self._ask(url, method, path, token, body)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as broken:
            self.close()
            raise ConnectionError(str(broken)) from broken
        except BaseException:
            self.close()
            raise

    async def _ask(
        self, url: str, method: str, path: str, token: str | None, body: bytes
    ) -> tuple[int, str, bytes]:
        place = urlsplit(url)
        if self._streams is None or url != self._url:
            self.close()
            self._streams, self._url = await asyncio.open_connection(place.hostname, place.port), url
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        if token is not None:
            head += f"Authorization: Bearer {token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = {name.lower(): value for name, value in _FIELD.findall(answer)}
        status = int(answer[9:12])
        told = b"" if status == 204 else await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()
        return status, fields.get(b"x-cache", b"").decode(), told

    def close(self) -> None:
        """Hangs up."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
