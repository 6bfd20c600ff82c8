"""Reading a body up to a limit, and giving it back whole where it goes over.

What is held of it counts with what waits in the connections that it comes from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Reply
from proxy.waiting import LARGEST, Share, Waiting

# Of bodies that come from no connection.
_NOBODYS = Waiting(LARGEST)


class Rest:
    """A body whose beginning was read already: yields that, then what follows.

    To be closed where it is not read to its end.
    """

    def __init__(self, read: list[bytes], body: AsyncIterator[bytes], share: Share | None = None) -> None:
        self._read = read
        self._body = body
        self._share = share

    def __aiter__(self) -> Rest:
        return self

    async def __anext__(self) -> bytes:
        if self._read:
            return self._read.pop(0)
        self._share = None
        return await self._body.__anext__()

    @property
    def trailers(self) -> RawHeaders:
        """The fields behind the last chunk, once it has passed."""
        return trailers_of(self._body)

    def when_broken(self, told: Any) -> None:
        """See RequestBody."""
        when_broken(self._body, told)

    async def aclose(self) -> None:
        """Gives the connection back, or closes it."""
        self._read.clear()
        self._share = None
        await close(self._body)


async def close(body: Any) -> None:
    """Closes a streamed body that will not be read on; complete bytes need nothing."""
    aclose = getattr(body, "aclose", None)
    if aclose is not None:
        await aclose()


def when_broken(body: Any, told: Any) -> None:
    """Of a client's body."""
    method = getattr(body, "when_broken", None)
    if method is not None:
        method(told)


def trailers_of(body: Any) -> RawHeaders:
    """What a body that has been read to its end knows of the lines behind it."""
    lines: RawHeaders = getattr(body, "trailers", ())
    return lines


def _share(body: Any) -> Share:
    return Share(getattr(body, "waiting", _NOBODYS))


async def read(reply: Reply, limit: int) -> bytes | Rest:
    """The whole body if it has at most `limit` bytes, else an iterator over all of it.

    Raises UpstreamError where it breaks off. At most `limit` bytes and one chunk are held.
    """
    body = reply.body
    if isinstance(body, bytes):
        if len(body) <= limit:
            return body
        return Rest([body], given([]))
    length = Headers(reply.headers).get("content-length")
    if length is not None and length.isdecimal() and int(length) > limit:
        return Rest([], body)
    chunks: list[bytes] = []
    share = _share(body)
    async for chunk in body:
        chunks.append(chunk)
        share.hold(share.held + len(chunk))
        if share.held > limit:
            return Rest(chunks, body, share)
    return b"".join(chunks)


async def given(chunks: list[bytes]) -> AsyncIterator[bytes]:
    """A body that is here already."""
    for chunk in chunks:
        yield chunk


class Tee:
    """Passes a request body on while keeping a copy of at most `limit` bytes; `copy` is None beyond it."""

    def __init__(self, body: AsyncIterator[bytes], limit: int) -> None:
        self._body = body
        self.limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._share = _share(body)

    def __aiter__(self) -> Tee:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._body.__anext__()
        self._size += len(chunk)
        if self._size <= self.limit:
            self._chunks.append(chunk)
            self._share.hold(self._size)
        else:
            self._chunks.clear()
            self._share.hold(0)
        return chunk

    async def taken(self, length: int = 0) -> AsyncIterator[bytes]:
        """The same body, of which all is here that the copy has room for; of `length` bytes, where known."""
        taken: list[bytes] = []
        while length <= self.limit >= self._size:
            try:
                taken.append(await anext(self))
            except StopAsyncIteration:
                break
        return Rest(taken, self)

    @property
    def trailers(self) -> RawHeaders:
        """The fields behind the last chunk, once it has passed."""
        return trailers_of(self._body)

    def when_broken(self, told: Any) -> None:
        """See RequestBody."""
        when_broken(self._body, told)

    @property
    def copy(self) -> bytes | None:
        """What has passed so far, or None where it was more than the limit."""
        return b"".join(self._chunks) if self._size <= self.limit else None
