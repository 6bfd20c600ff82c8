"""A write passes through, and what it made stale is gone before the writer gets its answer.

Success evicts; 4xx changed nothing; a failure whose outcome nobody knows (timeout, reset, 5xx, client gone)
counts as success. A client that goes away does not stop a write that upstream may have begun.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.core.admission import parse
from proxy.core.errors import UpstreamError
from proxy.core.keys import dig, identify_partly, user_id
from proxy.core.model import Reason, Reply
from proxy.core.settings import Lookup, Target, Write
from proxy.core.tokens import Identity
from proxy.steps import body as bodies
from proxy.steps.callers import identify
from proxy.steps.exchange import Exchange
from proxy.steps.lookup import make_ref


@dataclass(slots=True)
class _Changed:
    """The users a write may have changed. `known` once at least one of them has a name that leads to it."""

    ids: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    known: bool = False


async def write(x: Exchange, action: Write | Lookup) -> Reply:
    """Forwards the write and evicts by its outcome. A `Lookup` means: implied by the path of a look-up."""
    x.outcome.reason = Reason.WRITE
    # Shielded: a client that hangs up must not keep the eviction from following the commit.
    task = asyncio.ensure_future(_write(x, action))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        x.services.cache.in_background(_end(task))
        raise


async def _end(task: asyncio.Task[Reply]) -> None:
    try:
        reply = await task
    except UpstreamError:
        return
    await bodies.close(reply.body)


async def _write(x: Exchange, action: Write | Lookup) -> Reply:
    limit = x.services.settings.user.max_size
    changed = _Changed()
    targets = _targets(x, action)
    for target in targets:
        await _note(x, changed, target.key, _from_request_line(x, target))
    tee = None if x.request.body is None else bodies.Tee(x.request.body, limit)
    walk = x if tee is None else replace(x, request=replace(x.request, body=tee))
    try:
        reply = await walk.forward()
    except UpstreamError as error:
        if error.executed:
            await _evict(x, action, changed, targets, tee, None)
        raise
    except asyncio.CancelledError:
        await _evict(x, action, changed, targets, tee, None)
        raise
    if 400 <= reply.status < 500:
        return reply
    try:
        body = await bodies.read(reply, limit)
    except UpstreamError:
        await _evict(x, action, changed, targets, tee, None)
        raise
    if isinstance(body, bodies.Rest):
        await _evict(x, action, changed, targets, tee, None)
        return replace(reply, body=body)
    await _evict(x, action, changed, targets, tee, parse(body))
    return replace(reply, body=body)


def _targets(x: Exchange, action: Write | Lookup) -> tuple[Target, ...]:
    if isinstance(action, Write):
        return action.targets
    place = "query" if any(name == action.var for name in _query_names(x)) else "path"
    return (Target(key=action.by, place=place, path=(action.var,)),)


def _query_names(x: Exchange) -> list[str]:
    return [getattr(part, "name", "") for _, part in x.route.template.query]


def _from_request_line(x: Exchange, target: Target) -> list[str]:
    if target.place == "token":
        identity = identify(x)
        return [identity.user_id] if isinstance(identity, Identity) else []
    if target.place not in ("path", "query"):
        return []
    value = x.values.get(target.path[0], ())
    return [value] if isinstance(value, str) else list(value)


async def _note(x: Exchange, changed: _Changed, key: str, values: list[str]) -> None:
    for value in values:
        ref = make_ref(x.services.settings, key, value, "")
        if ref is None:
            continue
        if ref.key == "id":
            changed.ids.add(ref.value)
            changed.known = True
            continue
        changed.aliases.add((ref.key, ref.value))
        owner = await x.services.cache.resolve(ref.key, ref.value)
        if owner is not None:
            changed.ids.add(owner)
            changed.known = True


async def _evict(
    x: Exchange,
    action: Write | Lookup,
    changed: _Changed,
    targets: tuple[Target, ...],
    tee: bodies.Tee | None,
    answer: Any,
) -> None:
    copy = None if tee is None else tee.copy
    request = parse(copy) if copy else None
    for target in targets:
        document = {"request": request, "response": answer}.get(target.place)
        if document is not None:
            await _note(x, changed, target.key, _texts(dig(document, target.path)))
    for document in (request, answer):
        for user in document if isinstance(document, list) else [document]:
            _take_in(x, changed, user)
    everything = (isinstance(action, Write) and action.all) or not changed.known
    evicted = await x.services.cache.evict(changed.ids, changed.aliases, everything=everything)
    x.outcome.evicted = evicted if x.outcome.evicted is None else x.outcome.evicted + evicted
    x.outcome.everything = everything


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [text for one in found if (text := user_id(one)) is not None]


def _take_in(x: Exchange, changed: _Changed, document: Any) -> None:
    """A JSON user in the request or the answer: its id, and the keys that it has from now on."""
    if not isinstance(document, dict):
        return
    whose, keys = identify_partly(x.services.settings.user, document)
    if whose is not None:
        changed.ids.add(whose)
        changed.known = True
    changed.aliases.update(keys.items())
