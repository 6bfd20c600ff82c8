"""Readers and writers on the replicas, each event noted with its time for the checker."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from sys import intern
from typing import Any

import orjson

from tests.soak.checker import Key, Read
from tests.soak.line import ENOUGH, Line
from tests.soak.pace import Pace
from tests.soak.people import Person
from tests.soak.record import Record
from tests.soak.writer import Writer

# Who could not be asked is asked again after this many seconds.
PAUSE = 0.05
# A reader asks anew after so many seconds. What waits for a frozen replica when that wakes up must have been
# asked for during the freeze, or it could not be too old.
PATIENCE = (0.3, 1.0)
# The share of reads that ask for two users at once.
PAIRS = 1 / 6
# Half of the reads are of these many users.
POPULAR = 8
# The service is slow with one kind of request for so long, the shorter the more often, and then with none:
# seconds. What it read before a write it says after that, and a fill is late; what it wrote is seen long
# before the writer is answered.
SLOW, BETWEEN = (0.02, 0.5), (0.1, 0.5)
READS = ("user_by_id", "user_by_email", "user_by_username", "user_by_phone", "users_by_ids", "me")
WRITES = ("update", "profile_update", "create", "delete")
# Writes a second that go to the service itself.
DIRECT_WRITES = 10.0
# What tells that there is nobody.
NOBODY = {"token": 401}


class Load:
    """`where(n)` is the URL of replica n now; `stub` the service's own; `witness` a token of nobody's."""

    def __init__(
        self, people: list[Person], where: Callable[[int], str], stub: str, witness: str, seed: int
    ) -> None:
        self.record = Record()
        self._people = people
        self._where = where
        self._stub = stub
        self._witness = witness
        self._seed = seed
        self._same: dict[Any, Any] = {}

    async def run(
        self, stop: asyncio.Event, replicas: int, *, readers: int, writers: int, writes: float
    ) -> None:
        """Until `stop`, and until the outcome of every write is known; `writes` a second, by all writers."""
        writers = min(writers, len(self._people))
        async with asyncio.TaskGroup() as group:
            for number in range(readers):
                group.create_task(self._read_on(stop, number, number % replicas))
            for number in range(writers):
                rng = self._chance(f"writer-{number}")
                mine = self._people[number::writers]
                writer = Writer(mine, replicas, self._where, self._stub, self.record, rng)
                group.create_task(writer.run(stop, writes / writers))
            group.create_task(self._write_directly(stop))
            group.create_task(self._slow_down(stop))

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._seed}-{what}")

    async def _read_on(self, stop: asyncio.Event, number: int, replica: int) -> None:
        """One reader, who stays with a replica, so that a frozen one does not stop them all."""
        rng, line = self._chance(f"reader-{number}"), Line()
        while not stop.is_set():
            person = rng.choice(self._people[: rng.choice((POPULAR, len(self._people)))])
            if not await self._read(line, rng, replica, person):
                await asyncio.sleep(PAUSE)
        line.close()

    async def _read(self, line: Line, rng: random.Random, replica: int, person: Person) -> bool:
        about: dict[Key, Person]
        if rng.random() < PAIRS:
            kind, token = "ids", None
            about = {("id", one.ids[-1]): one for one in (person, rng.choice(self._people))}
            path = "/users?ids=" + ",".join(str(number) for _, number in about)
        else:
            request = person.asked(rng, self._witness)
            kind, path, token = request.key[0], request.path, request.token
            about = {request.key: person}
        record, begun = self.record, time.monotonic()
        try:
            status, cache, body = await line.ask(
                self._where(replica), "GET", path, token, rng.uniform(*PATIENCE)
            )
        except TimeoutError:
            # Its replica was frozen, or the machine is busy.
            record.given_up += 1
            return False
        except OSError:
            record.lost.append((time.monotonic(), f"read through {replica}"))
            return False
        ended = time.monotonic()
        if status not in (200, NOBODY.get(kind, 404)):
            record.refused[f"read by {kind}: {status}"] += 1
            return False
        record.answers += 1
        record.hits += cache == "HIT"
        told = orjson.loads(body) if status == 200 else []
        users = told if isinstance(told, list) else [told]
        # Millions of reads share these.
        same, by = self._same.setdefault, intern(f"replica {replica} {cache} {kind}")
        for key, one in about.items():
            user = next((user for user in users if shows(user, key)), None)
            version = None if user is None else (user["id"], user["version"])
            record.reads.append(
                Read(one.number, begun, ended, same(version, version), same(key, key), by, replica)
            )
        if not all(any(shows(user, key) for key in about) for user in users):
            record.refused[f"read by {kind}: another user"] += 1
        return True

    async def _write_directly(self, stop: asyncio.Event) -> None:
        """The measure that the writers' latency is held against; user 1 is nobody's."""
        rng, line = self._chance("direct"), Line()
        pace = Pace(DIRECT_WRITES, rng)
        while not stop.is_set():
            await pace.turn(stop)
            begun = time.monotonic()
            body = json.dumps({"bio": f"at {begun}"}).encode()
            try:
                await line.ask(self._stub, "PUT", "/users/1", None, ENOUGH, body)
            except ConnectionError:
                # Its answer was one of those that are dropped.
                continue
            self.record.direct.append((begun, time.monotonic() - begun))
        line.close()

    async def _slow_down(self, stop: asyncio.Event) -> None:
        """Makes the service slow with one kind of request after another."""
        rng, line = self._chance("slow"), Line()
        while not stop.is_set():
            kind, begun = rng.choice(2 * READS + WRITES), time.monotonic()
            slow = math.exp(rng.uniform(*map(math.log, SLOW)))
            for setting, seconds in (("hold", slow), ("release", rng.uniform(*BETWEEN))):
                body = json.dumps({setting: kind}).encode()
                await line.ask(self._stub, "POST", "/__control", None, ENOUGH, body)
                if setting == "release":
                    self.record.slow.append((begun, time.monotonic()))
                await asyncio.sleep(seconds)
        line.close()


def shows(user: dict[str, object], key: Key) -> bool:
    """Whether that is the user that the key asks for."""
    kind, value = key
    return user["id" if kind == "token" else kind] == value
