"""Was this token made bad, though it proves itself? Asked of memory, then of Redis, and told to both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.core.errors import StoreError
from proxy.core.identity import good_ref
from proxy.core.model import Absent, Batch, Found, Reason
from proxy.core.ports import Membership, NotAtHandError
from proxy.store.cutoffs import RedisCutoffs, outdated
from proxy.store.memory import MemoryStore
from proxy.store.recovery import Recovery
from proxy.store.redis import RedisStore
from proxy.store.revocations import RedisRevocations, noted

# How long the replicas are given to tell a Redis that lost its data what they know, in seconds.
TELLING = 2.0


class TokenWords:
    """The part of TieredStore that is about tokens; see Store for the promises.

    `remembers`: may memory be used now? What Redis can't be told now it is told before it is trusted again.
    """

    def __init__(
        self,
        memory: MemoryStore,
        redis: RedisStore,
        recovery: Recovery,
        remembers: Callable[[], bool],
        feed: Membership | None,
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._recovery = recovery
        self._remembers = remembers
        self._now, self._monotonic = memory.clocks
        self._revocations = RedisRevocations(redis.link, feed, now=self._now)
        self._cutoffs = RedisCutoffs(redis.link, feed, now=self._now)
        self._doubtful_until = 0.0
        self._telling: asyncio.Task[None] | None = None
        if feed is not None:
            feed.forgotten = self.forgotten

    async def state(self, user_id: str, token: str, until: float, issued: float | None) -> Reason | None:
        """Where it was asked once, memory remembers it for as long as it remembers the user."""
        try:
            return self.known(user_id, token)
        except NotAtHandError:
            return await self._asked(user_id, token, until, issued)

    def known(self, user_id: str, token: str) -> Reason | None:
        """What memory says. Raises NotAtHandError."""
        known = self._memory.revocations.state(token)
        if known is not None:
            return known
        looked = self._memory.look(good_ref(user_id, token)) if self._remembers() else Absent()
        if isinstance(looked, Found):
            return None
        if looked.reason is Reason.FENCED:
            return Reason.FENCED
        raise NotAtHandError

    async def _asked(self, user_id: str, token: str, until: float, issued: float | None) -> Reason | None:
        memory = self._memory
        ref, note = noted(user_id, token, until, self._now())
        await self._recovery.begun()
        if self._recovery.down:
            return Reason.STORE_DOWN
        # Taken before the read: an eviction in between refuses the note.
        local = memory.begin(ref)
        try:
            state, before = await self._revocations.state(user_id, token)
            if state is None and self._monotonic() < self._doubtful_until:
                state = Reason.STORE_DOWN
            before = max(before, memory.cutoffs.before(user_id))
            if state is None and (outdated(issued, before) or note.dead <= self._now()):
                # Upstream may have accepted it since.
                vouched = await self._redis.get(ref)
                if not isinstance(vouched, Found) or vouched.entry.dead <= self._now():
                    return Reason.TOKEN_OUTDATED
                note = vouched.entry
        except StoreError as error:
            self._recovery.failed(error)
            return Reason.STORE_DOWN
        self._recovery.breaker.succeeded()
        if state is None and self._remembers():
            memory.put(ref, note, local)
        if state is Reason.TOKEN_REVOKED:
            # For good, whatever becomes of Redis, and it need not be asked again.
            memory.revocations.add(token, until, told=True)
        return state

    async def revoke(self, user_id: str, token: str, until: float, name: str) -> None:
        """See Store."""
        self._memory.revocations.add(token, until, name)
        try:
            if self._recovery.deaf:
                raise StoreError("away")
            await self._revocations.revoke((token, until, name))
        except StoreError as error:
            self._owed(user_id, error)
        else:
            self._memory.revocations.told(token)

    async def restore(self, token: str, name: str) -> None:
        """See Store."""
        told = not self._recovery.deaf
        try:
            if told:
                await self._revocations.restore(token, name)
        except StoreError as error:
            told = False
            self._recovery.failed(error)
        self._memory.revocations.undo(token, name, told=told)

    async def revoke_user(self, user_id: str, before: float, until: float, name: str, *, sure: bool) -> None:
        """See Store."""
        self._memory.cutoffs.add(user_id, before, until, name, sure=sure)
        try:
            if self._recovery.deaf:
                raise StoreError("away")
            await self._cutoffs.tell((user_id, before, until, name, sure))
        except StoreError as error:
            self._memory.cutoffs.missed(user_id)
            self._owed(user_id, error)
        else:
            self._memory.cutoffs.told(user_id, before)

    async def restore_user(self, user_id: str, name: str) -> None:
        """See Store. A provisional word that can't be taken back costs upstream questions, and no more."""
        self._memory.cutoffs.undo(user_id, name)
        try:
            if not self._recovery.deaf:
                await self._cutoffs.restore(user_id, name)
        except StoreError as error:
            self._recovery.failed(error)

    def _owed(self, user_id: str, error: StoreError) -> None:
        self._recovery.pending.add(Batch((user_id,)) if user_id else Batch(everything=True))
        self._recovery.failed(error, write=True)

    async def replay(self, *, anew: bool) -> None:
        """Tells Redis what it does not know; `anew`: it may be another server, which knows nothing.

        Raises StoreError.
        """
        if anew:
            self._doubt()
            self._memory.revocations.untold()
            self._memory.cutoffs.untold()
        await self._memory.revocations.replay(self._revocations)
        await self._memory.cutoffs.replay(self._cutoffs)

    async def meet(self, run_id: str) -> None:
        """Sees to it that what a server process began with is not believed. Raises StoreError."""
        if not await self._redis.writes.meet(run_id):
            self._doubt()

    def _doubt(self) -> None:
        # The others know more than this one, and are to have told it before anything is believed.
        self._doubtful_until = self._monotonic() + TELLING

    def forgotten(self) -> None:
        """Redis has lost what it was told. Whoever knows it tells it again; so does this one."""

        async def tell() -> None:
            try:
                await self.replay(anew=True)
            except StoreError as error:
                self._recovery.failed(error, write=True)

        self._doubt()
        self._telling = asyncio.create_task(tell())

    async def close(self) -> None:
        """Ends what is under way."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
