"""Readers and writers on the replicas, each event noted with its time for the checker."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import aiohttp

from tests.soak.checker import Commit, Read
from tests.soak.line import Line

TIMEOUT = aiohttp.ClientTimeout(total=20)
# A read or a write that broke is tried again elsewhere after this many seconds.
PAUSE = 0.05
# A reader asks anew after so many seconds. What waits for a frozen replica when that wakes up must have been
# asked for during the freeze, or it could not be too old.
PATIENCE = (0.3, 1.0)
# The service is slow with one kind of read for so long, and so often: seconds. What it read before a write it
# says after that then, and a fill is late.
SLOW, BETWEEN = (0.02, 0.15), (0.1, 0.5)
SLOWED = ("user_by_id", "user_by_email", "user_by_username", "user_by_phone", "users_by_ids", "me")
# Longer than the service takes for anything.
SETTLED = 0.25
# The share of writers that hang up before they are answered. The replica goes on, and may be frozen first.
HANG_UPS = 0.03
UNTIL_THAWED = 5.0


@dataclass(slots=True)
class Person:
    """A user as its only writer knows it."""

    number: int
    username: str
    phone: str
    emails: tuple[str, str]
    token: str
    version: int
    email: str


@dataclass(slots=True)
class Record:
    """All that happened. Latencies are (begun, seconds)."""

    reads: list[Read] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    hits: int = 0
    writes: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    direct: list[tuple[float, float]] = field(default_factory=list)


class Load:
    """`where(n)` is the URL of replica n now; `stub` the service's own; `witness` a token nobody writes."""

    def __init__(
        self,
        people: list[Person],
        replicas: int,
        where: Callable[[int], str],
        stub: str,
        witness: str,
        seed: int,
    ) -> None:
        self.people = people
        born = [Commit(one.number, one.version, one.email, 0.0, 0.0, "at the start") for one in people]
        self.record = Record(commits=born)
        self._replicas = replicas
        self._where = where
        self._stub = stub
        self._witness = witness
        self._seed = seed
        # Those whose last write may still be under way.
        self._resting: set[int] = set()
        self._over = asyncio.Event()

    async def run(self, stop: asyncio.Event, readers: int, writers: int) -> None:
        """Until `stop`; readers stay with a replica, so that a frozen one does not stop them all."""
        self._over = stop
        # Writes get a connection each: aiohttp sends a PUT again when a kept one breaks.
        fresh = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, connector=fresh) as writing,
            asyncio.TaskGroup() as group,
        ):
            for number in range(readers):
                group.create_task(self._read_on(stop, number))
            for number in range(writers):
                group.create_task(self._write_on(stop, writing, self.people[number::writers], number))
            group.create_task(self._write_directly(stop, writing))
            group.create_task(self._slow_down(stop, writing))

    async def _read_on(self, stop: asyncio.Event, number: int) -> None:
        rng, line = random.Random(f"{self._seed}-reader-{number}"), Line()
        replica = number % self._replicas
        while not stop.is_set():
            person = rng.choice(self.people[: rng.choice((3, len(self.people)))])
            if not await self._read(line, rng, replica, person):
                await asyncio.sleep(PAUSE)
        line.close()

    async def _read(self, line: Line, rng: random.Random, replica: int, person: Person) -> bool:
        email, other = rng.choice(person.emails), rng.choice(self.people)
        kind, path, token = rng.choice(
            (
                ("id", f"/users/{person.number}", None),
                ("ids", f"/users?ids={person.number},{other.number}", None),
                ("username", f"/users/{person.username}", None),
                ("email", f"/users/by-email/{email}", self._witness),
                ("phone", f"/users?phone=%2B{person.phone[1:]}", self._witness),
                ("token", "/auth/me", person.token),
            )
        )
        begun = time.monotonic()
        try:
            status, cache, body = await line.get(self._where(replica), path, token, rng.uniform(*PATIENCE))
        except (OSError, TimeoutError):
            # Its replica was killed or frozen a moment ago.
            self.record.broken["read"] += 1
            return False
        ended = time.monotonic()
        if status != 200 and (status, kind) != (404, "email"):
            self.record.broken[f"read {status}"] += 1
            return False
        self.record.hits += cache == "HIT"
        told = json.loads(body) if status == 200 else None
        found = [
            (user["id"], user["version"]) for user in (told if isinstance(told, list) else [told]) if user
        ]
        asked, by = (email if kind == "email" else None), f"replica {replica} {cache} {kind}"
        self.record.reads += [
            Read(number, begun, ended, version, asked, by, replica)
            for number, version in found or [(person.number, None)]
        ]
        return True

    async def _write_on(
        self, stop: asyncio.Event, session: aiohttp.ClientSession, mine: list[Person], number: int
    ) -> None:
        rng = random.Random(f"{self._seed}-writer-{number}")
        async with asyncio.TaskGroup() as settling:
            while not stop.is_set():
                free = [one for one in mine if one.number not in self._resting]
                if free:
                    await self._write(session, rng, rng.choice(free), settling)
                await asyncio.sleep(rng.random() * 0.1)

    async def _write(
        self,
        session: aiohttp.ClientSession,
        rng: random.Random,
        person: Person,
        settling: asyncio.TaskGroup,
    ) -> None:
        given, email = {"display_name": f"name {rng.random()}", "bio": "of a soak"}, person.email
        if rng.random() < 0.3:
            email = person.emails[person.email == person.emails[0]]
            given["email"] = email
        replica = rng.randrange(self._replicas)
        method, path, headers = rng.choice(
            (
                ("PUT", f"/users/{person.number}", {}),
                ("PATCH", f"/users/{person.username}", {}),
                ("PATCH", f"/users/by-email/{person.email}", {"Authorization": f"Bearer {person.token}"}),
                ("PUT", "/profile", {"Authorization": f"Bearer {person.token}"}),
            )
        )
        record, begun = self.record, time.monotonic()
        record.writes += 1
        headers |= {"Content-Type": "application/json"}
        patience = rng.uniform(0.0, 0.01) if rng.random() < HANG_UPS else None
        try:
            async with (
                asyncio.timeout(patience),
                session.request(
                    method, self._where(replica) + path, data=json.dumps(given), headers=headers
                ) as answer,
            ):
                body = await answer.read()
            status = str(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = ""
        ended = time.monotonic()
        by = f"writer through {replica} {method} {path.split('/')[1]} {status}"
        unknown = Commit(person.number, 0, email, begun, None, by, replica)
        if status == "200":
            record.latencies.append((begun, ended - begun))
            version = json.loads(body)["version"]
            self._committed(person, replace(unknown, version=version, answered=ended))
        elif patience is not None:
            record.broken["hang-up"] += 1
            self._resting.add(person.number)
            settling.create_task(self._settle(session, person, unknown, UNTIL_THAWED))
        else:
            record.broken[f"write {status}".strip()] += 1
            await self._settle(session, person, unknown, SETTLED)

    async def _settle(
        self, session: aiohttp.ClientSession, person: Person, unknown: Commit, seconds: float
    ) -> None:
        """Finds out what became of a write whose answer nobody saw, once it can't happen any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - SETTLED):
                await self._over.wait()
        await asyncio.sleep(SETTLED)
        begun = time.monotonic()
        version = await self._ask_directly(session, person)
        self._committed(person, replace(unknown, version=version))
        self._resting.discard(person.number)
        # What upstream shows now, a later read through any proxy must show as well.
        self.record.reads.append(Read(person.number, begun, time.monotonic(), version, None, "direct"))

    def _committed(self, person: Person, last: Commit) -> None:
        for one in range(person.version + 1, last.version + 1):
            answered = last.answered if one == last.version else None
            self.record.commits.append(replace(last, version=one, answered=answered))
        if last.version > person.version:
            person.version, person.email = last.version, last.email

    async def _ask_directly(self, session: aiohttp.ClientSession, person: Person) -> int:
        async with session.get(f"{self._stub}/users/{person.number}") as answer:
            return int((await answer.json())["version"])

    async def _write_directly(self, stop: asyncio.Event, session: aiohttp.ClientSession) -> None:
        """The measure that the writers' latency is held against; user 1 is nobody's."""
        while not stop.is_set():
            begun = time.monotonic()
            data = json.dumps({"bio": f"at {begun}"})
            try:
                async with session.put(f"{self._stub}/users/1", data=data) as answer:
                    await answer.read()
                self.record.direct.append((begun, time.monotonic() - begun))
            except aiohttp.ClientError:
                self.record.broken["direct"] += 1
            await asyncio.sleep(0.1)

    async def _slow_down(self, stop: asyncio.Event, session: aiohttp.ClientSession) -> None:
        rng = random.Random(f"{self._seed}-slow")
        while not stop.is_set():
            kind = rng.choice(SLOWED)
            for setting, seconds in (("hold", SLOW), ("release", BETWEEN)):
                async with session.post(f"{self._stub}/__control", data=json.dumps({setting: kind})):
                    pass
                await asyncio.sleep(rng.uniform(*seconds))
