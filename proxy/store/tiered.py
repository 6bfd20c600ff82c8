"""Memory in front of a shared store, and what keeps answering when the shared store does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from msgspec.structs import replace

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Batch, Entry, Evicted, Fence, Found, Looked, Reason, Ref, Ticket
from proxy.core.packed import Packed
from proxy.core.ports import Membership, NotAtHandError
from proxy.store.bracket import Bracket
from proxy.store.glances import Glance, Glances
from proxy.store.hold import Held
from proxy.store.memory import MemoryStore
from proxy.store.nobodies import Alias
from proxy.store.recovery import Recovery
from proxy.store.redis import RedisStore
from proxy.store.slot import TieredStats
from proxy.store.tokenwords import TokenWords
from proxy.store.wakes import Wakes


class TieredStore:
    """A Store that never raises, but for `fence` with `reject`. Times are seconds.

    Memory answers while `feed` proves that this replica hears of every write. Without a feed a copy in
    memory lives `memory_ttl`. While the shared store is not trusted, memory is the cache and lives
    `fallback_ttl`; see Recovery for how trust goes and comes. `reject`: writes are refused meanwhile.
    `patience`: upstream may be at work for so long on a write whose proxy has died.
    """

    def __init__(
        self,
        memory: MemoryStore,
        redis: RedisStore,
        *,
        feed: Membership | None = None,
        wakes: Wakes | None = None,
        memory_ttl: float = 1.0,
        fallback_ttl: float = 5.0,
        probe_interval: float = 0.5,
        failures: int = 3,
        pending_limit: int = 10_000,
        reject: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.memory = memory
        self.redis = redis
        self._feed = feed
        self._wakes = wakes or Wakes()
        self._memory_ttl = memory.max_ttl = None if feed is not None else memory_ttl
        self._fallback_ttl = fallback_ttl
        self.recovery = Recovery(
            run_id=lambda: redis.run_id(),
            meet=lambda run_id: self.tokens.meet(run_id),
            deliver=lambda batch: self._deliver(batch),
            owed=lambda: self._owed(),
            opened=self._went_down,
            returned=self._came_back,
            probe_interval=probe_interval,
            failures=failures,
            pending_limit=pending_limit,
        )
        redis.link.process.replaced = self.recovery.replaced
        # Tickets up to this one are from before the last return, and the shared store must not see them.
        self._returned = 0
        self.bracket = Bracket(memory, redis, feed, self.recovery, reject=reject, patience=patience)
        if feed is not None:
            feed.orphaned = self.bracket.take_over
            feed.newcomer = self.bracket.tell_again
        self.glances = Glances(*redis.reading, memory, self.recovery)
        self.tokens = TokenWords(memory, redis, self.recovery, self._remembers, feed)
        self._closed = False
        # One object for all that is held.
        self._trusted = self._remembers

    @property
    def stats(self) -> TieredStats:
        """Counters of both tiers."""
        ladder = self.recovery
        pending = len(ladder.pending)
        return TieredStats(
            self.memory.stats, self.redis.stats, ladder.breaker.opened, ladder.restarts, pending
        )

    def _remembers(self) -> bool:
        """May memory be used now? Asked each time, as a process that was frozen must find out here."""
        return self._feed is None or self._feed.alive or self.recovery.down

    async def get(self, ref: Ref) -> Looked:
        """See Store."""
        try:
            return self.peek(ref)
        except NotAtHandError as error:
            why = error.reason
        await self._begun()
        if self.recovery.down:
            return Absent(Reason.STORE_DOWN if why is Reason.ABSENT else why)
        # Taken before the read: an eviction in between refuses the copy.
        local = self.memory.begin(ref)
        try:
            looked = await self.redis.get(ref)
        except StoreError as error:
            self.recovery.failed(error)
            found = self.memory.look(ref) if self.recovery.down else None
            return found if isinstance(found, Found) else Absent(Reason.STORE_DOWN)
        self.recovery.breaker.succeeded()
        if isinstance(looked, Found):
            self.glances.learn(ref, looked.entry)
            if self._remembers():
                self.memory.put(ref, looked.entry, local)
        return looked

    def peek(self, ref: Ref) -> Looked:
        """See Store."""
        looked = self.memory.look(ref) if self._remembers() else Absent()
        if isinstance(looked, Found) or looked.reason is Reason.FENCED:
            return looked
        raise NotAtHandError(looked.reason)

    def glance(self, ref: Ref, done: Callable[[Packed | None], None]) -> Glance | None:
        """See Store."""
        return self.glances.ask(ref, done)

    def hold(self, ref: Ref) -> Held | None:
        """See Store; only of what memory holds, and good while memory may be used."""
        found = self.memory.hold(ref) if self._remembers() else None
        return found if found is None or self._feed is None else found.behind(self._trusted)

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """See Store. Without `seq` the answer can be stored in memory only."""
        return await self._ticket(ref, None)

    async def _ticket(self, ref: Ref | None, wake: bytes | None) -> Ticket:
        await self._begun()
        local = self.memory.begin(ref)
        if self.recovery.down:
            return Ticket(local=local)
        try:
            ticket = await (self.redis.ticket(ref) if wake is None else self.redis.ticket(ref, wake=wake))
        except StoreError as error:
            self.recovery.failed(error)
            return Ticket(local=local)
        self.recovery.breaker.succeeded()
        return replace(ticket, local=local)

    async def lease(self, ref: Ref, seconds: float) -> Ticket | Found:
        """See Store. Without a feed nobody could be woken, so nobody waits."""
        if self._feed is None:
            return await self.ticket(ref)
        wake = self._feed.wake(ref, storable=True)
        end = monotonic() + seconds
        while True:
            with self._wakes.expect(ref) as waiter:
                ticket = await self._ticket(ref, wake)
                left = min(ticket.busy, end - monotonic())
                if left <= 0 or not await waiter.wait(left):
                    return ticket
            looked = await self.get(ref)
            if isinstance(looked, Found):
                return looked

    async def release(self, ref: Ref, ticket: Ticket) -> None:
        """See Store."""
        if self._feed is not None and ticket.seq is not None and not self.recovery.down:
            try:
                await self.redis.release(ref, ticket, self._feed.wake(ref, storable=False))
            except StoreError as error:
                self.recovery.failed(error)

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store. What the shared store refuses is not kept in memory either."""
        if self.memory.fenced(ref, entry.user_id):
            # Its fence in Redis may be lost, its writer has told of it.
            return Reason.FENCED
        before = ticket.local is None or ticket.local.seq <= self._returned
        if not (self.recovery.down or ticket.seq is None or before):
            try:
                reason = await self.redis.fill(ref, entry, ticket)
            except StoreError as error:
                self.recovery.failed(error)
            else:
                self.recovery.breaker.succeeded()
                if reason is None:
                    self.glances.learn(ref, entry)
                    if self._remembers():
                        self.memory.put(ref, entry, ticket.local)
                return reason
        if self._feed is not None and not self.recovery.down:
            # A failure that is not an outage yet: a copy that other replicas' writes can't reach is not kept.
            return Reason.STORE_DOWN
        return self.memory.put(ref, entry, ticket.local)

    async def fence(self, batch: Batch) -> Fence:
        """See Store. Returns when no replica can answer what `batch` names from memory."""
        await self._begun()
        return await self.bracket.fence(batch)

    async def settle(self, fence: Fence, batch: Batch | None, *, linger: float = 0.0) -> Evicted:
        """See Store. It goes on to its end where the caller is cancelled: the write has happened."""
        return await self.bracket.settle(fence, batch, linger)

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[Alias] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store. It goes on to its end where the caller is cancelled."""
        await self._begun()
        return await self.bracket.evict(Batch(tuple(user_ids), tuple(aliases), everything))

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store. Memory is asked only where the shared store cannot be: it may know a former owner."""
        await self._begun()
        if not self.recovery.down:
            try:
                return await self.redis.resolve(key, value)
            except StoreError as error:
                self.recovery.failed(error)
        return self.memory.lead(key, value)

    async def token_state(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """See Store."""
        await self._begun()
        return await self.tokens.state(user_id, token, until, issued)

    def peek_token(self, user_id: str, token: str, *_: float | None) -> Reason | None:
        """See Store."""
        return self.tokens.known(user_id, token)

    async def revoke(self, user_id: str, token: str, until: float, name: str = "") -> None:
        """See Store."""
        await self.tokens.revoke(user_id, token, until, name)

    async def restore(self, token: str, name: str) -> None:
        """See Store."""
        await self.tokens.restore(token, name)

    async def revoke_user(self, user_id: str, before: float, until: float, name: str, *, sure: bool) -> None:
        """See Store."""
        await self.tokens.revoke_user(user_id, before, until, name, sure=sure)

    async def restore_user(self, user_id: str, name: str) -> None:
        """See Store."""
        await self.tokens.restore_user(user_id, name)

    async def _owed(self) -> bool:
        await self.tokens.replay(anew=False)
        return await self.bracket.raise_again()

    async def _deliver(self, batch: Batch) -> None:
        await self.tokens.replay(anew=batch.everything)
        await self.bracket.tell(batch)

    async def _begun(self) -> None:
        if self._feed is not None and not self._closed:
            self._feed.start()
        await self.recovery.begun()

    def _went_down(self) -> None:
        self.memory.max_ttl = self._fallback_ttl
        # A process that was frozen may wake up here: what it holds is as old as its lease has been over.
        self.memory.cap(self._fallback_ttl - (0.0 if self._feed is None else self._feed.behind))

    def _came_back(self) -> None:
        self.memory.drop_batch(Batch(everything=True))
        self._returned = self.memory.seq
        self.memory.max_ttl = self._memory_ttl

    async def health(self) -> Mapping[str, Any]:
        """See Store. `backend` is what keeps answers now; `latency_ms` is None while Redis is not asked."""
        shared = {} if self.recovery.down else await self.redis.health()
        latency = shared.get("latency_ms")
        return {
            "backend": "memory" if latency is None else "redis",
            "status": "degraded" if latency is None else "ok",
            "latency_ms": latency,
            "replicas": shared.get("replicas"),
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
        await self.bracket.close()
        await self.tokens.close()
        await self.recovery.close()
        if self._feed is not None:
            await self._feed.close()
        await self.redis.close()
        await self.memory.close()
