"""An unsafe request on the URL of a resource: what is stored there goes with its success (RFC 9111 §4.4).

It is bracketed like a write on a user: a fence stands around the URL from before upstream hears of it, so
that no fill that began before can be stored after it, on any replica. An error answer changes nothing; where
nobody knows what upstream did (no answer, 502, 503, 504) it counts as success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.core.errors import StoreError, StoresAway, UpstreamError, UpstreamTimeout
from proxy.core.headers import Headers
from proxy.core.model import Batch, Evicted, Outcome, Reply, Request
from proxy.core.resourcekeys import invalidated
from proxy.steps.exchange import Services, to_its_end

_UNKNOWN = frozenset({502, 503, 504})


async def invalidating(
    services: Services, request: Request, outcome: Outcome, walk: Callable[[], Awaitable[Reply]]
) -> Reply:
    """Runs `walk` for an unsafe request and drops what it made stale before the answer is given."""
    return await to_its_end(services, _invalidating(services, request, outcome, walk))


async def _invalidating(
    services: Services, request: Request, outcome: Outcome, walk: Callable[[], Awaitable[Reply]]
) -> Reply:
    cache = services.cache
    batch = _batch(services, request, Headers())
    try:
        fence = await cache.fence(batch)
    except StoreError:
        raise StoresAway from None
    linger = services.settings.upstream.until_head
    try:
        reply = await walk()
    except UpstreamError as error:
        timed_out = isinstance(error, UpstreamTimeout)
        evicted = await cache.settle(
            fence, batch if error.executed else None, linger=linger if timed_out and error.executed else 0.0
        )
        _count(outcome, evicted)
        raise
    except BaseException:
        await cache.settle(fence, batch, linger=linger)
        raise
    changed = reply.status < 400 or reply.status in _UNKNOWN
    evicted = await cache.settle(
        fence, _batch(services, request, Headers(reply.headers)) if changed else None
    )
    _count(outcome, evicted)
    return reply


def _batch(services: Services, request: Request, reply: Headers) -> Batch:
    authority = services.settings.upstream.url.partition("://")[2]
    return Batch(users=tuple(invalidated(request.target, request.headers, reply, authority)))


def _count(outcome: Outcome, evicted: Evicted) -> None:
    outcome.evicted = evicted if outcome.evicted is None else outcome.evicted + evicted
