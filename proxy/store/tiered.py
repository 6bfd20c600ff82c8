"""Memory in front of a shared store, and what keeps answering when the shared store does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Entry, Evicted, Found, Looked, Reason, Ref, Ticket
from proxy.core.ports import Store
from proxy.store.breaker import Breaker
from proxy.store.memory import MemoryStats, MemoryStore
from proxy.store.pending import Alias, Batch, Pending

_log = logging.getLogger("proxy.store")

# Small enough for one deadline.
_REPLAY = 256


class SharedStore(Store, Protocol):
    """The store behind; its methods raise StoreError where it cannot answer."""

    @property
    def stats(self) -> Any:
        """Its counters."""
        ...

    async def run_id(self) -> str:
        """Names the server's process; "" where it does not say."""
        ...


@dataclass(frozen=True, slots=True)
class TieredStats:
    """The tiers' counters; `outages` since the start, `pending` evictions now, `restarts` noticed."""

    memory: MemoryStats
    redis: Any
    outages: int
    restarts: int
    pending: int


class TieredStore:
    """A Store that never raises. Times are seconds.

    A copy in memory lives `memory_ttl`; while the shared store is not trusted, memory is the cache and what
    is put there lives `fallback_ttl`. The shared store is distrusted from its first failed eviction, or from
    `failures` other failures in a row; every `probe_interval` it is asked whether it is back. It is trusted
    again once all evictions of the outage are delivered (design §7.6).
    """

    def __init__(
        self,
        memory: MemoryStore,
        redis: SharedStore,
        *,
        memory_ttl: float = 1.0,
        fallback_ttl: float = 5.0,
        probe_interval: float = 0.5,
        failures: int = 3,
        pending_limit: int = 10_000,
    ) -> None:
        self.memory = memory
        self.redis = redis
        self._memory_ttl = memory.max_ttl = memory_ttl
        self._fallback_ttl = fallback_ttl
        self._probe_interval = probe_interval
        self._breaker = Breaker(failures)
        self._pending = Pending(pending_limit)
        self._run_id = ""
        self._restarts = 0
        # Tickets up to this one are from before the last return, and the shared store must not see them.
        self._returned = 0
        self._watcher: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[Evicted]] = set()
        self._closed = False

    @property
    def stats(self) -> TieredStats:
        """Counters of both tiers."""
        pending = len(self._pending)
        return TieredStats(self.memory.stats, self.redis.stats, self._breaker.opened, self._restarts, pending)

    async def get(self, ref: Ref) -> Looked:
        """See Store."""
        looked: Looked = self.memory.look(ref)
        if isinstance(looked, Found):
            return looked
        self._watch()
        if self._breaker.open:
            return Absent(Reason.STORE_DOWN) if looked.reason is Reason.ABSENT else looked
        # Taken before the read: an eviction in between refuses the copy.
        local = self.memory.begin(ref)
        try:
            looked = await self.redis.get(ref)
        except StoreError as error:
            self._failed(error)
            return Absent(Reason.STORE_DOWN)
        self._breaker.succeeded()
        if isinstance(looked, Found):
            self.memory.put(ref, looked.entry, local)
        return looked

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """See Store. Without `seq` the answer can be stored in memory only."""
        self._watch()
        local = self.memory.begin(ref)
        if self._breaker.open:
            return Ticket(local=local)
        try:
            ticket = await self.redis.ticket(ref)
        except StoreError as error:
            self._failed(error)
            return Ticket(local=local)
        self._breaker.succeeded()
        return replace(ticket, local=local)

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store. What the shared store refuses is not kept in memory either."""
        before = ticket.local is None or ticket.local.seq <= self._returned
        if self._breaker.open or ticket.seq is None or before:
            return self.memory.put(ref, entry, ticket.local)
        try:
            reason = await self.redis.fill(ref, entry, ticket)
        except StoreError as error:
            self._failed(error)
            return self.memory.put(ref, entry, ticket.local)
        self._breaker.succeeded()
        if reason is None:
            self.memory.put(ref, entry, ticket.local)
        return reason

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[Alias] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store. It goes on to its end where the caller is cancelled: the write has happened."""
        self._watch()
        batch = Batch(tuple(user_ids), tuple(aliases), everything)
        task = asyncio.create_task(self._deliver(batch))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        return await asyncio.shield(task)

    async def _deliver(self, batch: Batch) -> Evicted:
        here = self._drop(batch)
        if self._breaker.open:
            self._pending.add(batch)
            return replace(here, delivered=False)
        try:
            there = await self._tell(batch)
        except StoreError as error:
            self._pending.add(batch)
            self._failed(error, write=True)
            self._drop(batch)
            return replace(here, delivered=False)
        # A read that began before Redis was told may have brought the old copy back.
        self._drop(batch)
        self._breaker.succeeded()
        return Evicted(max(here.entries, there.entries), max(here.aliases, there.aliases))

    def _drop(self, batch: Batch) -> Evicted:
        return self.memory.drop(batch.users, batch.aliases, everything=batch.everything)

    async def _tell(self, batch: Batch) -> Evicted:
        return await self.redis.evict(batch.users, batch.aliases, everything=batch.everything)

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store. Memory is asked only where the shared store cannot be: it may know a former owner."""
        if not self._breaker.open:
            try:
                return await self.redis.resolve(key, value)
            except StoreError as error:
                self._failed(error)
        return self.memory.lead(key, value)

    def _failed(self, error: StoreError, *, write: bool = False) -> None:
        if self._breaker.failed(write=write):
            self.memory.max_ttl = self._fallback_ttl
            _log.warning("the shared store is not used until it is back: %s", error)

    def _watch(self) -> None:
        if self._watcher is None and not self._closed:
            self._watcher = asyncio.create_task(self._probe_for_ever())
            self._watcher.add_done_callback(self._watcher_died)

    def _watcher_died(self, task: asyncio.Task[None]) -> None:
        if self._closed:
            return
        error = None if task.cancelled() else task.exception()
        _log.error("the watch over the shared store died: %s", type(error).__name__ if error else "cancelled")
        # The next operation starts another, and so does the timer where there is none.
        self._watcher = None
        task.get_loop().call_later(self._probe_interval, self._watch)

    async def _probe_for_ever(self) -> None:
        while True:
            with suppress(StoreError):
                await self._probe()
            await asyncio.sleep(self._probe_interval)

    async def _probe(self) -> None:
        """Raises StoreError where the shared store is not back yet, or away again."""
        try:
            run_id = await self.redis.run_id()
            if self._run_id and run_id and run_id != self._run_id:
                # Another process may have started from a copy that lacks the last evictions.
                self._restarts += 1
                self._pending.add(Batch(everything=True))
                self._failed(StoreError("another server process answers"), write=True)
            self._run_id = run_id or self._run_id
            if self._breaker.open:
                await self._return()
        except StoreError as error:
            self._failed(error)
            raise

    async def _return(self) -> None:
        delivered = 0
        while len(self._pending):
            batch = self._pending.take(_REPLAY)
            try:
                await self._tell(batch)
            except BaseException:
                self._pending.add(batch)
                raise
            delivered += len(batch.users) + len(batch.aliases) + batch.everything
        # Nothing awaits from here on, so no eviction can slip in between.
        self._drop(Batch(everything=True))
        self._returned = self.memory.seq
        self.memory.max_ttl = self._memory_ttl
        self._breaker.close()
        _log.info("the shared store is back, %d evictions were delivered late", delivered)

    async def health(self) -> Mapping[str, Any]:
        """See Store; the shared store's latency, None while it is not asked."""
        latency = None
        if not self._breaker.open:
            latency = (await self.redis.health())["latency_ms"]
        return {
            "backend": "tiered",
            "status": "degraded" if latency is None else "ok",
            "latency_ms": latency,
            "breaker": self._breaker.state,
            "pending_evictions": len(self._pending),
            "users_in_memory": self.memory.stats.users,
        }

    async def close(self) -> None:
        """See Store. Evictions that are still to be delivered get a last try."""
        if self._closed:
            return
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        if len(self._pending):
            with suppress(StoreError):
                await self._probe()
        if len(self._pending):
            _log.error("%d evictions could not be delivered", len(self._pending))
        await self.redis.close()
        await self.memory.close()
