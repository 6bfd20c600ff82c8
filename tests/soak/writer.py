"""Writes through any replica, whose outcome is found out where nobody told it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from tests.soak.checker import GONE, Commit, Read, Version
from tests.soak.line import ENOUGH, Line
from tests.soak.pace import Pace
from tests.soak.people import Person
from tests.soak.record import Record

# Longer than the service takes for anything.
SETTLED = 0.25
# The share of writers that hang up before they are answered, unless so many of their users are still out of
# reach for that. The replica goes on, and may be frozen first.
HANG_UPS, MOST = 0.03, 0.25
HANGS_UP_AFTER = (0.0, 0.01)
UNTIL_THAWED = 5.0
# Only updates are compared with those that go to the service itself.
COMPARED = ("PUT", "PATCH")


class Writer:
    """Writes its people, and nobody else does: `rate` times a second."""

    def __init__(
        self,
        people: list[Person],
        replicas: int,
        where: Callable[[int], str],
        stub: str,
        record: Record,
        rng: random.Random,
    ) -> None:
        self._people = people
        self._lines = [Line() for _ in range(replicas)]
        self._where = where
        self._stub = stub
        self._record = record
        self._rng = rng
        # Those whose last write may still be under way.
        self._resting: set[int] = set()
        self._over = asyncio.Event()
        record.commits += [
            Commit(one.number, one.state, one.keys, 0.0, 0.0, True, "at the start") for one in people
        ]

    async def run(self, stop: asyncio.Event, rate: float) -> None:
        """Until `stop`, and until the outcome of each write is known."""
        self._over = stop
        pace = Pace(rate, self._rng)
        async with asyncio.TaskGroup() as settling:
            while not stop.is_set():
                await pace.turn(stop)
                free = [one for one in self._people if one.number not in self._resting]
                if free:
                    # Half of the writes are of the first ones, as the readers' popular users are among them.
                    await self._write(self._rng.choice((free[0], self._rng.choice(free))), settling)
        for line in self._lines:
            line.close()

    async def _write(self, person: Person, settling: asyncio.TaskGroup) -> None:
        rng, record = self._rng, self._record
        request, replica = person.written(rng), rng.randrange(len(self._lines))
        hangs_up = rng.random() < HANG_UPS and len(self._resting) < MOST * len(self._people)
        patience = rng.uniform(*HANGS_UP_AFTER) if hangs_up else ENOUGH
        record.writes[request.method] += 1
        begun, status, body = time.monotonic(), 0, b""
        try:
            status, _, body = await self._lines[replica].ask(
                self._where(replica), request.method, request.path, request.token, patience, request.body
            )
        except TimeoutError:
            if not hangs_up:
                record.refused[f"{request.method} by {request.key[0]}: no answer"] += 1
        except OSError:
            record.lost.append((time.monotonic(), f"write through {replica}"))
        over = time.monotonic()
        by = f"writer through {replica} {request.method} by {request.key[0]} {status or ''}".rstrip()
        commit = Commit(
            person.number, person.state, person.keys, begun, over, True, by, replica, request.named
        )
        if 200 <= status < 300:
            if request.method in COMPARED:
                record.latencies.append((begun, over - begun))
            self._committed(person, commit, orjson.loads(body) if body else None)
            return
        if status == 502:
            record.unanswered["answer dropped"] += 1
        elif not status:
            record.unanswered["hung up" if hangs_up else "connection lost"] += 1
        elif not person.doubtful:
            record.refused[f"{request.method} by {request.key[0]}: {status}"] += 1
        if hangs_up:
            self._resting.add(person.number)
            settling.create_task(self._settle(person, commit, UNTIL_THAWED))
        else:
            await self._settle(person, commit, SETTLED)

    async def _settle(self, person: Person, commit: Commit, seconds: float) -> None:
        """Finds out what became of a write without a good answer, once it can't be done any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - SETTLED):
                await self._over.wait()
        await asyncio.sleep(SETTLED)
        line, begun = Line(), time.monotonic()
        status, _, body = await line.ask(self._stub, "GET", f"/users/{person.username}", None, ENOUGH)
        line.close()
        user, over = orjson.loads(body) if status == 200 else None, time.monotonic()
        self._committed(person, replace(commit, over=over, answered=False), user)
        self._resting.discard(person.number)
        # What upstream shows now, a later read through any proxy must show as well.
        version = None if user is None else person.state
        key = ("username", person.username)
        self._record.reads.append(Read(person.number, begun, over, version, key, "the service itself"))

    def _committed(self, person: Person, commit: Commit, user: dict[str, Any] | None) -> None:
        """Upstream has made that of the person, by a write that is over."""
        old = person.state
        state: Version = (old[0], GONE) if user is None else (user["id"], user["version"])
        once = follows(old, state) or (state == old and not commit.answered)
        if not once and not person.doubtful:
            self._record.refused[f"{commit.by}: {old} became {state}"] += 1
        person.doubtful = state == old
        if person.doubtful:
            return
        steps = [state]
        if state[0] == old[0] and user is not None:
            steps = [(old[0], version) for version in range(int(old[1]) + 1, user["version"] + 1)]
        person.become(state, person.email if user is None else user["email"])
        self._record.commits += [
            replace(commit, version=one, keys=person.keys, answered=commit.answered and one == state)
            for one in steps
        ]


def follows(old: Version, new: Version) -> bool:
    """Whether one write, done once, can have made the new version of the old one."""
    if old[1] == GONE:
        return new[0] > old[0] and new[1] == 1
    return new in ((old[0], old[1] + 1), (old[0], GONE))
