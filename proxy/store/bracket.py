"""A write's bracket: the fence before it, the outcome after it, over memory, Redis and the other replicas."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

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

_log = logging.getLogger("proxy.store")
_Result = TypeVar("_Result")


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
        patience: float = 0.0,
    ) -> None:
        self.memory = memory
        self.redis = redis
        self._feed = feed
        self.recovery = recovery
        self._reject = reject
        self._patience = patience
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # Of writes under way, by name, as they were raised; only these are renewed.
        self._under_way: dict[str, Fence] = {}
        # Of writes that ended when the shared store could not be told. It lifts them before it is trusted.
        self._orphans: deque[Fence] = deque(maxlen=10_000)
        # Of writes under way, raised while the shared store could not be told of them.
        self._unraised: dict[str, Fence] = {}
        # Fences as they stand, where their aliases turned out to lead to more users than the writer knew.
        self._widened: dict[str, Fence] = {}
        self._renewing: dict[str, asyncio.Task[Any]] = {}
        self.deliveries: set[asyncio.Task[Any]] = set()

    @property
    def _life(self) -> float:
        """What is left before a renewal, should this process die then, covers all that upstream may take."""
        return max(LIFE, 1.6 * self._patience)

    async def fence(self, batch: Batch) -> Fence:
        """Returns when no replica can answer what `batch` names from memory."""
        fence = await self.memory.fence(batch)
        self._under_way[fence.name] = fence
        try:
            await self._raise(fence)
        except StoreError as error:
            # A fence that could not be set is an eviction that was not delivered. Should a server that hung
            # set it after all, it is to be lifted when that is back, or the user is cold until it runs out.
            self.recovery.pending.add(batch)
            self.recovery.failed(error, write=True)
            fence = self._unraised[fence.name] = self._widened.pop(fence.name, fence)
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
        if self.recovery.deaf:
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

    async def _raise_there(self, fence: Fence, tries: int = 3) -> None:
        told = []
        if self._feed is not None and fence.batch.named:
            told.append(self._feed.announcement(fence.batch, fence.name, self._life))
        loads = self.redis.link.loads
        replies, leads = await self.redis.writes.fence(
            fence, *(one.command for one in told), seconds=self._life
        )
        self._renew_later(fence)
        for one, reply in zip(told, replies, strict=True):
            await one.heard(reply)
        if loads != self.redis.link.loads:
            # The announcement may have come before the fence, and a reader between the two of them.
            await self._announce(fence.batch)
        await self._widen(fence, leads, tries)

    async def _widen(self, fence: Fence, leads: frozenset[str], tries: int) -> None:
        """Whoever has a key that the write is about to give away is fenced as well."""
        if tries and not leads <= set(fence.batch.users) and fence.name in self._under_way:
            fence = self._widened[fence.name] = self.memory.widened(fence, sorted(leads))
            await self._raise_there(fence, tries - 1)

    def _renew_later(self, fence: Fence) -> None:
        if fence.name not in self._under_way:
            # It ended while its fence was being raised; renewed, that would stand for ever.
            return
        self._under_way[fence.name] = fence
        self._forget_renewal(fence)
        loop = asyncio.get_running_loop()
        self._timers[fence.name] = loop.call_later(self._life / 3, self._begin_renewal, fence)

    def _begin_renewal(self, fence: Fence) -> None:
        task = self._renewing[fence.name] = self._in_background(self._renew(fence))
        task.add_done_callback(lambda _: self._renewing.pop(fence.name, None))

    def tell_again(self) -> None:
        """Tells all replicas of the writes under way: of their fences one that has begun since then knows but
        what Redis holds, which may be lost."""
        for name, fence in self._under_way.items():
            if name in self._timers and name not in self._renewing:
                self._begin_renewal(fence)

    async def _renew(self, fence: Fence) -> None:
        """A write takes longer than a third of a fence's life: give it another one."""
        if fence.name not in self._under_way:
            return
        self._renew_later(fence)
        try:
            await self.redis.writes.fence(fence, *self._standing(fence, self._life), seconds=self._life)
        except StoreError as error:
            self.recovery.pending.add(fence.batch)
            self.recovery.failed(error, write=True)

    def _forget_renewal(self, fence: Fence) -> None:
        renewal = self._timers.pop(fence.name, None)
        if renewal is not None:
            renewal.cancel()

    async def settle(self, fence: Fence, batch: Batch | None, linger: float) -> Evicted:
        """Goes on to its end where the caller is cancelled."""
        self._ended(fence)
        return await asyncio.shield(self._in_background(self._settle(fence, batch, linger)))

    def _ended(self, fence: Fence) -> None:
        self._under_way.pop(fence.name, None)
        self._unraised.pop(fence.name, None)
        self._forget_renewal(fence)

    async def _settle(self, fence: Fence, batch: Batch | None, linger: float) -> Evicted:
        if (renewal := self._renewing.get(fence.name)) is not None:
            # On its way to another server it could come in after the lift, and the fence would stand again.
            await asyncio.wait((renewal,))
        fence = self._widened.pop(fence.name, fence)
        if batch is None:
            # Nothing was lost; should this fail, the fence evicts when its life is over.
            await self._lift(fence)
            return await self.memory.settle(fence, None)
        evicted = await self._deliver(batch, NO_FENCE if linger else fence)
        if not (evicted.delivered or linger):
            self._orphans.append(fence)
        if linger and not await self._lingers(fence, batch, linger):
            loop = asyncio.get_running_loop()
            end = loop.call_later(linger, lambda: self._in_background(self._over(fence, batch)))
            self._timers[fence.name] = end
        await self.memory.settle(fence, batch, linger=linger)
        return evicted

    async def _lingers(self, fence: Fence, batch: Batch, seconds: float) -> bool:
        """Whether the shared store was told that the fence stands for so long, and evicts at its end."""
        if self.recovery.deaf:
            return False
        if fence.batch.unnamed:
            # A note that is shared does not end in time, but does should this process die before.
            seconds = self._life
        try:
            await self.redis.writes.fence(fence, *self._standing(fence, seconds), seconds=seconds)
        except StoreError as error:
            self.recovery.pending.add(batch)
            self.recovery.failed(error, write=True)
            return False
        return not fence.batch.unnamed

    async def _over(self, fence: Fence, batch: Batch) -> None:
        """The end of a fence that lingered, where the shared store does not see to it."""
        self._timers.pop(fence.name, None)
        if not (await self._deliver(batch, fence)).delivered:
            self._orphans.append(fence)

    def take_over(self, claims: Mapping[bytes, bytes]) -> None:
        """The proxy of a write died before it could say whom it had changed, or may have: everybody goes."""
        why = "nobody ended a write of users that nobody could name" if claims else "the members were lost"
        _log.warning("everybody is evicted: %s", why)
        self._in_background(self._take_over(claims))

    async def _take_over(self, claims: Mapping[bytes, bytes]) -> None:
        if (await self._deliver(Batch(everything=True), NO_FENCE)).delivered:
            try:
                await self.redis.writes.redeem(claims, self.recovery.run_id)
            except StoreError as error:
                self.recovery.failed(error)

    async def _lift(self, fence: Fence) -> None:
        if self.recovery.deaf:
            self._orphans.append(fence)
            return
        try:
            await self.redis.writes.lift(fence, *self._standing(fence, 0.0))
        except StoreError as error:
            self._orphans.append(fence)
            self.recovery.failed(error)

    async def evict(self, batch: Batch) -> Evicted:
        """An eviction without a write of ours; goes on to its end where the caller is cancelled."""
        return await asyncio.shield(self._in_background(self._deliver(batch, NO_FENCE)))

    def _in_background(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self.deliveries.add(task)
        task.add_done_callback(self.deliveries.discard)
        return task

    async def _deliver(self, batch: Batch, fence: Fence) -> Evicted:
        here = self.memory.drop_batch(batch)
        if self.recovery.deaf:
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
        if fence.batch.unnamed:
            # Named at last, and everybody has heard: the note goes.
            self._in_background(self._lift(Fence(fence.name, Batch(unnamed=True))))
        return Evicted(max(here.entries, there.entries), max(here.aliases, there.aliases))

    async def tell(self, batch: Batch) -> None:
        """Evicts in Redis and in all replicas' memories. Raises StoreError."""
        await self.redis.writes.settle(batch, NO_FENCE)
        await self._announce(batch)

    def _standing(self, fence: Fence, seconds: float) -> tuple[Command, ...]:
        # A fence around nobody was never told of.
        if self._feed is None or not fence.batch.named:
            return ()
        return (self._feed.standing(fence, seconds),)

    async def _announce(self, batch: Batch) -> None:
        if self._feed is not None:
            announcement = self._feed.announcement(batch)
            (reply,), _ = await self.redis.writes.fence(NO_FENCE, announcement.command)
            await announcement.heard(reply)

    async def close(self) -> None:
        """Waits for the deliveries under way; fences that stand are left to end by themselves."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self.deliveries, return_exceptions=True)
