"""Mistakes about tokens to put back in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from proxy.core.model import Entry, LocalTicket, Reason, Ref
from proxy.feed import Feed
from proxy.store import codec
from proxy.store.cutoffs import RedisCutoffs, Word
from proxy.store.held import Memory
from proxy.store.memory import MemoryStore
from proxy.store.revocations import RedisRevocations
from proxy.store.tokenwords import TokenWords

_NEVER: Any = property(lambda self: None)


@contextmanager
def said_afterwards() -> Iterator[None]:
    """Nothing is said of a token before the write has happened."""
    revoke, tell = RedisRevocations.revoke, RedisCutoffs.tell

    async def revokes(self: RedisRevocations, *words: tuple[str, float, str]) -> None:
        await revoke(self, *(word for word in words if not word[2]))

    async def tells(self: RedisCutoffs, *words: Word) -> None:
        await tell(self, *(word for word in words if word[4]))

    with patch.object(RedisRevocations, "revoke", revokes), patch.object(RedisCutoffs, "tell", tells):
        yield


@contextmanager
def notes_without_tickets() -> Iterator[None]:
    """That nobody has revoked a token is noted however long ago that was asked."""
    put = Memory.put

    def puts(self: Memory, ref: Ref, entry: Entry, ticket: LocalTicket | None) -> Reason | None:
        return put(self, ref, entry, self.begin(ref) if codec.is_note(ref.slot) else ticket)

    with patch.object(Memory, "put", puts), patch.object(MemoryStore, "fenced", lambda *_: False):
        yield


@contextmanager
def kept_by_one() -> Iterator[None]:
    """Only Redis, and who took the write, know of it."""
    with patch.object(MemoryStore, "learn", lambda *_: None), patch.object(Feed, "listed", _NEVER):
        yield


@contextmanager
def loss_unnoticed() -> Iterator[None]:
    """A Redis that has lost its data is believed by those who did not hear of the write."""
    with patch.object(Feed, "listed", _NEVER):
        yield


@contextmanager
def never_told_again() -> Iterator[None]:
    """A Redis that has lost its data is not told again."""
    with patch.object(TokenWords, "forgotten", lambda *_: None):
        yield
