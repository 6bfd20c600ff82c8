"""Memory in front of a shared store, and what keeps answering when the shared store does not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Batch, Entry, Evicted, Fence, Found, Looked, Reason, Ref, Ticket
from proxy.core.ports import Membership
from proxy.store.fences import LIFE
from proxy.store.memory import MemoryStore
from proxy.store.nobodies import Alias
from proxy.store.recovery import Recovery
from proxy.store.redis import RedisStore
from proxy.store.slot import TieredStats
from proxy.store.writes import NO_FENCE


class TieredStore:
    """A Store that never raises, but for `fence` with `reject`. Times are seconds.

    Memory answers while `feed` proves that this replica hears of every write. Without a feed a copy in
    memory lives `memory_ttl`. While the shared store is not trusted, memory is the cache and lives
    `fallback_ttl`; see Recovery for how trust goes and comes. `reject`: writes are refused meanwhile.
    """

    def __init__(
        self,
        memory: MemoryStore,
        redis: RedisStore,
        *,
        feed: Membership | None = None,
        memory_ttl: float = 1.0,
        fallback_ttl: float = 5.0,
        probe_interval: float = 0.5,
        failures: int = 3,
        pending_limit: int = 10_000,
        reject: bool = False,
    ) -> None:
        self.memory = memory
        self.redis = redis
        self._feed = feed
        self._memory_ttl = memory.max_ttl = None if feed is not None else memory_ttl
        self._fallback_ttl = fallback_ttl
        self._reject = reject
        self.recovery = Recovery(
            run_id=lambda: redis.run_id(),
            deliver=self._tell,
            opened=self._went_down,
            returned=self._came_back,
            probe_interval=probe_interval,
            failures=failures,
            pending_limit=pending_limit,
        )
        # Tickets up to this one are from before the last return, and the shared store must not see them.
        self._returned = 0
        self._deliveries: set[asyncio.Task[Evicted]] = set()
        self._renewals: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    @property
    def stats(self) -> TieredStats:
        """Counters of both tiers."""
        ladder = self.recovery
        pending = len(ladder.pending)
        return TieredStats(
            self.memory.stats, self.redis.stats, ladder.breaker.opened, ladder.restarts, pending
        )

    @property
    def _remembers(self) -> bool:
        """May memory be used now? Asked each time, as a process that was frozen must find out here."""
        return self._feed is None or self._feed.alive or self.recovery.down

    async def get(self, ref: Ref) -> Looked:
        """See Store."""
        looked: Looked = self.memory.look(ref) if self._remembers else Absent()
        if isinstance(looked, Found) or (looked.reason is Reason.FENCED):
            return looked
        self._watch()
        if self.recovery.down:
            return Absent(Reason.STORE_DOWN) if looked.reason is Reason.ABSENT else looked
        # Taken before the read: an eviction in between refuses the copy.
        local = self.memory.begin(ref)
        try:
            looked = await self.redis.get(ref)
        except StoreError as error:
            self.recovery.failed(error)
            return Absent(Reason.STORE_DOWN)
        self.recovery.breaker.succeeded()
        if isinstance(looked, Found) and self._remembers:
            self.memory.put(ref, looked.entry, local)
        return looked

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """See Store. Without `seq` the answer can be stored in memory only."""
        self._watch()
        local = self.memory.begin(ref)
        if self.recovery.down:
            return Ticket(local=local)
        try:
            ticket = await self.redis.ticket(ref)
        except StoreError as error:
            self.recovery.failed(error)
            return Ticket(local=local)
        self.recovery.breaker.succeeded()
        return replace(ticket, local=local)

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store. What the shared store refuses is not kept in memory either."""
        before = ticket.local is None or ticket.local.seq <= self._returned
        if not (self.recovery.down or ticket.seq is None or before):
            try:
                reason = await self.redis.fill(ref, entry, ticket)
            except StoreError as error:
                self.recovery.failed(error)
            else:
                self.recovery.breaker.succeeded()
                if reason is None and self._remembers:
                    self.memory.put(ref, entry, ticket.local)
                return reason
        if self._feed is not None and not self.recovery.down:
            # A failure that is not an outage yet: a copy that other replicas' writes can't reach is not kept.
            return Reason.STORE_DOWN
        return self.memory.put(ref, entry, ticket.local)

    async def fence(self, batch: Batch) -> Fence:
        """See Store. Returns when no replica can answer what `batch` names from memory."""
        self._watch()
        fence = await self.memory.fence(batch)
        try:
            await self._raise(fence)
        except StoreError as error:
            # A fence that could not be set is an eviction that was not delivered.
            self.recovery.pending.add(batch)
            self.recovery.failed(error, write=True)
            if self._reject:
                await self.memory.settle(fence, None)
                raise
        return fence

    async def _raise(self, fence: Fence) -> None:
        if self.recovery.down:
            if self._reject:
                raise StoreError("the shared store can't be told of this write")
            return
        told = [] if self._feed is None else [self._feed.announcement(fence.batch)]
        replies = await self.redis.writes.fence(fence, *(one.command for one in told))
        self._renew_later(fence)
        for one, reply in zip(told, replies, strict=True):
            await one.heard(reply)

    def _renew_later(self, fence: Fence) -> None:
        loop = asyncio.get_running_loop()
        self._renewals[fence.name] = loop.call_later(
            LIFE / 3, lambda: self._in_background(self._renew(fence))
        )

    async def _renew(self, fence: Fence) -> Evicted:
        """A write takes longer than a third of a fence's life: give it another one."""
        if fence.name in self._renewals:
            self._renew_later(fence)
            try:
                await self.redis.writes.fence(fence)
            except StoreError as error:
                self.recovery.pending.add(fence.batch)
                self.recovery.failed(error, write=True)
        return Evicted()

    async def settle(self, fence: Fence, batch: Batch | None, *, linger: float = 0.0) -> Evicted:
        """See Store. It goes on to its end where the caller is cancelled: the write has happened."""
        renewal = self._renewals.pop(fence.name, None)
        if renewal is not None:
            renewal.cancel()
        return await asyncio.shield(self._in_background(self._settle(fence, batch, linger)))

    async def _settle(self, fence: Fence, batch: Batch | None, linger: float) -> Evicted:
        if batch is None:
            # Nothing was lost; should this fail, the fence evicts when its life is over.
            if not self.recovery.down:
                try:
                    await self.redis.writes.lift(fence)
                except StoreError as error:
                    self.recovery.failed(error)
            return await self.memory.settle(fence, None)
        evicted = await self._deliver(batch, NO_FENCE if linger else fence)
        if linger and not self.recovery.down:
            try:
                await self.redis.writes.fence(fence, seconds=linger)
            except StoreError as error:
                self.recovery.pending.add(batch)
                self.recovery.failed(error, write=True)
        await self.memory.settle(fence, batch, linger=linger)
        return evicted

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[Alias] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store. It goes on to its end where the caller is cancelled."""
        self._watch()
        batch = Batch(tuple(user_ids), tuple(aliases), everything)
        return await asyncio.shield(self._in_background(self._deliver(batch, NO_FENCE)))

    def _in_background(self, work: Coroutine[Any, Any, Evicted]) -> asyncio.Task[Evicted]:
        task = asyncio.create_task(work)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        return task

    async def _deliver(self, batch: Batch, fence: Fence) -> Evicted:
        here = self.memory.drop_batch(batch)
        if self.recovery.down:
            self.recovery.pending.add(batch)
            return replace(here, delivered=False)
        try:
            there, held = await self.redis.writes.settle(batch, fence)
            # Under a fence that held all the time nobody can have kept anything of its users.
            if not (held and fence.batch.covers(batch)):
                await self._announce(batch)
        except StoreError as error:
            self.recovery.pending.add(batch)
            self.recovery.failed(error, write=True)
            self.memory.drop_batch(batch)
            return replace(here, delivered=False)
        # A read that began before Redis was told may have brought the old copy back.
        self.memory.drop_batch(batch)
        self.recovery.breaker.succeeded()
        return Evicted(max(here.entries, there.entries), max(here.aliases, there.aliases))

    async def _tell(self, batch: Batch) -> None:
        await self.redis.writes.settle(batch, NO_FENCE)
        await self._announce(batch)

    async def _announce(self, batch: Batch) -> None:
        if self._feed is not None:
            announcement = self._feed.announcement(batch)
            (reply,) = await self.redis.writes.fence(NO_FENCE, announcement.command)
            await announcement.heard(reply)

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store. Memory is asked only where the shared store cannot be: it may know a former owner."""
        if not self.recovery.down:
            try:
                return await self.redis.resolve(key, value)
            except StoreError as error:
                self.recovery.failed(error)
        return self.memory.lead(key, value)

    def _watch(self) -> None:
        self.recovery.watch()
        if self._feed is not None and not self._closed:
            self._feed.start()

    def _went_down(self) -> None:
        self.memory.max_ttl = self._fallback_ttl
        self.memory.cap(self._fallback_ttl)

    def _came_back(self) -> None:
        self.memory.drop_batch(Batch(everything=True))
        self._returned = self.memory.seq
        self.memory.max_ttl = self._memory_ttl

    async def health(self) -> Mapping[str, Any]:
        """See Store; the shared store's latency, None while it is not asked."""
        latency = None
        if not self.recovery.down:
            latency = (await self.redis.health())["latency_ms"]
        return {
            "backend": "tiered",
            "status": "degraded" if latency is None else "ok",
            "latency_ms": latency,
            "breaker": self.recovery.breaker.state,
            "pending_evictions": len(self.recovery.pending),
            "users_in_memory": self.memory.stats.users,
            **({} if self._feed is None else {"feed": dict(self._feed.health())}),
        }

    async def close(self) -> None:
        """See Store. Evictions that are still to be delivered get a last try."""
        if self._closed:
            return
        self._closed = True
        for renewal in self._renewals.values():
            renewal.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self.recovery.close()
        if self._feed is not None:
            await self._feed.close()
        await self.redis.close()
        await self.memory.close()
