"""Users whose tokens of before some moment are asked of upstream: what this process and Redis know of them.

The word is a key of its own, `user:revoke:{id}`, that lives until every token of before is too old to be
good. Like the word that a token was logged out it is written before the write is forwarded, provisionally,
and made definite before the write's fence is lifted and its eviction makes every replica forget what it knew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from proxy.core.ports import Membership
from proxy.store.scripts import WRONG_TYPE, Command, Script

if TYPE_CHECKING:
    from proxy.store.link import Link

LIMIT = 10_000
CHUNK = 200  # words in one round trip
# Stands for all users, where nobody knows whose tokens were made bad.
EVERYBODY = ""
_MS = 1000
_BEFORE, _UNDER_WAY = b"before", b"w:"

_CUTOFF = Script("cutoff")

# A user, the moment, until when it is to be known, the name of the write, and whether that has happened.
Word = tuple[str, float, float, str, bool]


def cutoff_key(user_id: str) -> str:
    """Where the word about a user is kept."""
    return f"user:revoke:{user_id}"


@dataclass(slots=True)
class _Known:
    """`before` is wall-clock seconds, 0 while no write has happened; `writes` are those under way."""

    until: float
    before: float = 0.0
    told: bool = False
    writes: dict[str, float] = field(default_factory=dict)


class Cutoffs:
    """What this process knows. At most `limit`; what is forgotten beyond that becomes everybody's."""

    def __init__(self, limit: int = LIMIT, *, now: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._now = now
        self._known: dict[str, _Known] = {}

    def __repr__(self) -> str:
        return f"Cutoffs({len(self._known)})"

    def add(
        self, user_id: str, before: float, until: float, name: str, *, sure: bool, told: bool = False
    ) -> None:
        """Tokens made up to `before` are asked of upstream; the word is kept until `until`.

        `told`: Redis knows it.
        """
        held = self._known.setdefault(user_id, _Known(until, told=told))
        held.until, held.told = max(held.until, until), held.told and told
        if sure:
            held.before = max(held.before, before)
            held.writes.pop(name, None)
        else:
            held.writes[name] = before
        if len(self._known) > self._limit:
            self._forget(next(one for one in self._known if one != EVERYBODY))

    def _forget(self, user_id: str) -> None:
        gone = self._known.pop(user_id)
        if not gone.told and gone.until > self._now():
            before = max(gone.before, *gone.writes.values(), 0.0)
            self.add(EVERYBODY, before, gone.until, "", sure=True)

    def undo(self, user_id: str, name: str) -> None:
        """The write `name` changed nothing."""
        held = self._known.get(user_id)
        if held is None:
            return
        held.writes.pop(name, None)
        if not held.before and not held.writes:
            del self._known[user_id]

    def before(self, user_id: str) -> float:
        """Tokens of that user made up to then are not good by themselves; 0 where all are."""
        latest = 0.0
        for one in (user_id, EVERYBODY) if self._known else ():
            held = self._known.get(one)
            if held is None:
                continue
            if held.until <= self._now():
                del self._known[one]
            else:
                latest = max(latest, held.before)
        return latest

    def told(self, user_id: str, before: float) -> None:
        """Redis knows of the write at that moment; a later one may be on its way there."""
        held = self._known.get(user_id)
        if held is not None and held.before <= before:
            held.told = True

    def missed(self, user_id: str) -> None:
        """Redis could not be told."""
        if user_id in self._known:
            self._known[user_id].told = False

    def untold(self) -> None:
        """Another server answers, which may know none of them."""
        for held in self._known.values():
            held.told = False

    async def replay(self, redis: RedisCutoffs) -> None:
        """Tells Redis all that it does not know yet. Raises StoreError."""
        now = self._now()
        owed = [(user_id, one) for user_id, one in self._known.items() if not one.told and one.until > now]
        for start in range(0, len(owed), CHUNK):
            part = owed[start : start + CHUNK]
            words: list[Word] = []
            for user_id, held in part:
                # Before it is told: a write that comes meanwhile is to be told as well.
                held.told = True
                words += [(user_id, at, held.until, name, False) for name, at in held.writes.items()]
                words += [(user_id, held.before, held.until, "", True)] if held.before else []
            try:
                await redis.tell(*words)
            except BaseException:
                for _, held in part:
                    held.told = False
                raise


class RedisCutoffs:
    """The same words of all replicas, in Redis. Raises StoreError."""

    def __init__(self, link: Link, feed: Membership | None, *, now: Callable[[], float] = time.time) -> None:
        self._link = link
        self._now = now
        self._word = None if feed is None else feed.word

    async def tell(self, *words: Word) -> None:
        """All of these; the sure ones to the other replicas too, in case that Redis loses them."""
        now = self._now()
        calls = [_told(*word, now) for word in words]
        sure = [(user_id, before, until) for user_id, before, until, _, is_sure in words if is_sure]
        told = [self._word((), sure)] if sure and self._word is not None else []
        async with self._link.bounded():
            await self._link.run(*calls, *told)

    async def restore(self, user_id: str, name: str) -> None:
        """Takes a provisional word back."""
        async with self._link.bounded():
            await self._link.run(("HDEL", cutoff_key(user_id), _UNDER_WAY.decode() + name))


def outdated(issued: float | None, before: float) -> bool:
    """Whether a token made then (None: it does not say) is from before. Times of tokens are whole seconds,
    cut off, so one of the same second counts as well."""
    return before > 0 and (issued is None or issued <= before)


def asking(user_id: str) -> list[Command]:
    """What to ask Redis about a user; `latest` reads the replies."""
    return [("HGETALL", cutoff_key(user_id)), ("HGETALL", cutoff_key(EVERYBODY))]


def latest(replies: Sequence[Any]) -> float:
    """Up to when tokens must have been made not to be good by themselves; infinity where nobody can tell.

    A provisional word counts as well: where no fence stands, its writer died, and the write may be done.
    """
    return max((_time(value) for reply in replies for value in _values(reply)), default=0.0)


def _values(reply: Any) -> Iterable[Any]:
    if isinstance(reply, dict):
        return reply.values()
    return (None,) if reply is WRONG_TYPE else reply[1::2]


def _time(value: Any) -> float:
    try:
        return int(value) / _MS
    except (TypeError, ValueError):
        return inf


def _told(user_id: str, before: float, until: float, name: str, sure: bool, now: float) -> Command:
    millis = str(max(1, int((until - now) * _MS)))
    return _CUTOFF.call(cutoff_key(user_id), name, str(int(before * _MS)), millis, "1" if sure else "0")
