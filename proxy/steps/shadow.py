"""Shadow mode: upstream answers each request, once, and what the cache would have said is compared with it.

The client gets upstream's answer untouched, secret-looking fields included. Each request costs upstream what
it would cost without the proxy: where the cache has nothing, the client's own request is the fill.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.checks import Verdict
from proxy.core.admission import clean
from proxy.core.comparing import difference
from proxy.core.errors import ClientError, UpstreamError
from proxy.core.forwarding import returned
from proxy.core.headers import Headers
from proxy.core.model import Entry, Outcome, Reason, Reply, Request
from proxy.core.ports import Upstream
from proxy.core.replies import from_entry
from proxy.core.settings import Resource, SecretsRule
from proxy.core.validation import CONDITIONS
from proxy.steps import body as bodies
from proxy.steps.exchange import Exchange
from proxy.steps.rehearsal import Solo, Walk, Would, coding_of, rehearse


async def shadow(x: Exchange, walk: Walk, unkeyed: Reason | None) -> Reply:
    """Upstream's answer; `walk` is what would be done in its place. `unkeyed`: nothing is compared."""
    x.outcome.reason = Reason.SHADOW
    if unkeyed is not None:
        return await x.forward()
    would = await rehearse(x, walk)
    if would is None:
        x.services.checks.shadowed(x.route.name, Verdict.MISS)
        fills = x.request.method == "GET" and "range" not in x.request.headers
        return await (_filled(x, walk) if fills else x.forward())
    reply = await x.forward()
    return await _compared(x, walk, would, reply)


async def _compared(x: Exchange, walk: Walk, would: Would, reply: Reply) -> Reply:
    limit = limit_of(x)
    body = await bodies.read(reply, limit) if x.request.method == "GET" else b""
    verdict, fields = Verdict.UNCOMPARED, tuple[str, ...]()
    if isinstance(body, bytes):
        verdict, fields = _verdict(x, would, reply, body, limit)
    if verdict is Verdict.DISAGREE:
        # Behind the answer: is it a write on its way? Fenced and evicted users would not be served now.
        x.services.cache.in_background(_explained(x, walk, would, fields))
    else:
        x.services.checks.shadowed(x.route.name, verdict)
    return reply if x.request.method != "GET" else replace(reply, body=body)


def _verdict(
    x: Exchange, would: Would, reply: Reply, body: bytes, limit: int
) -> tuple[Verdict, tuple[str, ...]]:
    if reply.status in (206, 304, 429) or reply.status >= 500:
        return Verdict.UNCOMPARED, ()
    if would.status != reply.status or x.request.method != "GET" or not would.whole:
        differ = would.status != reply.status
        return (Verdict.DISAGREE, ("status",)) if differ else (Verdict.AGREE, ())
    fields = differing(x, would, reply, body, limit)
    if fields is None:
        return Verdict.UNCOMPARED, ()
    return (Verdict.DISAGREE if fields else Verdict.AGREE), fields


async def _explained(x: Exchange, walk: Walk, would: Would, fields: tuple[str, ...]) -> None:
    again = await rehearse(x, walk)
    verdict = Verdict.DISAGREE if again == would else Verdict.EXPLAINED
    x.services.checks.shadowed(x.route.name, verdict, fields if verdict is Verdict.DISAGREE else ())


def limit_of(x: Exchange) -> int:
    """The largest answer that is looked into."""
    action = x.route.action
    return action.max_size if isinstance(action, Resource) else x.services.settings.user.max_size


def differing(x: Exchange, would: Would, reply: Reply, body: bytes, limit: int) -> tuple[str, ...] | None:
    """What differs between the two; None where upstream's coding is not understood."""
    if (would.status, would.coding, would.body) == (reply.status, coding_of(reply), body):
        return ()
    ours, theirs = decoded(would.body, would.coding, limit), stripped(x, reply, body, limit)
    if ours is None or theirs is None:
        return None
    return difference((would.status, ours), (reply.status, theirs), x.services.settings.truth.ignore)


def decoded(body: bytes, coding: str, limit: int) -> bytes | None:
    """The body without its coding; None where that is not understood."""
    if coding not in ("gzip", "x-gzip"):
        return body if coding == "identity" else None
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpack.decompress(body, limit)
    except zlib.error:
        return None
    return None if unpack.unconsumed_tail or not unpack.eof else body


def stripped(x: Exchange, reply: Reply, body: bytes, limit: int) -> bytes | None:
    """Upstream's body as the cache would hold it; None where its coding is not understood."""
    plain = decoded(body, coding_of(reply), limit)
    if plain is None:
        return None
    headers = Headers(reply.headers).without((b"content-encoding",))
    if isinstance(x.route.action, Resource) and "json" not in (headers.get("content-type") or "").lower():
        return plain
    return clean(x.services.redactor, SecretsRule.STRIP, replace(reply, headers=headers.raw), plain).body


@dataclass(slots=True)
class _Side:
    """Upstream, remembering the answer to the client's own request as it comes by.

    It is asked for all of it, unless the client has conditions: nobody is answered from a stored copy.
    """

    upstream: Upstream
    request: Request
    reply: Reply | None = None
    chunks: list[bytes] = field(default_factory=list)

    async def send(self, request: Request) -> Reply:
        """See Upstream."""
        if self.reply is not None or request.target != self.request.target:
            return await self.upstream.send(request)
        own = self.request.headers.raw
        asked = [line for line in request.headers.raw if line[0].lower() not in CONDITIONS or line in own]
        reply = await self.upstream.send(replace(request, headers=Headers(asked)))
        self.reply = reply
        return replace(reply, body=self._noted(reply.body))

    async def _noted(self, body: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if isinstance(body, bytes):
            self.chunks.append(body)
            yield body
            return
        try:
            async for chunk in body:
                self.chunks.append(chunk)
                yield chunk
        finally:
            await bodies.close(body)


async def _filled(x: Exchange, walk: Walk) -> Reply:
    """Upstream's answer to the client, stored as the walk would have stored it."""
    side = _Side(x.services.upstream, x.request)
    outcome = Outcome(route=x.outcome.route, method=x.request.method)
    services = replace(x.services, upstream=side, cache=Solo(x.services.cache, blind=True))
    ours: Reply | None = None
    try:
        ours = await walk(replace(x, services=services, outcome=outcome))
    except (ClientError, UpstreamError):
        if outcome.upstream_failed:
            x.outcome.upstream_failed, x.outcome.upstream_error = True, outcome.upstream_error
            x.outcome.upstream_seconds = outcome.upstream_seconds
            raise
    x.outcome.upstream_seconds, x.outcome.upstream_status = outcome.upstream_seconds, outcome.upstream_status
    x.outcome.stored, x.outcome.skipped = outcome.stored, outcome.skipped
    if side.reply is None or ours is None:
        # Filled meanwhile by another, or refused by the walk: upstream has not heard of this request.
        return await x.forward()
    headers = returned(side.reply.headers)
    if not isinstance(ours.body, bytes):
        # Too large to be looked into: streamed on as it comes.
        return replace(side.reply, headers=headers, body=ours.body)
    body = b"".join(side.chunks)
    if side.reply.status == 304:
        return replace(side.reply, headers=headers, body=body)
    entry = Entry(
        user_id=None, status=side.reply.status, headers=headers[:-1], body=body, stored=0, expires=0, dead=0
    )
    # A client that has it already gets 304, as from upstream: the fill was made without its conditions.
    told = from_entry(x.request, entry, None)
    return told if told.status == 304 else replace(side.reply, headers=headers, body=body)
