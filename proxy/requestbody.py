"""A request's body as it arrives: framed strictly, with backpressure, and a deadline for slow clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from proxy.core.chunks import Chunks
from proxy.core.edgesettings import LimitSettings
from proxy.core.errors import ClientError, ClientGone
from proxy.core.headers import RawHeaders
from proxy.core.requesthead import RequestHead
from proxy.waiting import Share, Waiting

# What a piece costs besides its bytes: a client that sends them one by one must not fill memory.
OVERHEAD: Final = 64
BROKEN: Final = "The body's framing is broken."
# Up to here a body is copied to go out with its head.
SMALL: Final = 16 * 1024
# How often a sender that is not read is looked after.
LOOK: Final = 1.0

Told = Callable[[ClientError | ClientGone], None]


class Source(Protocol):
    """What a body asks of the connection that it comes from."""

    waiting: Waiting

    def pause(self) -> None:
        """Reads no more for now."""
        ...

    def resume(self) -> None:
        """Reads on."""
        ...

    def proceed(self) -> None:
        """Tells the client that its body is wanted (RFC 9110 §10.1.1)."""
        ...

    def remains(self) -> int | None:
        """How many bytes can still be read of a peer that has said its last word; None: it has not."""
        ...

    def abort(self) -> None:
        """Closes at once."""
        ...


class RequestBody:
    """Yields the content. Raises ClientError where it breaks, is too large or stops coming; ClientGone.

    `length` None means chunked; `awaited`: the client waits for a word that its body is wanted.
    """

    __slots__ = (
        "_chunks",
        "_left",
        "_limits",
        "_loop",
        "_paused",
        "_pieces",
        "_received",
        "_share",
        "_source",
        "_thrown_away",
        "_told",
        "_waited",
        "_waiter",
        "_watched",
        "awaited",
        "complete",
        "error",
        "waiting",
    )

    def __init__(self, source: Source, length: int | None, limits: LimitSettings, *, awaited: bool) -> None:
        self._source: Source | None = source
        self.waiting = source.waiting
        self._share = Share(self.waiting)
        self._limits = limits
        self._chunks = Chunks() if length is None else None
        self._left = length or 0
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._paused = self._thrown_away = self._watched = False
        self._told: Told | None = None
        self._waited = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self.awaited = awaited
        self.complete = False
        self.error: ClientError | ClientGone | None = None

    @property
    def trailers(self) -> RawHeaders:
        """The lines behind the last chunk, once the body is complete."""
        return () if self._chunks is None else self._chunks.trailers

    def at_hand(self) -> bytes | None:
        """All of a small body, if it has arrived and nobody has begun to read it. It is not taken away."""
        if not self.complete or self.error is not None or self._received > SMALL:
            return None
        ready = b"".join(self._pieces)
        return ready if len(ready) == self._received else None

    def feed(self, data: bytes) -> bytes:
        """Takes what has arrived, and gives back what does not belong to the body."""
        if self._chunks is not None:
            try:
                pieces, rest = self._chunks.feed(data)
            except ValueError:
                self.fail(ClientError(400, "bad-request", BROKEN))
                return b""
            self.complete = self._chunks.done
            self._take(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            piece, rest = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
            self._left -= len(piece)
            self.complete = not self._left
            self._take(piece)
        if not (self._thrown_away or self._paused) and self._share.too_much(2 * self._limits.buffer):
            self._paused = True
            if self._source is not None:
                self._source.pause()
                self._watch()
        self._wake()
        return rest

    def _watch(self) -> None:
        """Of a client that is not read nobody hears that it has gone."""
        if not self._watched:
            self._watched = True
            self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        """Gives up a body whose missing bytes nobody will send any more."""
        self._watched = False
        if not self._paused or self._source is None or self.complete:
            return
        remains = self._source.remains()
        if remains is not None and (remains < self._left if self._chunks is None else not remains):
            self._source.abort()
            return
        self._watch()

    def when_broken(self, told: Told | None) -> None:
        """Has `told` called where nothing more comes of a body that is not complete."""
        self._told = told

    def fail(self, error: ClientError | ClientGone) -> None:
        """Nothing more comes; whoever reads is told."""
        if not self.complete and self.error is None:
            self.error = error
            # What is broken is not read on.
            self._pieces.clear()
            self._share.hold(0)
            self._wake()
            if self._told is not None:
                self._told(error)

    def throw_away(self) -> None:
        """Nobody reads it: what still comes is dropped."""
        self._thrown_away = True
        self._pieces.clear()
        self._share.hold(0)
        self._flow()

    def leave(self) -> None:
        """Its connection is gone."""
        self.fail(ClientGone())
        self._source = None

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        while True:
            # A body that is known to be broken is not begun with.
            if self.error is not None:
                raise self.error
            if self._pieces:
                piece = self._pieces.popleft()
                self._share.hold(self._share.held - len(piece) - OVERHEAD)
                if self._share.held <= self._limits.buffer:
                    self._flow()
                return piece
            if self.complete:
                raise StopAsyncIteration
            if self.awaited:
                self.awaited = False
                if not self._received and self._source is not None:
                    self._source.proceed()
            await self._wait()

    async def _wait(self) -> None:
        """Until something comes. All waits together may take `body_timeout`, and longer as the body grows."""
        patience = self._limits.body_timeout
        if self._limits.body_rate:
            patience = min(patience, patience + self._received / self._limits.body_rate - self._waited)
        self._waiter = self._loop.create_future()
        since = self._loop.time()
        timer = self._loop.call_later(max(patience, 0.0), self.fail, _stopped())
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._waited += self._loop.time() - since

    def _take(self, piece: bytes) -> None:
        self._received += len(piece)
        limit = self._limits.body
        if limit is not None and self._received > limit:
            self.complete = False
            self.fail(too_large())
        elif piece and not self._thrown_away:
            self._pieces.append(piece)
            self._share.hold(self._share.held + len(piece) + OVERHEAD)

    def _flow(self) -> None:
        if self._paused:
            self._paused = False
            if self._source is not None:
                self._source.resume()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def body_of(source: Source, head: RequestHead, limits: LimitSettings) -> RequestBody:
    """The body that a head announces. Raises ClientError for one that is too large."""
    if limits.body is not None and (head.length or 0) > limits.body:
        raise too_large()
    awaited = head.version == "1.1" and (head.headers.get("expect") or "").lower() == "100-continue"
    return RequestBody(source, head.length, limits, awaited=awaited)


def sent_body(source: Source, content: bytes, limits: LimitSettings) -> RequestBody:
    """A body that is upstream's already: all of it has come, and nobody reads it."""
    body = RequestBody(source, len(content), limits, awaited=False)
    body.feed(content)
    body.throw_away()
    return body


def too_large() -> ClientError:
    """The body is over the limit that the settings give."""
    return ClientError(413, "too-large", "The body is larger than this service takes.")


def _stopped() -> ClientError:
    return ClientError(408, "request-timeout", "The body stopped coming.")
