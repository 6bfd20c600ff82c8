"""A Store in the memory of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from proxy.core.identity import good_ref
from proxy.core.model import Batch, Entry, Evicted, Fence, Found, Looked, Reason, Ref, Ticket
from proxy.core.packed import Packed
from proxy.store.cutoffs import Cutoffs, outdated
from proxy.store.fences import new_fence
from proxy.store.held import Memory
from proxy.store.nobodies import Alias
from proxy.store.revocations import Revocations, noted
from proxy.store.slot import MemoryStats

__all__ = ["MemoryStats", "MemoryStore"]


# Fences of other replicas that are kept at once; beyond it the oldest has only its copy in Redis.
_MAX_HEARD = 10_000


class MemoryStore(Memory):
    """The cache where there is no Redis. Nothing here fails."""

    def __init__(self, max_users: int = 10000, **more: Any) -> None:
        super().__init__(max_users, **more)
        self.revocations = Revocations(now=self._now)
        self.cutoffs = Cutoffs(now=self._now)
        self._standing: set[str] = set()

    @property
    def clocks(self) -> tuple[Callable[[], float], Callable[[], float]]:
        """The wall clock and the monotonic one."""
        return self._now, self._monotonic

    @property
    def full(self) -> bool:
        """Whether one user more is one user less."""
        return len(self._users) >= self._max_users

    def has(self, user_id: str, slot: str) -> bool:
        """Whether there is a copy of the user in that slot, good or not."""
        user = self._users.get(user_id)
        return user is not None and slot in user.slots

    def glance(self, ref: Ref, done: Callable[[Packed | None], None]) -> None:
        """See Store; what is not here is nowhere."""

    def resize(self, max_resource_bytes: int) -> None:
        """Another bound on resources, from the next fill on."""
        self._tables.most = max_resource_bytes

    async def get(self, ref: Ref) -> Looked:
        """See Store."""
        return self.look(ref)

    def peek(self, ref: Ref) -> Looked:
        """See Store; what is not here is nowhere."""
        return self.look(ref)

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """See Store; only the local part is given."""
        return Ticket(local=self.begin(ref))

    async def lease(self, ref: Ref, seconds: float) -> Ticket:  # noqa: ARG002 - nobody to wait for
        """See Store; one process has its own single flight."""
        return await self.ticket(ref)

    async def release(self, ref: Ref, ticket: Ticket) -> None:
        """See Store; nobody waits."""

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store."""
        return self.put(ref, entry, ticket.local)

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[Alias] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store."""
        return self.drop(user_ids, aliases, everything=everything)

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store."""
        return self.lead(key, value)

    async def health(self) -> Mapping[str, Any]:
        """See Store."""
        return {"backend": "memory", "status": "ok", "latency_ms": 0.0, "users": len(self._users)}

    def stand(self, fence: Fence, seconds: float, writer: str) -> None:
        """See ports.Memory. One that nobody lifts in time belonged to a writer that died, and evicts."""
        held = self._told.pop(fence.name, None)
        if held is not None:
            held[1].cancel()
        if held is None or held[0] != fence.batch:
            # The first that is heard of it, or it was found to be around more.
            self.heard.add(fence.batch)
            self.drop_batch(fence.batch)
            if held is not None:
                self.heard.remove(held[0])
        timer = asyncio.get_running_loop().call_later(seconds, self._died, fence.name)
        self._told[fence.name] = (fence.batch, timer, writer)
        if len(self._told) > _MAX_HEARD:
            self.lift(next(iter(self._told)))

    def lift(self, name: str) -> None:
        """See ports.Memory."""
        held = self._told.pop(name, None)
        if held is not None:
            held[1].cancel()
            self.heard.remove(held[0])

    def told(self) -> dict[str, str]:
        """See ports.Memory."""
        return {name: writer for name, (_, _, writer) in self._told.items()}

    def stands(self, name: str) -> bool:
        """See ports.Memory."""
        return name in self._standing

    def _died(self, name: str) -> None:
        self.drop_batch(self._told[name][0])
        self.lift(name)

    async def close(self) -> None:
        """Gives the memory back."""
        for name in list(self._told):
            self.lift(name)
        self.drop((), everything=True)

    async def fence(self, batch: Batch) -> Fence:
        """See Store."""
        self.fences.add(batch)
        fence = new_fence(batch)
        self._standing.add(fence.name)
        return fence

    def widened(self, fence: Fence, user_ids: Iterable[str]) -> Fence:
        """That fence, around these users as well."""
        more = [one for one in user_ids if one not in fence.batch.users]
        self.fences.widen(more)
        return Fence(fence.name, replace(fence.batch, users=(*fence.batch.users, *more)))

    async def settle(self, fence: Fence, batch: Batch | None, *, linger: float = 0.0) -> Evicted:
        """See Store."""
        evicted = self.drop_batch(batch) if batch is not None else Evicted()
        if linger:
            asyncio.get_running_loop().call_later(linger, self.lapse, fence, batch)
        else:
            self._take_down(fence)
        return evicted

    async def token_state(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """See Store."""
        state = self.peek_token(user_id, token, until, issued)
        if state is None and not self._noted(user_id, token):
            ref, note = noted(user_id, token, until, self._now())
            self.put(ref, note, self.begin())
        return state

    def peek_token(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """See Store."""
        state = self.revocations.state(token)
        if state is not None:
            return state
        doubtful = outdated(issued, self.cutoffs.before(user_id)) or until <= self._now()
        return Reason.TOKEN_OUTDATED if doubtful and not self._noted(user_id, token) else None

    def _noted(self, user_id: str, token: str) -> bool:
        return isinstance(self.look(good_ref(user_id, token)), Found)

    async def revoke(self, user_id: str, token: str, until: float, name: str = "") -> None:  # noqa: ARG002 - the port's
        """See Store."""
        self.revocations.add(token, until, name)

    async def restore(self, token: str, name: str) -> None:
        """See Store."""
        self.revocations.undo(token, name)

    async def revoke_user(self, user_id: str, before: float, until: float, name: str, *, sure: bool) -> None:
        """See Store."""
        self.cutoffs.add(user_id, before, until, name, sure=sure)

    async def restore_user(self, user_id: str, name: str) -> None:
        """See Store."""
        self.cutoffs.undo(user_id, name)

    def learn(self, tokens: Iterable[tuple[str, float]], cutoffs: Iterable[tuple[str, float, float]]) -> None:
        """See ports.Memory."""
        for token, until in tokens:
            self.revocations.add(token, until, told=True)
        for user_id, before, until in cutoffs:
            self.cutoffs.add(user_id, before, until, "", sure=True, told=True)

    def lapse(self, fence: Fence, batch: Batch | None) -> None:
        """Ends a fence that lingered: whatever was done under it is over, or never was."""
        if batch is not None:
            self.drop_batch(batch)
        self._take_down(fence)

    def _take_down(self, fence: Fence) -> None:
        self.fences.remove(fence.batch)
        self._standing.discard(fence.name)

    def drop_batch(self, batch: Batch) -> Evicted:
        """`drop` of all that `batch` names."""
        return self.drop(batch.users, batch.aliases, everything=batch.everything)
