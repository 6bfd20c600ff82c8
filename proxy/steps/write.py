"""A write passes through, and what it made stale is gone before the writer gets its answer (design §7.3).

A fence stands around the users from before upstream hears of the write until its outcome is known. Success
evicts; 4xx changed nothing; a failure whose outcome nobody knows (timeout, reset, 5xx, client gone) counts
as success. A client that goes away does not stop a write that upstream may have begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from msgspec.structs import replace

from proxy.core.admission import parse
from proxy.core.claims import claimed_subject
from proxy.core.errors import StoreError, StoresAway, UpstreamError, UpstreamTimeout
from proxy.core.issuers import blocks_of
from proxy.core.keys import aliases_in, dig, key_values, user_id
from proxy.core.model import Batch, Fence, Reason, Reply
from proxy.core.revoking import Revoke
from proxy.core.rolloutsettings import Mode
from proxy.core.settings import Access, Lookup, Target, Write
from proxy.core.tokens import Identity, Rejected
from proxy.steps import body as bodies
from proxy.steps.callers import carried, identify, opaque_name, token_state
from proxy.steps.exchange import Exchange, to_its_end
from proxy.steps.revoke import FORM, Revocation
from proxy.steps.whose import asked


@dataclass(slots=True)
class _Changed:
    """The users a write may have changed. `known` once at least one of them has a name that leads to it."""

    ids: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    known: bool = False

    def batch(self, *, everything: bool) -> Batch:
        """All of it, for a fence or an eviction."""
        return Batch(tuple(sorted(self.ids)), tuple(sorted(self.aliases)), everything)


async def write(x: Exchange, action: Write | Lookup) -> Reply:
    """Forwards the write and evicts by its outcome. A `Lookup` means: implied by the path of a look-up."""
    x.outcome.reason = Reason.WRITE
    return await to_its_end(x.services, _write(x, action))


async def _write(x: Exchange, action: Write | Lookup) -> Reply:
    x, tee = await _with_body(x)
    targets = _targets(x, action)
    changed = _Changed()
    for target in targets:
        await _note(x, changed, target.key, _from_request_line(x, target))
    if isinstance(action, Lookup) and changed.aliases and not changed.known:
        changed.ids |= await asked(x)
    _take_in_all(x, changed, tee)
    everything = isinstance(action, Write) and action.all
    revocation = Revocation(x, action, tee)
    if isinstance(action, Write) and action.revoke in (Revoke.TOKEN, Revoke.USER):
        # A logout changes no user, so one that nobody can be named for drops nobody.
        changed.known = changed.known or not action.targets
        changed.ids.update([] if revocation.token is None else [revocation.token.user_id])
        if x.services.settings.tokens is None:
            await _note_opaque(x, changed)
    fence = await _fenced(x, changed.batch(everything=everything))
    # What the fence stands around must be evicted or lifted on every way out from here.
    try:
        await revocation.begin(fence)
        reply = await x.forward()
    except UpstreamError as error:
        await _end(x, action, changed, targets, tee, fence, revocation, failure=error)
        raise
    except BaseException:
        await _end(x, action, changed, targets, tee, fence, revocation, failure=_UNKNOWN)
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
        await _end(x, action, changed, targets, tee, fence, revocation, answer=answer)
    return replace(reply, body=body)


# The task was cancelled, or something broke that has no name: upstream may be at work.
_UNKNOWN = UpstreamTimeout("The outcome is unknown.", executed=True)


async def _with_body(x: Exchange) -> tuple[Exchange, bodies.Tee | None]:
    """The exchange with a body that is kept as it passes; a small JSON one is read now, for the keys in it.

    Keys that the write is about to give away must be fenced before it is forwarded.
    """
    request = x.request
    if request.body is None:
        return x, None
    tee = bodies.Tee(request.body, x.services.settings.user.max_size)
    body: AsyncIterator[bytes] = tee
    length = request.headers.get("content-length") or ""
    if (
        length.isdecimal()
        and int(length) <= tee.limit
        and any(kind in (request.headers.get("content-type") or "").lower() for kind in ("json", FORM))
    ):
        body = bodies.given([chunk async for chunk in tee])
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
    changed: _Changed,
    targets: tuple[Target, ...],
    tee: bodies.Tee | None,
    fence: Fence,
    revocation: Revocation,
    *,
    failure: UpstreamError | None = None,
    answer: Any = None,
) -> None:
    """Evicts after a write that succeeded or may have; a write that upstream never saw changed nothing."""
    if failure is not None and not failure.executed:
        await revocation.undone(fence)
        await x.services.cache.settle(fence, None)
        return
    request = _take_in_all(x, changed, tee)
    for target in targets:
        document = {"request": request, "response": answer}.get(target.place)
        if document is not None:
            await _note(x, changed, target.key, _texts(dig(document, target.path)))
    for user in answer if isinstance(answer, list) else [answer]:
        _take_in(x, changed, user)
    everything = (isinstance(action, Write) and action.all) or not changed.known
    # Upstream may still be at work on what it did not answer in time.
    linger = x.services.settings.upstream.until_head if isinstance(failure, UpstreamTimeout) else 0.0
    named = changed.known and not (isinstance(action, Write) and action.all)
    await revocation.happened(fence, changed.ids, known=named, linger=linger)
    evicted = await x.services.cache.settle(fence, changed.batch(everything=everything), linger=linger)
    x.outcome.evicted, x.outcome.everything = evicted, everything
    x.outcome.evicted_ids = tuple(sorted(changed.ids)[:5])


def _take_in_all(x: Exchange, changed: _Changed, tee: bodies.Tee | None) -> Any:
    """The request's JSON, if it is one and has passed; its users are noted."""
    copy = None if tee is None else tee.copy
    request = parse(copy) if copy else None
    for user in request if isinstance(request, list) else [request]:
        _take_in(x, changed, user)
    return request


def _targets(x: Exchange, action: Write | Lookup) -> tuple[Target, ...]:
    if isinstance(action, Write):
        return action.targets
    place = "query" if any(name == action.var for name in _query_names(x)) else "path"
    return (Target(key=action.by, place=place, path=(action.var,)),)


def _query_names(x: Exchange) -> list[str]:
    return [getattr(part, "name", "") for _, part in x.route.template.query]


def _from_request_line(x: Exchange, target: Target) -> list[str]:
    if target.place == "token":
        return _by_token(x)
    if target.place not in ("path", "query"):
        return []
    value = x.values.get(target.path[0], ())
    return [value] if isinstance(value, str) else list(value)


def _by_token(x: Exchange) -> list[str]:
    identity = identify(x)
    if isinstance(identity, Identity):
        return [identity.user_id]
    # Not proven here, so upstream judges it: a write that it refuses evicts nobody, and one that it accepts
    # need not drop everybody.
    tokens = x.services.settings.tokens
    # Each issuer may name its users by another claim; whose word it is, nobody knows here.
    paths = dict.fromkeys(one.subject for one in blocks_of(tokens)) if tokens is not None else {}
    claimed = dict.fromkeys(claimed_subject(carried(x), path) for path in paths)
    return [one for one in claimed if one is not None]


async def _note(x: Exchange, changed: _Changed, key: str, values: list[str]) -> None:
    for value in values:
        for kept in key_values(x.services.settings.user, key, value):
            if key != "id":
                changed.aliases.add((key, kept))
            owner = await x.services.cache.resolve(key, kept)
            if owner is not None:
                changed.ids.add(owner)
                changed.known = True


async def _note_opaque(x: Exchange, changed: _Changed) -> None:
    """What is known of the caller's opaque token goes, and the user whose it is."""
    name = opaque_name(x)
    if not isinstance(name, Reason):
        changed.aliases.add(name)
        owner = await x.services.cache.resolve(*name)
        changed.ids.update([] if owner is None else [owner])


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [text for one in found if (text := user_id(one)) is not None]


def _take_in(x: Exchange, changed: _Changed, document: Any) -> None:
    """A JSON user in the request or the answer: its id, and the keys that it has from now on."""
    if not isinstance(document, dict):
        return
    model = x.services.settings.user
    whose = user_id(dig(document, model.id))
    if whose is not None:
        changed.ids.add(whose)
        changed.known = True
    changed.aliases.update(aliases_in(model, document))
