"""A write passes through, and what it made stale is gone before the writer gets its answer (design §7.3).

A fence stands around the users from before upstream hears of the write until its outcome is known. Success
evicts; 4xx changed nothing; a failure whose outcome nobody knows (timeout, reset, 5xx, client gone) counts
as success. A client that goes away does not stop a write that upstream may have begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from msgspec.structs import replace

from proxy.core.admission import parse
from proxy.core.errors import StoreError, StoresAway, UpstreamError, UpstreamTimeout
from proxy.core.model import Batch, Fence, Reason, Reply
from proxy.core.rolloutsettings import Mode
from proxy.core.settings import Access, Lookup, Write
from proxy.core.tokens import Identity, Rejected
from proxy.steps import body as bodies
from proxy.steps.callers import identify, token_state
from proxy.steps.changed import Changed, expected, seen
from proxy.steps.exchange import Exchange, to_its_end
from proxy.steps.revoke import FORM, Revocation


async def write(x: Exchange, action: Write | Lookup) -> Reply:
    """Forwards the write and evicts by its outcome. A `Lookup` means: implied by the path of a look-up."""
    x.outcome.reason = Reason.WRITE
    return await to_its_end(x.services, _write(x, action))


async def _write(x: Exchange, action: Write | Lookup) -> Reply:
    x, tee = await _with_body(x)
    changed = await expected(x, action, tee)
    everything = isinstance(action, Write) and action.all
    revocation = Revocation(x, action, tee)
    changed.ids.update(token.user_id for token in revocation.tokens)
    fence = await _fenced(x, changed.around(everything=everything))
    # What the fence stands around must be evicted or lifted on every way out from here.
    try:
        await revocation.begin(fence)
        reply = await x.forward()
    except UpstreamError as error:
        await _end(x, action, changed, tee, fence, revocation, failure=error)
        raise
    except BaseException:
        await _end(x, action, changed, tee, fence, revocation, failure=_UNKNOWN)
        raise
    if 400 <= reply.status < 500:
        await revocation.undone(fence)
        await x.services.cache.settle(fence, None)
        return reply
    body: bytes | bodies.Rest = b""
    try:
        body = await bodies.read(reply, x.services.settings.user.max_size)
    finally:
        answer = parse(body) if isinstance(body, bytes) and body else None
        unsure = reply.status >= 500
        await _end(x, action, changed, tee, fence, revocation, answer=answer, unsure=unsure)
    return replace(reply, body=body)


# The task was cancelled, or something broke that has no name: upstream may be at work.
_UNKNOWN = UpstreamTimeout("The outcome is unknown.", executed=True)


async def _with_body(x: Exchange) -> tuple[Exchange, bodies.Tee | None]:
    """The exchange with a body that is kept as it passes; a small JSON one is read now, for the keys in it,
    and a form, for the token.

    Keys that the write is about to give away must be fenced before it is forwarded.
    """
    request = x.request
    if request.body is None:
        return x, None
    tee = bodies.Tee(request.body, x.services.settings.user.max_size)
    body: AsyncIterator[bytes] = tee
    length = request.headers.get("content-length") or ""
    content = (request.headers.get("content-type") or "").lower()
    # JSON of unknown length may be a stream, whose sender waits for an answer.
    if FORM in content or ("json" in content and length.isdecimal()):
        body = await tee.taken(int(length) if length.isdecimal() else 0)
    return replace(x, request=replace(request, body=body)), tee


async def _fenced(x: Exchange, batch: Batch) -> Fence:
    """The fence around what the write is known to change, before upstream hears of it.

    Raises StoresAway where the settings refuse writes that the shared store can't be told of.
    """
    identity = identify(x)
    # A URL that names a user by a route that asks for a token; a collection that is posted to names nobody.
    asks = x.route.access is Access.TOKEN and bool(x.values)
    revoked = isinstance(identity, Identity) and await token_state(x, identity) is Reason.TOKEN_REVOKED
    if revoked or isinstance(identity, Rejected) or (asks and identity is None):
        # Nobody cools the cache without a good token. Should the write succeed, it still evicts.
        batch = Batch()
    began = perf_counter()
    try:
        fence = await x.services.cache.fence(batch)
    except StoreError:
        # What is off forwards in any case; the eviction that could not be delivered is kept for later.
        if x.services.rollout.mode is not Mode.OFF:
            raise StoresAway from None
        return Fence("", Batch())
    if batch != Batch():
        x.outcome.fence_seconds = perf_counter() - began
    return fence


async def _end(
    x: Exchange,
    action: Write | Lookup,
    changed: Changed,
    tee: bodies.Tee | None,
    fence: Fence,
    revocation: Revocation,
    *,
    failure: UpstreamError | None = None,
    answer: Any = None,
    unsure: bool = False,
) -> None:
    """Evicts after a write that succeeded or may have; a write that upstream never saw changed nothing."""
    if failure is not None and not failure.executed:
        await revocation.undone(fence)
        await x.services.cache.settle(fence, None)
        return
    await seen(x, action, changed, tee, answer)
    # Whom only the answer would have told, a write of unknown outcome may have changed all the same.
    untold = changed.unnamed and (unsure or failure is not None)
    everything = (isinstance(action, Write) and action.all) or untold or not changed.known
    # Upstream may still be at work on what it did not answer in time.
    linger = x.services.settings.upstream.until_head if isinstance(failure, UpstreamTimeout) else 0.0
    named = changed.known and not (isinstance(action, Write) and action.all)
    await revocation.happened(fence, changed.ids, known=named, linger=linger)
    evicted = await x.services.cache.settle(fence, changed.batch(everything=everything), linger=linger)
    x.outcome.evicted, x.outcome.everything = evicted, everything
    x.outcome.evicted_ids = tuple(sorted(changed.ids)[:5])
