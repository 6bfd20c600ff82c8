"""An answer's content as it arrives from upstream: framed strictly, and little of it waits here."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from proxy.core.chunks import Chunks
from proxy.core.framing import Framing
from proxy.core.headers import RawHeaders
from proxy.waiting import Share, Waiting

BUFFER: Final = 64 * 1024  # reading stops at twice this, until the client has taken it
# What a piece costs besides its bytes: a service that sends them one by one must not fill memory.
OVERHEAD: Final = 64


class Source(Protocol):
    """What a body asks of the connection that it comes from."""

    waiting: Waiting

    def pause(self) -> None:
        """Reads no more for now."""
        ...

    def resume(self) -> None:
        """Reads on."""
        ...


class ReplyBody:
    """`complete`: its end has come; `spoiled`: more came behind it, which belongs to no other answer."""

    __slots__ = (
        "_chunks",
        "_error",
        "_left",
        "_loop",
        "_paused",
        "_pieces",
        "_share",
        "_source",
        "_waiter",
        "complete",
        "spoiled",
    )

    def __init__(self, source: Source, framing: Framing) -> None:
        self._source: Source | None = source
        self._share = Share(source.waiting)
        self._chunks = Chunks(lenient=True) if framing.chunked else None
        # None: it lasts until the connection ends, or the last chunk comes.
        self._left = framing.length
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self.complete = framing.length == 0
        self.spoiled = False

    @property
    def trailers(self) -> RawHeaders:
        """The lines behind the last chunk, once the body is complete."""
        return () if self._chunks is None else self._chunks.trailers

    @property
    def failed(self) -> bool:
        """Whether it broke off."""
        return self._error is not None

    def feed(self, data: bytes) -> None:
        """Takes what has arrived. Raises ValueError where it is no content."""
        if self.complete:
            self.spoiled |= bool(data)
            return
        if self._chunks is not None:
            pieces, rest = self._chunks.feed(data)
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.complete, self.spoiled = self._chunks.done, bool(rest)
        elif self._left is not None:
            if len(data) > self._left:
                data, self.spoiled = data[: self._left], True
            self._left -= len(data)
            self.complete = not self._left
        if data:
            self._pieces.append(data)
            share = self._share
            share.hold(share.held + len(data) + OVERHEAD)
            if not (self._paused or self.complete) and share.too_much(2 * BUFFER):
                self._paused = True
                if self._source is not None:
                    self._source.pause()
        self._wake()

    def end(self) -> bool:
        """The connection has ended. Whether that is the end of the content as well."""
        # Else the two would keep each other, and what is held here, for the collector.
        self._source = None
        if not self.complete and self._chunks is None and self._left is None:
            self.complete = True
            self._wake()
        return self.complete

    def fail(self, error: BaseException) -> None:
        """Nothing more comes; whoever reads is told, after what has arrived."""
        self._source = None
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def take(self) -> bytes:
        """What has arrived and nobody has read yet."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._share.hold(0)
        if self._paused:
            self._paused = False
            if self._source is not None:
                self._source.resume()
        return data

    async def wait(self) -> None:
        """Until something has arrived, or the end. Raises what it failed with."""
        while not (self._pieces or self.complete):
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
