"""Who goes next: an event loop that never waits, points at which somebody is chosen, and time by choice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

ACTOR: ContextVar[str] = ContextVar("ACTOR", default="")
"""What the running code belongs to: one reader, one writer, one replica's feed."""
REPLICA: ContextVar[str] = ContextVar("REPLICA", default="")
"""The process that the running code is in; it is frozen and killed as a whole."""

TIME = "time"
MAX_STEPS = 4000
# Time passes early only this far, in seconds: what is due later is meant never to be.
MAX_JUMP = 60.0


class Stuck(AssertionError):
    """A schedule that doesn't end: nothing can go on, or too many steps were made."""


class Chooser(Protocol):
    """Decides: the index of the option (an actor each) that goes next."""

    def __call__(self, actors: list[str], last: str) -> int: ...


@dataclass
class Point:
    """Where an actor waits to be chosen."""

    actor: str
    replica: str
    label: str
    future: asyncio.Future[None]


@dataclass
class Scheduler:
    """All points that wait, and the choice among them.

    `early` is how often time may pass though somebody could go on, as one more option to choose. While
    `calm` the oldest point goes first and nobody is asked.
    """

    chooser: Chooser
    early: int = 0
    calm: bool = True
    steps: int = 0
    # Replicas, or actors by name.
    frozen: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    trace: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    last: str = ""
    closing: bool = False

    async def point(self, label: str) -> None:
        """Waits to be chosen. Raises CancelledError once the schedule is over."""
        if self.closing:
            raise asyncio.CancelledError
        point = Point(ACTOR.get(), REPLICA.get(), label, asyncio.get_running_loop().create_future())
        self.points.append(point)
        try:
            await point.future
        finally:
            if point in self.points:
                self.points.remove(point)

    def next(self, loop: Loop) -> None:
        """Nothing is runnable: lets one point go, or time pass. Raises Stuck."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Stuck("too many steps")
        away = self.frozen | self.dead
        free = [point for point in self.points if point.replica not in away and point.actor not in away]
        if not free:
            if loop.next_timer() is None:
                raise Stuck("nobody can go on")
            loop.pass_time()
            return
        options = [point.actor for point in free]
        if self.calm:
            chosen = 0
        else:
            due = loop.next_timer() if self.early else None
            if due is not None and due - loop.time() <= MAX_JUMP:
                options.append(TIME)
            chosen = self.chooser(options, self.last) if len(options) > 1 else 0
        if chosen == len(free):
            self.early -= 1
            loop.pass_time()
            self.trace.append(f"{loop.time():7.3f}  time passes")
            return
        point = free[chosen]
        self.last = point.actor
        self.points.remove(point)
        self.trace.append(f"{loop.time():7.3f}  {point.actor}: {point.label}")
        if not point.future.done():
            point.future.set_result(None)


class _Idle:
    """Stands where a loop has its selector: asked to wait for the world, it asks the scheduler instead."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._loop.scheduler.next(self._loop)
        return []


class Loop(asyncio.BaseEventLoop):
    """An event loop without files and threads; `time()` stands still until the scheduler lets it pass."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        self._now = 0.0
        self._selector = _Idle(self)
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def next_timer(self) -> float | None:
        """When the next timer is due, cancelled ones not counted."""
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return min(timers, default=None)

    def pass_time(self) -> None:
        """Time jumps to the next timer."""
        due = self.next_timer()
        self._now = max(self._now, due if due is not None else 0.0)

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def play(self, main: Coroutine[Any, Any, None]) -> None:
        """Runs `main` to its end, then ends all that is left. Raises what `main` raises."""
        try:
            self.run_until_complete(main)
        finally:
            self.scheduler.closing = True
            for _ in range(20):
                left = asyncio.all_tasks(self)
                if not left:
                    break
                for task in left:
                    task.cancel()
                self.run_until_complete(asyncio.wait(left, timeout=1e-6))
            self.close()


class Seeded:
    """Chooses from a seed. Even seeds choose evenly; odd ones give each actor a rank and keep to it but for a
    few changes, which finds what needs few switches at the right moments (Burckhardt et al., ASPLOS 2010)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ranked = seed % 2 == 1
        self._ranks: dict[str, float] = {}

    def __call__(self, actors: list[str], last: str) -> int:
        """See Chooser."""
        if not self._ranked:
            weights = [0.15 if actor == TIME else 1.0 for actor in actors]
            return self._random.choices(range(len(actors)), weights)[0]
        for actor in actors:
            self._ranks.setdefault(actor, self._random.random() * (0.5 if actor == TIME else 1.0))
        best = max(range(len(actors)), key=lambda index: self._ranks[actors[index]])
        if self._random.random() < 0.08 or actors[best] == TIME:
            self._ranks[actors[best]] = self._random.random() * 0.3
        return best


@dataclass
class Scripted:
    """Follows `prefix`, then goes on with whoever went last; notes what else could have been chosen.

    A choice is a position in a list where the actor that went last comes first: any other is a switch.
    """

    prefix: list[int]
    widths: list[tuple[int, bool]] = field(default_factory=list)

    def __call__(self, actors: list[str], last: str) -> int:
        """See Chooser."""
        order = sorted(range(len(actors)), key=lambda index: actors[index] != last)
        at = len(self.widths)
        self.widths.append((len(actors), last in actors))
        return order[self.prefix[at] if at < len(self.prefix) else 0]

    def branches(self, switches: int) -> list[list[int]]:
        """The schedules that leave this one behind its prefix, with at most `switches` switches of an actor
        that could have gone on (context-bounded search: Musuvathi and Qadeer, PLDI 2007)."""
        spent = sum(
            1 for choice, (_, could) in zip(self.prefix, self.widths, strict=False) if choice and could
        )
        found = []
        for at in range(len(self.prefix), len(self.widths)):
            width, could = self.widths[at]
            if could and spent >= switches:
                continue
            stem = self.prefix + [0] * (at - len(self.prefix))
            found += [[*stem, other] for other in range(1, width)]
        return found
