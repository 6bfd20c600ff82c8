"""Tokens that were logged out: what this process knows of them, and what Redis is told and asked.

A revocation is a key of its own, `user:token:{hash}`, with the life of the token. It is written before the
logout is forwarded, provisionally, and under the fence of the token's user; the eviction that follows makes
every replica forget what it knew of that user, and of the token with it (design §7.3, §7.5).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.core.identity import good_ref
from proxy.core.model import Entry, Reason, Ref
from proxy.core.ports import Membership
from proxy.store import codec
from proxy.store.cutoffs import asking, latest
from proxy.store.scripts import WRONG_TYPE, Command, Script

if TYPE_CHECKING:
    from proxy.store.link import Link

LIMIT = 10_000
CHUNK = 200  # words in one round trip
DAY = 86400.0
REVOKED = b"!r"
_FLOOR_LIFE = "120000"

_REVOKE, _UNLINK, _SETTLE = Script("revoke"), Script("unlink"), Script("settle", "_fences")


@dataclass(slots=True)
class _Known:
    until: float
    name: str
    told: bool


class Revocations:
    """What this process knows: `name` is the logout under way that it stands for, "" for one that is over.

    At most `limit`; beyond that those known longest are forgotten. Where they were only known here, no token
    is called good from here until they would have ended.
    """

    def __init__(self, limit: int = LIMIT, *, now: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._now = now
        self._known: dict[str, _Known] = {}
        self._undone: dict[str, str] = {}
        self._forgot_until = 0.0

    def __repr__(self) -> str:
        return f"Revocations({len(self._known)})"

    def add(self, token: str, until: float, name: str = "", *, told: bool = False) -> None:
        """That token is good no more; a provisional word does not replace a definite one."""
        held = self._known.get(token)
        if held is not None and name:
            return
        self._undone.pop(token, None)
        self._known[token] = _Known(until, name, told)
        if len(self._known) > self._limit:
            oldest = self._known.pop(next(iter(self._known)))
            if not oldest.told:
                self._forgot_until = max(self._forgot_until, oldest.until)

    def undo(self, token: str, name: str, *, told: bool = True) -> None:
        """The logout `name` changed nothing."""
        held = self._known.get(token)
        if held is not None and held.name == name:
            del self._known[token]
        if not told and len(self._undone) < self._limit:
            self._undone[token] = name

    def state(self, token: str) -> Reason | None:
        """None: nothing is known against it; FENCED: its logout is under way."""
        held = self._known.get(token)
        if held is None:
            return Reason.STORE_DOWN if self._now() < self._forgot_until else None
        if held.until <= self._now():
            del self._known[token]
            return None
        return Reason.FENCED if held.name else Reason.TOKEN_REVOKED

    def told(self, token: str) -> None:
        """Redis knows it."""
        held = self._known.get(token)
        if held is not None:
            held.told = True

    def untold(self) -> None:
        """Another server answers, which may know none of them."""
        for held in self._known.values():
            held.told = False

    async def replay(self, redis: RedisRevocations) -> None:
        """Tells Redis all that it does not know yet. Raises StoreError."""
        for token, name in list(self._undone.items()):
            await redis.restore(token, name)
            self._undone.pop(token, None)
        owed = [
            (token, one) for token, one in self._known.items() if not one.told and one.until > self._now()
        ]
        for start in range(0, len(owed), CHUNK):
            part = owed[start : start + CHUNK]
            await redis.revoke(*((token, one.until, one.name) for token, one in part))
            for _, one in part:
                one.told = True


def noted(user_id: str, token: str, until: float, now: float) -> tuple[Ref, Entry]:
    """Where memory notes that nobody has revoked that token, and the note: it goes when its user goes."""
    dead = min(until, now + DAY)
    entry = Entry(user_id=user_id, status=204, stored=now, expires=dead, dead=dead)
    return good_ref(user_id, token), entry


class RedisRevocations:
    """The revocations of all replicas, in Redis. Raises StoreError.

    `feed` tells the other replicas, which keep it in case that Redis loses it.
    """

    def __init__(self, link: Link, feed: Membership | None, *, now: Callable[[], float] = time.time) -> None:
        self._link = link
        self._feed = feed
        self._now = now
        self._word = None if feed is None else feed.word

    async def revoke(self, *words: tuple[str, float, str]) -> None:
        """Each a token, when it ends, and the name of the write: provisionally, or ("") for good."""
        now = self._now()
        calls = [
            _REVOKE.call(
                codec.alias_key("token", token),
                REVOKED + name.encode(),
                str(max(1, int((until - now) * 1000))),
            )
            for token, until, name in words
        ]
        ends = [(token, until) for token, until, name in words if not name]
        told = [self._word(ends)] if ends and self._word is not None else []
        async with self._link.bounded():
            await self._link.run(*calls, *told)

    async def restore(self, token: str, name: str) -> None:
        """Takes a provisional word back."""
        async with self._link.bounded():
            await self._link.run(_UNLINK.call(codec.alias_key("token", token), REVOKED + name.encode()))

    async def state(self, user_id: str, token: str) -> tuple[Reason | None, float]:
        """None: nobody has revoked it, and its user is not fenced; STORE_DOWN: that may have been lost. And
        up to when the user's tokens must have been made not to be good by themselves (see cutoffs).

        The fence is read before the words: where it is down already, whatever was written under it is there.
        """
        async with self._link.bounded():
            for _ in range(2):
                held, before, fenced, lost = await self._read(user_id, token)
                if fenced:
                    return Reason.FENCED, before
                if not isinstance(held, bytes) or not held.startswith(REVOKED):
                    return Reason.STORE_DOWN if lost else None, before
                if held == REVOKED:
                    return Reason.TOKEN_REVOKED, before
            # Provisional, and no fence stands: its writer died, and the logout may have happened.
            return Reason.TOKEN_REVOKED, before

    async def _read(self, user_id: str, token: str) -> tuple[object, float, bool, bool]:
        key = codec.user_key(user_id)
        fence: Command = ("HGET", key, codec.FENCE_FIELD)
        listed = None if self._feed is None else self._feed.listed
        words: list[Command] = [("GET", codec.alias_key("token", token)), *asking(user_id)]
        # Last: what is lost after the words were read was there.
        words += [] if listed is None else [listed]
        if self._link.ordered:
            standing, held, *said = await self._link.run(fence, *words)
        else:
            (standing,) = await self._link.run(fence)
            held, *said = await self._link.run(*words)
        fenced = standing is not None and standing is not WRONG_TYPE
        if fenced:
            (stands,) = await self._link.run(_SETTLE.call(key, _FLOOR_LIFE))
            fenced = stands == 1
        lost = listed is not None and said.pop() != 1
        return held, latest(said), fenced, lost
