"""Whom a write changes: what its route, its body and its answer say of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.core.admission import parse
from proxy.core.claims import claimed_subject
from proxy.core.issuers import blocks_of
from proxy.core.keys import aliases_in, dig, key_values, user_id
from proxy.core.model import Batch, Found, Reason, Ref
from proxy.core.revoking import Revoke
from proxy.core.settings import Lookup, Target, UserModel, Write
from proxy.core.tokens import Identity
from proxy.steps import body as bodies
from proxy.steps.callers import carried, identify, opaque_names
from proxy.steps.exchange import Exchange
from proxy.steps.revoke import named_tokens
from proxy.steps.whose import asked, lookups

# Upstream is asked for so many users of one write at most.
_MOST_ASKED = 4


@dataclass(slots=True)
class Changed:
    """The users a write may have changed. `known` once at least one of them has a name that leads to it.

    `unnamed` where there may be others, whom nobody can name before the answer.
    """

    ids: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    known: bool = False
    unnamed: bool = False

    def around(self, *, everything: bool) -> Batch:
        """What a fence has to stand around."""
        return Batch(*self._names, everything, self.unnamed)

    def batch(self, *, everything: bool) -> Batch:
        """All of it, for an eviction."""
        return Batch(*self._names, everything)

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        return tuple(sorted(self.ids)), tuple(sorted(self.aliases))

    def add(self, user: str) -> None:
        """That one, for certain."""
        self.ids.add(user)
        self.known = True

    def take_in(self, model: UserModel, document: Any) -> None:
        """Users in a JSON request or answer: their ids, and the keys that they have from now on."""
        for user in document if isinstance(document, list) else [document]:
            if isinstance(user, dict):
                whose = user_id(dig(user, model.id))
                if whose is not None:
                    self.add(whose)
                self.aliases.update(aliases_in(model, user))


async def expected(x: Exchange, action: Write | Lookup, tee: bodies.Tee | None) -> Changed:
    """Whom the write is going to change, as far as that can be known before it is forwarded."""
    changed = Changed()
    request = sent(tee)
    left = _MOST_ASKED
    for target in targets(x, action):
        values = _before(x, target, request)
        # Without a value only the answer will tell.
        changed.unnamed = changed.unnamed or not values
        for value in values:
            if await _proven(x, changed, target.key, value):
                continue
            owner = await asked(x, target.key, value) if left > 0 else None
            left -= 1
            if owner is not None:
                changed.add(owner)
            else:
                changed.unnamed = True
                await _note(x, changed, target.key, value)
    changed.take_in(x.services.settings.user, request)
    if isinstance(action, Write) and action.revoke in (Revoke.TOKEN, Revoke.USER):
        # A logout changes no user, so one that nobody can be named for drops nobody.
        changed.known = changed.known or not action.targets
        if x.services.settings.tokens is None:
            await _note_opaque(x, changed, tee)
    return changed


async def seen(
    x: Exchange, action: Write | Lookup, changed: Changed, tee: bodies.Tee | None, answer: Any
) -> None:
    """Adds whom the whole request and the answer name."""
    request = sent(tee)
    changed.take_in(x.services.settings.user, request)
    for target in targets(x, action):
        document = {"request": request, "response": answer}.get(target.place)
        if document is not None:
            for value in _texts(dig(document, target.path)):
                await _note(x, changed, target.key, value)
    changed.take_in(x.services.settings.user, answer)


def targets(x: Exchange, action: Write | Lookup) -> tuple[Target, ...]:
    """What the route says of the users that it changes."""
    if isinstance(action, Write):
        return action.targets
    queried = [getattr(part, "name", "") for _, part in x.route.template.query]
    return (Target(key=action.by, place="query" if action.var in queried else "path", path=(action.var,)),)


def sent(tee: bodies.Tee | None) -> Any:
    """The request's JSON, if it is one and has passed."""
    copy = None if tee is None else tee.copy
    return parse(copy) if copy else None


def _before(x: Exchange, target: Target, request: Any) -> list[str]:
    """The values that are known before there is an answer."""
    match target.place:
        case "token":
            return _by_token(x)
        case "request":
            return [] if request is None else _texts(dig(request, target.path))
        case "path" | "query":
            value = x.values.get(target.path[0], ())
            return [value] if isinstance(value, str) else list(value)
        case _:
            return []


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


async def _proven(x: Exchange, changed: Changed, key: str, value: str) -> bool:
    """Notes the user that this names, if that is sure: an id, or an alias that a stored user has."""
    kept = key_values(x.services.settings.user, key, value)
    if key == "id":
        for one in kept:
            changed.add(one)
        return bool(kept)
    changed.aliases.update((key, one) for one in kept)
    views = dict.fromkeys(look.view for _, look in lookups(x, key))
    for ref in (Ref(key, one, view) for one in kept for view in views):
        looked = await x.services.cache.get(ref)
        if isinstance(looked, Found) and looked.entry.user_id is not None:
            changed.add(looked.entry.user_id)
            return True
    return False


async def _note(x: Exchange, changed: Changed, key: str, value: str) -> None:
    """Notes whom a value leads to, unproven."""
    for kept in key_values(x.services.settings.user, key, value):
        if key != "id":
            changed.aliases.add((key, kept))
        owner = await x.services.cache.resolve(key, kept)
        if owner is not None:
            changed.add(owner)


async def _note_opaque(x: Exchange, changed: Changed, tee: bodies.Tee | None) -> None:
    """What is known of the opaque tokens goes, and the users whose they are."""
    for token in (carried(x), *named_tokens(x, tee)):
        names = opaque_names(x, token)
        for name in [] if isinstance(names, Reason) else names:
            changed.aliases.add(name)
            owner = await x.services.cache.resolve(*name)
            changed.ids.update([] if owner is None else [owner])


def _texts(value: object) -> list[str]:
    found: Iterable[object] = value if isinstance(value, list) else [value]
    return [text for one in found if (text := user_id(one)) is not None]
