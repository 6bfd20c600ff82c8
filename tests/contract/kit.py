"""What the tests of the contract share: a store, the clock it is judged by, and answers to put in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.core.model import Entry, Found, Ref

START = 1_700_000_000.0


@dataclass
class Clock:
    """A clock that stands still until it is turned."""

    time: float = START

    def __call__(self) -> float:
        return self.time


@dataclass
class Kit:
    """A store under test."""

    kind: str
    store: Any
    clock: Clock

    def entry(self, user_id: str | None = "42", body: bytes = b"{}", **changes: Any) -> Entry:
        """An answer about a user, or (None) about nobody, that lives for 60 s."""
        now = self.clock.time
        keys = {"email": f"u{user_id}@x", "phone": f"+{user_id}"} if user_id else {}
        fields: dict[str, Any] = {
            "user_id": user_id,
            "keys": keys,
            "status": 200 if user_id else 404,
            "body": body,
            "stored": now,
            "expires": now + 30,
            "dead": now + 60,
        }
        return Entry(**(fields | changes))

    async def put(self, entry: Entry, ref: Ref | None = None) -> None:
        """Stores an answer under its id or `ref`."""
        ref = ref or by("id", str(entry.user_id))
        assert None is await self.store.fill(ref, entry, await self.store.ticket(ref))

    async def body(self, ref: Ref) -> bytes | None:
        """The body that is found, or None."""
        looked = await self.store.get(ref)
        return looked.entry.body if isinstance(looked, Found) else None


def by(key: str, value: str, slot: str = "users") -> Ref:
    """A short Ref."""
    return Ref(key, value, slot)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for what other tasks or processes do, with a bound. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process sets no Event
            await asyncio.sleep(0.005)
