"""Requests that are passed on for one client alone, and the refusal to pass one on."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.core.admission import clean, parse
from proxy.core.errors import ClientError
from proxy.core.introspection import denies
from proxy.core.model import Reason, Ref, Reply, XCache
from proxy.steps import body as bodies
from proxy.steps.callers import vouch
from proxy.steps.exchange import Exchange


def not_cached(x: Exchange) -> ClientError:
    """The refusal of a request that is to be answered from the cache alone (RFC 9111 §5.2.1.7)."""
    x.outcome.refused = True
    return ClientError(
        504, "only-if-cached", "Nothing fresh is stored, and the request forbids to ask upstream."
    )


async def bypass(x: Exchange, reason: Reason) -> Reply:
    """Upstream's answer for this request alone, still without secret-looking fields."""
    x.outcome.x_cache, x.outcome.reason = XCache.BYPASS, reason
    if x.request.method == "HEAD":
        return await x.forward()
    reply = await x.forward(fill=True)
    body = await bodies.read(reply, x.services.settings.user.max_size)
    if isinstance(body, bodies.Rest):
        return replace(reply, body=body)
    verdict = clean(x.services.redactor, x.route.secrets, reply, body)
    x.outcome.taken = verdict.taken
    return replace(reply, headers=verdict.headers, body=verdict.body)


async def vouched_bypass(x: Exchange, note: Ref, ttl: float, why: Reason) -> Reply:
    """A bypass that lets upstream judge a caller nobody knows yet, and notes that it accepted."""
    ticket = await x.services.cache.ticket(note)
    reply = await bypass(x, why)
    # RFC 7662 §2.2: a service may say no with 200.
    no = isinstance(reply.body, bytes) and denies(parse(reply.body))
    accepted = None if no else vouch(x, note, reply.status, ttl)
    if accepted is not None:
        await x.services.cache.fill(note, accepted, ticket)
    return reply
