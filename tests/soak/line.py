"""One kept connection on raw streams: the load must not be what the run measures."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class Line:
    """Sends GETs one after another to one server at a time; connects again where that changes or breaks."""

    def __init__(self) -> None:
        self._url = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, url: str, path: str, token: str | None, patience: float) -> tuple[int, str, bytes]:
        """Status, `X-Cache`, body. Raises OSError, TimeoutError; a broken answer is a ConnectionError."""
        try:
            async with asyncio.timeout(patience):
                return await self._get(url, path, token)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as broken:
            self.close()
            raise ConnectionError(str(broken)) from broken
        except BaseException:
            self.close()
            raise

    async def _get(self, url: str, path: str, token: str | None) -> tuple[int, str, bytes]:
        place = urlsplit(url)
        if self._streams is None or url != self._url:
            self.close()
            self._streams, self._url = await asyncio.open_connection(place.hostname, place.port), url
        reader, writer = self._streams
        authorization = "" if token is None else f"Authorization: Bearer {token}\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n{authorization}\r\n".encode())
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            self.close()
        return int(head.split(" ", 2)[1]), fields.get("x-cache", "").upper(), body

    def close(self) -> None:
        """Hangs up."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
