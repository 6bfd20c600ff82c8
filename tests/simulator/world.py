"""The world of one schedule: an upstream that owns the users, a server, replicas of the real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from proxy.cache import UserCache
from proxy.feed import RENEW_EVERY, Feed
from proxy.renewal import MEMBERS
from proxy.store import codec
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.store.tiered import TieredStore
from proxy.store.wakes import Wakes
from proxy.store.writes import MET, RedisWrites
from tests.simulator.history import History, User
from tests.simulator.link import SimLink
from tests.simulator.scheduler import ACTOR, REPLICA, Chooser, Loop, Scheduler
from tests.simulator.server import EPOCH_US, Server

# What a request to upstream may take, in seconds. Nothing is committed later than that.
UPSTREAM_TIMEOUT = 10.0
# Longer than every lease, fallback copy and probe.
CALM_AFTER = 8.0

Act = Callable[["World", str], Awaitable[None]]


@dataclass(frozen=True)
class Actor:
    """Somebody who acts in one replica; `""` is the world itself."""

    name: str
    replica: str
    act: Act


@dataclass(frozen=True)
class Scenario:
    """Who acts in which world. `warm` comes before the race, in order.

    `promise`: linear (design §7.5 in full), answered (a read that starts after a write was answered sees
    it), converges (only that all agree with upstream once the world is calm). `early`: see Scheduler.
    `late`: replicas that join within the race, see actors.joins. `settled`: all have seen the whole table.
    `compare`: what looks a key up at the end, where it is not a look-up.
    """

    name: str
    actors: tuple[Actor, ...]
    warm: tuple[Actor, ...] = ()
    replicas: tuple[str, ...] = ("A", "B")
    users: tuple[User, ...] = (User("1", 1, "a@x"),)
    emails: tuple[str, ...] = ("a@x",)
    promise: str = "linear"
    early: int = 0
    split: bool = False
    late: tuple[str, ...] = ()
    settled: bool = False
    compare: Callable[[str, str], Act] | None = None


class Upstream:
    """The service: users, and the moments at which it reads and commits."""

    def __init__(self, scheduler: Scheduler, users: tuple[User, ...]) -> None:
        self._scheduler = scheduler
        self.users: dict[str, User | None] = {user.id: user for user in users}
        self._versions = max((user.version for user in users), default=0)

    def version(self) -> int:
        """A version that no user had yet."""
        self._versions += 1
        return self._versions

    async def read(self, key: str, value: str) -> User | None:
        """The user that has this key now; the answer takes its time."""
        await self._scheduler.point("upstream reads")
        found = self.find(key, value)
        await self._scheduler.point("upstream answers")
        return found

    def find(self, key: str, value: str) -> User | None:
        """Who has this key now."""
        held = [user for user in self.users.values() if user is not None]
        return next((user for user in held if value == (user.id if key == "id" else user.email)), None)

    async def commit(self, change: Callable[[], dict[str, User | None] | None], deadline: float) -> bool:
        """Commits what `change` gives; False where that is None, or its time is up."""
        await self._scheduler.point("upstream commits")
        if asyncio.get_running_loop().time() > deadline:
            return False
        made = change()
        if made is None:
            return False
        self.users.update(made)
        return True


class Replica:
    """One process: the real stores, feed and leases, on a simulated line and clock."""

    def __init__(self, name: str, scheduler: Scheduler, server: Server, loop: Loop, *, split: bool) -> None:
        def wall() -> float:
            return EPOCH_US / 1e6 + loop.time()

        self.name = name
        self.link = SimLink(scheduler, server, split=split)
        redis = RedisStore(cast("Redis", None), now=wall)
        redis.link = self.link
        redis.writes = RedisWrites(self.link)
        self.memory = MemoryStore(100, now=wall, monotonic=loop.time)
        wakes = Wakes()
        self.feed = Feed(
            self.link,
            self.link.listening,
            drop=self.memory.drop_batch,
            woken=wakes.wake,
            standing=self.memory,
            clock=loop.time,
        )
        self.store = TieredStore(self.memory, redis, feed=self.feed, wakes=wakes)
        self.cache = UserCache(self.store, now=wall)
        self.wall = wall

    async def join(self) -> None:
        """Starts what runs by itself, each under a name of its own, and waits for the first lease."""
        REPLICA.set(self.name)
        ACTOR.set(f"{self.name}.probe")
        self.store.recovery.watch()
        ACTOR.set(f"{self.name}.feed")
        await self.feed.proven()


class World:
    """One scenario under one chooser. `compare` looks a key up at the end, see actors.compares."""

    def __init__(
        self,
        scenario: Scenario,
        chooser: Chooser,
        compare: Callable[[str, str], Act],
        mutate: Callable[[str], str],
    ) -> None:
        self._compare = scenario.compare or compare
        self.scenario = scenario
        self.scheduler = Scheduler(chooser, early=scenario.early)
        self.loop = Loop(self.scheduler)
        self.server = Server(self.loop.time, mutate)
        self.upstream = Upstream(self.scheduler, scenario.users)
        self.history = History(self.upstream.users)
        self.replicas: dict[str, Replica] = {}
        self.death: asyncio.Future[None] = self.loop.create_future()
        self.stale: str | None = None

    def run(self) -> str | None:
        """Plays the scenario; what was broken, or None."""
        self.loop.play(self._main())
        broken = None
        if self.scenario.promise != "converges":
            broken = self.history.violation(together=self.scenario.promise == "linear")
        if broken is not None:
            broken = f"no order of events explains user {broken}"
        return broken or self.stale

    async def _main(self) -> None:
        self.server.execute(("HSET", MEMBERS, MET, f"{self.server.process}"))
        for name in self.scenario.replicas:
            one = Replica(name, self.scheduler, self.server, self.loop, split=self.scenario.split)
            self.replicas[name] = one
            if name not in self.scenario.late:
                await asyncio.create_task(one.join())
        # The table of members is an old one: nobody can have been in another before. So is the count.
        self.server.execute(("HDEL", MEMBERS, ""))
        self.server.execute(("SET", codec.SEQ_KEY, str(EPOCH_US)))
        if self.scenario.settled:
            await asyncio.sleep(RENEW_EVERY * 1.5)
        for actor in self.scenario.warm:
            await self._start(actor)
        self.scheduler.calm = False
        running = {self._start(actor): actor.replica for actor in self.scenario.actors}
        while waiting := {task for task, replica in running.items() if replica not in self.scheduler.dead}:
            self.death = self.loop.create_future()
            await asyncio.wait({*waiting, self.death}, return_when=asyncio.FIRST_COMPLETED)
            for done in [task for task in waiting if task.done()]:
                done.result()
                del running[done]
        self.scheduler.calm = True
        await self._agree()

    def kill(self, replica: str) -> None:
        """Nothing of that replica goes on."""
        self.scheduler.dead.add(replica)
        if not self.death.done():
            self.death.set_result(None)

    def _start(self, actor: Actor) -> asyncio.Task[None]:
        async def run() -> None:
            ACTOR.set(actor.name)
            REPLICA.set(actor.replica)
            await self.scheduler.point("starts")
            await actor.act(self, actor.replica)

        return asyncio.create_task(run())

    async def _agree(self) -> None:
        """Reads every key on every replica that lives, once the world is calm where outages allow more."""
        if self.scenario.promise == "converges":
            await asyncio.sleep(CALM_AFTER)
        for name in self.scenario.replicas:
            if name in self.scheduler.dead:
                continue
            for key, value in self._keys():
                await self._start(Actor(f"{name}.last", name, self._compare(key, value)))

    def _keys(self) -> list[tuple[str, str]]:
        ids = [("id", user_id) for user_id in self.upstream.users]
        return ids + [("email", email) for email in self.scenario.emails]

    def story(self) -> str:
        """The history and the schedule that led to it."""
        steps = "\n".join(self.scheduler.trace)
        return f"{self.scenario.name}\n{self.history.text()}\n\nschedule:\n{steps}"
