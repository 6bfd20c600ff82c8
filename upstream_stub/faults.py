"""What can be made unpleasant, at start and at run time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from enum import StrEnum

from upstream_stub.kinds import Kind
from upstream_stub.options import Options


class Faults:
    """Latency, errors, dropped answers and the leak of the password hash. All chance comes from the seed."""

    def __init__(self, options: Options) -> None:
        self.latency = options.latency
        self.latency_jitter = options.latency_jitter
        self.error_rate = options.error_rate
        self.drop_after_commit_rate = options.drop_after_commit_rate
        self.leak_hash = options.leak_hash
        self.errors_sent = 0
        self.answers_dropped = 0
        self._random = random.Random(options.seed)

    def fails(self) -> bool:
        """Whether this request gets a 500 before anything is done."""
        failed = self.error_rate > 0 and self._random.random() < self.error_rate
        self.errors_sent += failed
        return failed

    def drops(self) -> bool:
        """Whether this committed write gets no answer."""
        dropped = self.drop_after_commit_rate > 0 and self._random.random() < self.drop_after_commit_rate
        self.answers_dropped += dropped
        return dropped

    def latency_now(self) -> float:
        """Seconds that this request takes."""
        if not self.latency_jitter:
            return self.latency
        return max(0.0, self.latency + self._random.uniform(-self.latency_jitter, self.latency_jitter))


class Moment(StrEnum):
    """When a held request waits."""

    BEFORE = "hold_before"
    """Before it reads or writes anything."""
    AFTER = "hold"
    """With its answer ready: the database was read, the write is committed."""


class Holds:
    """Requests made to wait, so that a race is scheduled and not slept for."""

    def __init__(self) -> None:
        self._gates: dict[tuple[Kind, Moment], asyncio.Event] = {}
        self._held: Counter[Kind] = Counter()
        self._arrival = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Holds {[f'{moment} {kind}' for kind, moment in self._gates]} held={dict(self.held)}>"

    @property
    def held(self) -> dict[Kind, int]:
        """How many requests wait right now, by kind."""
        return {kind: count for kind, count in self._held.items() if count}

    def kinds(self, moment: Moment) -> list[Kind]:
        """The kinds that are being held at that moment."""
        return sorted(kind for kind, when in self._gates if when is moment)

    def hold(self, kind: Kind, moment: Moment) -> None:
        """Make requests of that kind wait from now on."""
        self._gates.setdefault((kind, moment), asyncio.Event())

    def release(self, kind: Kind) -> None:
        """Let the waiting ones go, and hold no more of them."""
        for moment in Moment:
            if gate := self._gates.pop((kind, moment), None):
                gate.set()

    def release_all(self) -> None:
        """Let everything go."""
        for kind in {kind for kind, _ in self._gates}:
            self.release(kind)

    async def wait_at(self, kind: Kind, moment: Moment) -> None:
        """Wait here if that is wanted."""
        gate = self._gates.get((kind, moment)) if self._gates else None
        if gate is None:
            return
        self._held[kind] += 1
        arrival, self._arrival = self._arrival, asyncio.Event()
        arrival.set()
        try:
            await gate.wait()
        finally:
            self._held[kind] -= 1

    async def until_held(self, kind: Kind, count: int) -> None:
        """Wait until so many requests of that kind are waiting; the caller bounds the time."""
        while self._held[kind] < count:
            await self._arrival.wait()
