"""What is done to the replicas and to Redis, scheduled from the seed."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.processes import COMMAND, Proxy, ask
from tests.soak.checker import BEHIND, Window, span
from tests.valkey import Valkey

AWAY = "the shared store is not used until it is back"
BACK = "the shared store is back"
# Log lines have milliseconds.
GRAIN = 0.005
RECOVERY = 20.0
# A freeze and the recovery from it, and what of that is recovery.
LEAST, WELL = 5.0, 2.0
# Seconds that a replica is cut off: for a short time, or for longer than its memory may be behind.
CUTS = ((0.1, 3.0), (BEHIND + 0.5, BEHIND + 3.0))
PASSWORD = "of-a-soak"
# What a server that is out of memory has too much of it, in bytes.
ROOM = 8 * 1024


class Replica:
    """A proxy that can be killed and started again; what its log said survives it. `bug`: see planted.py;
    `users`: how many its memory has room for.

    It has an account of its own at Redis, so that it can be cut off while the others are not.
    """

    def __init__(self, number: int, upstream: str, valkey: Valkey, bug: str | None, users: int) -> None:
        self._number, self._upstream, self._valkey = number, upstream, valkey
        self._settings = {"MEMORY_CACHE_ENTRIES": str(users)}
        self._command = COMMAND if bug is None else (sys.executable, "-m", "tests.soak.planted", bug)
        self._stack = ExitStack()
        self.account = f"replica{number}"
        self.admit()
        self.outages: list[Window] = []
        self.errors: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        """A new process, on a port of its own."""
        place = self._valkey.url.replace("://", f"://{self.account}:{PASSWORD}@")
        self.proxy = self._stack.enter_context(
            Proxy.start(self._upstream, redis=place, command=self._command, **self._settings)
        )
        self.url = self.proxy.url

    def admit(self) -> None:
        """Redis takes its connections."""
        self._valkey.ask("ACL", "SETUSER", self.account, "on", f">{PASSWORD}", "~*", "&*", "+@all")

    def cut_off(self) -> None:
        """Its connections to Redis end, and it gets no other."""
        self._valkey.ask("ACL", "SETUSER", self.account, "off")
        self._valkey.ask("CLIENT", "KILL", "USER", self.account)

    def stop(self) -> None:
        """Ends it, if it has not ended, and notes when it did not trust Redis."""
        self.proxy.send(signal.SIGCONT)
        self.proxy.process.terminate()
        self.proxy.wait()
        self._note()

    def kill(self) -> None:
        """SIGKILL."""
        self.proxy.kill()
        self._note()

    def _note(self) -> None:
        away, shift = 0.0, time.time() - time.monotonic()
        lines = self.proxy.told()
        self.errors += [line for line in lines if line["level"] in ("error", "critical")]
        for line in lines:
            moment = datetime.fromisoformat(line["time"]).timestamp() - shift
            if line["message"].startswith(AWAY):
                away = moment
            elif line["message"].startswith(BACK) and away:
                self._out(away, moment)
                away = 0.0
        if away:
            self._out(away, time.monotonic())
        self._stack.close()

    def _out(self, begun: float, ended: float) -> None:
        self.outages.append(Window(begun - GRAIN, ended + GRAIN, "Redis not trusted", self._number))

    def well(self) -> bool:
        """It trusts Redis, owes it nothing, and its memory is in use."""
        try:
            # A replica joins the others with its first request.
            ask(self.url, "GET", "/users/1", timeout=1.0)
            health = ask(self.proxy.admin, "GET", "/health", timeout=1.0).json()
        except OSError:
            return False
        return bool(
            health["status"] == "ok"
            and health["breaker"] == "closed"
            and health["feed"]["alive"]
            and not health["pending_evictions"]
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One that was done; `recovered` is when all replicas were `well` again, or nobody waited any more."""

    kind: str
    begun: float
    ended: float
    recovered: float
    well: bool = True

    def __str__(self) -> str:
        return f"{span(self.begun, self.recovered)}: {self.kind}"


class Faults:
    """Does one fault after another, and tells of each when it is over."""

    def __init__(
        self,
        replicas: list[Replica],
        valkey: Valkey,
        seed: int,
        only: list[str] | None,
        tell: Callable[[Fault], None],
    ) -> None:
        self._replicas = replicas
        self._valkey = valkey
        self._rng = random.Random(f"{seed}-faults")
        self.done: list[Fault] = []
        self._chosen = sorted(only or KINDS)
        self._end = 0.0
        self._tell = tell

    async def run(self, seconds: float) -> None:
        """Rounds of all kinds in a new order each; ends before `seconds` are over, or if one stays ill."""
        end = self._end = time.monotonic() + seconds
        waiting: list[str] = []
        while True:
            waiting = waiting or self._rng.sample(self._chosen, len(self._chosen))
            await asyncio.sleep(self._rng.uniform(0.3, 1.2))
            if time.monotonic() + LEAST > end:
                return
            kind = waiting.pop()
            begun = time.monotonic()
            await KINDS[kind](self)
            ended = time.monotonic()
            well = await self.recovered()
            self.done.append(Fault(kind, begun, ended, time.monotonic(), well))
            self._tell(self.done[-1])
            if not well:
                return

    async def recovered(self) -> bool:
        """Waits until all replicas are well, for a while, and says if they are."""
        end = time.monotonic() + RECOVERY
        for replica in self._replicas:
            while not await asyncio.to_thread(replica.well):
                if time.monotonic() > end:
                    return False
                await asyncio.sleep(0.05)
        return True

    async def _kill_replica(self) -> None:
        replica = self._rng.choice(self._replicas)
        replica.kill()
        await asyncio.to_thread(replica.start)

    async def _freeze_replica(self) -> None:
        replica = self._rng.choice(self._replicas)
        replica.proxy.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._rng.uniform(0.5, 4.0))
        finally:
            replica.proxy.send(signal.SIGCONT)

    async def _freeze_over_a_loss(self) -> None:
        """A replica wakes up to a Redis that is another one, or empty."""
        replica = self._rng.choice(self._replicas)
        replica.proxy.send(signal.SIGSTOP)
        try:
            await self._rng.choice((self._restart_redis, self._flush))()
            await asyncio.sleep(self._rng.uniform(0.0, 3.5))
        finally:
            replica.proxy.send(signal.SIGCONT)

    async def _freeze_redis(self) -> None:
        self._valkey.pause()
        try:
            await asyncio.sleep(self._rng.uniform(0.1, 1.5))
        finally:
            self._valkey.resume()

    async def _restart_redis(self) -> None:
        self._valkey.kill()
        await asyncio.sleep(self._rng.uniform(0.0, 0.7))
        await asyncio.to_thread(self._valkey.start)
        for replica in self._replicas:
            replica.admit()

    async def _kill_connections(self) -> None:
        kind = self._rng.choice(("pubsub", "normal"))
        await asyncio.to_thread(self._valkey.ask, "CLIENT", "KILL", "TYPE", kind)

    async def _cut_off_replica(self) -> None:
        replica = self._rng.choice(self._replicas)
        await asyncio.to_thread(replica.cut_off)
        try:
            left = self._end - WELL - time.monotonic()
            await asyncio.sleep(min(left, self._rng.uniform(*self._rng.choice(CUTS))))
        finally:
            await asyncio.to_thread(replica.admit)

    async def _throw_out_keys(self) -> None:
        """As a server at its `maxmemory` does it, whichever keys it takes."""
        used = (await asyncio.to_thread(self._valkey.ask, "INFO", "memory"))["used_memory"]
        try:
            for name, value in (("maxmemory-policy", "allkeys-random"), ("maxmemory", int(used) - ROOM)):
                await asyncio.to_thread(self._valkey.ask, "CONFIG", "SET", name, value)
            await asyncio.sleep(self._rng.uniform(0.05, 0.5))
        finally:
            await asyncio.to_thread(self._valkey.ask, "CONFIG", "SET", "maxmemory", 0)

    async def _flush(self) -> None:
        await asyncio.to_thread(self._valkey.ask, "FLUSHALL")


KINDS: dict[str, Callable[[Faults], Awaitable[None]]] = {
    "kill replica": Faults._kill_replica,
    "freeze replica": Faults._freeze_replica,
    "freeze replica over a loss": Faults._freeze_over_a_loss,
    "freeze redis": Faults._freeze_redis,
    "restart redis": Faults._restart_redis,
    "kill connections": Faults._kill_connections,
    "cut off replica": Faults._cut_off_replica,
    "throw out keys": Faults._throw_out_keys,
    "flush": Faults._flush,
}
