"""A write's bracket: the fence before it, the outcome after it, over memory, Redis and the other replicas."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace

from proxy.core.errors import StoreError
from proxy.core.model import Batch, Evicted, Fence
from proxy.core.ports import Membership
from proxy.store.fences import LIFE
from proxy.store.link import Command
from proxy.store.memory import MemoryStore
from proxy.store.recovery import Recovery
from proxy.store.redis import RedisStore
from proxy.store.writes import NO_FENCE


class Bracket:
    """What TieredStore does around writes; see Store for the promises. `reject`: no write without Redis."""

    def __init__(
        self,
        memory: MemoryStore,
        redis: RedisStore,
        feed: Membership | None,
        recovery: Recovery,
        *,
        reject: bool,
    ) -> None:
        self.memory = memory
        self.redis = redis
        self._feed = feed
        self.recovery = recovery
        self._reject = reject
        self.deliveries: set[asyncio.Task[Evicted]] = set()
        self._renewals: dict[str, asyncio.TimerHandle] = {}
        # Of writes under way; only theirs are renewed.
        self._under_way: set[str] = set()
        # Of writes that ended when the shared store could not be told. It lifts them before it is trusted.
        self._orphans: deque[Fence] = deque(maxlen=10_000)
        # Of writes under way, raised while the shared store could not be told of them.
        self._unraised: dict[str, Fence] = {}

    async def fence(self, batch: Batch) -> Fence:
        """Returns when no replica can answer what `batch` names from memory."""
        fence = await self.memory.fence(batch)
        self._under_way.add(fence.name)
        try:
            await self._raise(fence)
        except StoreError as error:
            # A fence that could not be set is an eviction that was not delivered. Should a server that hung
            # set it after all, it is to be lifted when that is back, or the user is cold until it runs out.
            self.recovery.pending.add(batch)
            self.recovery.failed(error, write=True)
            self._unraised[fence.name] = fence
            if self._reject:
                self._ended(fence)
                self._orphans.append(fence)
                await self.memory.settle(fence, None)
                raise
        return fence

    async def _raise(self, fence: Fence) -> None:
        if fence.batch == Batch():
            # Nobody is known yet; what the write turns out to have changed is announced with its outcome.
            return
        if self.recovery.down:
            if self._reject:
                raise StoreError("the shared store can't be told of this write")
            self._unraised[fence.name] = fence
            return
        await self._raise_there(fence)

    async def raise_again(self) -> bool:
        """Raises the fences of writes that began without the shared store, and lifts those of writes that
        ended without it once their evictions are delivered; says if there are more by now.

        Raises StoreError.
        """
        for fence in list(self._unraised.values()):
            await self._raise_there(fence)
            # A write that has ended meanwhile has evicted, or is to; its fence must not stay.
            if self._unraised.pop(fence.name, None) is None:
                self._orphans.append(fence)
        while self._orphans and not len(self.recovery.pending):
            fence = self._orphans.popleft()
            try:
                await self.redis.writes.lift(fence, *self._standing(fence, 0.0))
            except StoreError:
                self._orphans.append(fence)
                raise
        return bool(self._unraised or self._orphans)

    async def _raise_there(self, fence: Fence) -> None:
        told = [] if self._feed is None else [self._feed.announcement(fence.batch, fence.name, LIFE)]
        loads = self.redis.link.loads
        replies = await self.redis.writes.fence(fence, *(one.command for one in told))
        self._renew_later(fence)
        for one, reply in zip(told, replies, strict=True):
            await one.heard(reply)
        if loads != self.redis.link.loads:
            # The announcement may have come before the fence, and a reader between the two of them.
            await self._announce(fence.batch)

    def _renew_later(self, fence: Fence) -> None:
        if fence.name not in self._under_way:
            # It ended while its fence was being raised; renewed, that would stand for ever.
            return
        loop = asyncio.get_running_loop()
        self._renewals[fence.name] = loop.call_later(
            LIFE / 3, lambda: self._in_background(self._renew(fence))
        )

    async def _renew(self, fence: Fence) -> Evicted:
        """A write takes longer than a third of a fence's life: give it another one."""
        if fence.name in self._renewals:
            self._renew_later(fence)
            try:
                await self.redis.writes.fence(fence, *self._standing(fence, LIFE))
            except StoreError as error:
                self.recovery.pending.add(fence.batch)
                self.recovery.failed(error, write=True)
        return Evicted()

    async def settle(self, fence: Fence, batch: Batch | None, linger: float) -> Evicted:
        """Goes on to its end where the caller is cancelled."""
        self._ended(fence)
        return await asyncio.shield(self._in_background(self._settle(fence, batch, linger)))

    def _ended(self, fence: Fence) -> None:
        self._under_way.discard(fence.name)
        self._unraised.pop(fence.name, None)
        renewal = self._renewals.pop(fence.name, None)
        if renewal is not None:
            renewal.cancel()

    async def _settle(self, fence: Fence, batch: Batch | None, linger: float) -> Evicted:
        if batch is None:
            # Nothing was lost; should this fail, the fence evicts when its life is over.
            try:
                if self.recovery.down:
                    self._orphans.append(fence)
                else:
                    await self.redis.writes.lift(fence, *self._standing(fence, 0.0))
            except StoreError as error:
                self._orphans.append(fence)
                self.recovery.failed(error)
            return await self.memory.settle(fence, None)
        evicted = await self._deliver(batch, NO_FENCE if linger else fence)
        if not (evicted.delivered or linger):
            self._orphans.append(fence)
        if linger and not self.recovery.down:
            try:
                told = self._standing(fence, linger)
                await self.redis.writes.fence(fence, *told, seconds=linger)
            except StoreError as error:
                self.recovery.pending.add(batch)
                self.recovery.failed(error, write=True)
        await self.memory.settle(fence, batch, linger=linger)
        return evicted

    async def evict(self, batch: Batch) -> Evicted:
        """An eviction without a write of ours; goes on to its end where the caller is cancelled."""
        return await asyncio.shield(self._in_background(self._deliver(batch, NO_FENCE)))

    def _in_background(self, work: Coroutine[Any, Any, Evicted]) -> asyncio.Task[Evicted]:
        task = asyncio.create_task(work)
        self.deliveries.add(task)
        task.add_done_callback(self.deliveries.discard)
        return task

    async def _deliver(self, batch: Batch, fence: Fence) -> Evicted:
        here = self.memory.drop_batch(batch)
        if self.recovery.down:
            self.recovery.pending.add(batch)
            return replace(here, delivered=False)
        try:
            lifted = () if fence is NO_FENCE else self._standing(fence, 0.0)
            there, held = await self.redis.writes.settle(batch, fence, *lifted)
            # Under a fence that held all the time nobody can have kept anything of its users.
            if not held:
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

    async def tell(self, batch: Batch) -> None:
        """Evicts in Redis and in all replicas' memories. Raises StoreError."""
        await self.redis.writes.settle(batch, NO_FENCE)
        await self._announce(batch)

    def _standing(self, fence: Fence, seconds: float) -> tuple[Command, ...]:
        # A fence around nobody was never told of.
        if self._feed is None or fence.batch == Batch():
            return ()
        return (self._feed.standing(fence, seconds),)

    async def _announce(self, batch: Batch) -> None:
        if self._feed is not None:
            announcement = self._feed.announcement(batch)
            (reply,) = await self.redis.writes.fence(NO_FENCE, announcement.command)
            await announcement.heard(reply)

    async def close(self) -> None:
        """Waits for the deliveries under way; fences that stand are left to end by themselves."""
        for renewal in self._renewals.values():
            renewal.cancel()
        await asyncio.gather(*self.deliveries, return_exceptions=True)
