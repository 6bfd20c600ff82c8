"""The walk without upstream: what would be answered from the cache now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from proxy.cache import UserCache
from proxy.core.errors import ClientError, InvalidToken, UpstreamError, UpstreamRefused
from proxy.core.headers import Headers
from proxy.core.model import Absent, Looked, Outcome, Ref, Reply, Request, Ticket, XCache
from proxy.leases import Leases, Loaded, Own, Shared
from proxy.steps.exchange import Exchange

Walk = Callable[[Exchange], Awaitable[Reply]]

# What makes an answer a part, or a word that the client has it: a rehearsal wants all of it.
_CONDITIONS = (
    *(b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since"),
    *(b"range", b"cache-control", b"pragma"),
)


@dataclass(frozen=True, slots=True)
class Would:
    """The answer that would be given. `whole` is False for a refusal, of which only the status counts."""

    status: int
    body: bytes
    whole: bool = True
    coding: str = "identity"


class _Closed:
    """An upstream that nobody asks."""

    async def send(self, request: Request) -> Reply:  # noqa: ARG002 - a port
        """See Upstream."""
        raise UpstreamRefused("a rehearsal asks nobody", executed=False)


class _Alone(Leases):
    """The leases, of somebody who neither waits for others nor makes them wait."""

    def under_way(self, ref: Ref) -> bool:  # noqa: ARG002 - nothing is refreshed behind a rehearsal
        """Always: so nobody starts a second fill."""
        return True

    async def fill_once(
        self,
        ref: Ref,
        seen: int,  # noqa: ARG002 - nobody is waited for
        loader: Callable[[Ticket], Awaitable[Loaded[Any]]],
    ) -> Shared | Own[Any]:
        """Runs `loader` for this caller."""
        return await self.alone(ref, loader)


class Solo(UserCache):
    """A cache's other face, without queues. `blind`: many users at once are never found."""

    def __init__(self, cache: UserCache, *, blind: bool = False) -> None:
        self.__dict__.update(cache.__dict__)
        self.leases = _Alone.__new__(_Alone)
        self.leases.__dict__.update(cache.leases.__dict__)
        self._blind = blind

    async def get_many(self, refs: Iterable[Ref]) -> list[Looked]:
        """See UserCache. A part of a batch would be asked for by another URL than the client's."""
        return [Absent() for _ in refs] if self._blind else await super().get_many(refs)


def plain(request: Request) -> Request:
    """The request as a GET for all of what is there."""
    headers = Headers(request.headers.without(_CONDITIONS).raw)
    return replace(request, method="GET", headers=headers, interim=None)


async def rehearse(x: Exchange, walk: Walk) -> Would | None:
    """What `walk` would answer without upstream; None where upstream would be asked."""
    services = replace(x.services, upstream=_Closed(), cache=Solo(x.services.cache))
    outcome = Outcome(route=x.outcome.route, method="GET")
    try:
        reply = await walk(replace(x, services=services, request=plain(x.request), outcome=outcome))
    except InvalidToken as error:
        return Would(error.status, b"", whole=False)
    except (ClientError, UpstreamError):
        return None
    if outcome.x_cache is not XCache.HIT or not isinstance(reply.body, bytes):
        return None
    return Would(reply.status, reply.body, coding=coding_of(reply))


def coding_of(reply: Reply) -> str:
    """How the body is coded, in lower case."""
    return (Headers(reply.headers).get("content-encoding") or "identity").strip().lower()
