"""An origin on a raw socket: it keeps the exact bytes of each request and plays back exact bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Origin:
    """`heads` and `bodies` are what arrived, `connections` how many there were."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    close_after: bool = False
    silent: bool = False
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    def lines(self, index: int = -1) -> list[bytes]:
        """The head of one request, line by line."""
        return self.heads[index].split(b"\r\n")[:-2]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.bodies.append(await _body(head, reader))
                self.arrived.set()
                if self.silent:
                    await reader.read()
                    break
                answer = self.answers.pop(0) if self.answers else OK
                writer.write(answer)
                await writer.drain()
                if self.close_after or not answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()

    async def finish(self) -> None:
        """Ends the connections that are still open."""
        for task in tuple(self.serving):
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        return await reader.readexactly(int(length[1]))
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        whole = b""
        while True:
            size = int((await reader.readuntil(b"\n")).strip(), 16)
            if not size:
                while await reader.readuntil(b"\n") != b"\r\n":
                    pass
                return whole
            whole += (await reader.readexactly(size + 2))[:-2]
    return b""


@asynccontextmanager
async def origin(*answers: bytes, **options: bool) -> AsyncIterator[Origin]:
    """A running origin; `answers` are played back in order, then `OK`."""
    started = Origin(answers=list(answers), **options)  # type: ignore[arg-type]
    server = await asyncio.start_server(started.serve, "127.0.0.1", 0)
    started.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield started
    finally:
        server.close()
        await started.finish()
