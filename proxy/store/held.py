"""The memory of this process: bounded, least recently used users go first."""

from __future__ import annotations

import time
from asyncio import TimerHandle
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from proxy.core.model import Absent, Batch, Entry, Evicted, Found, LocalTicket, Looked, Reason, Ref, Tier
from proxy.store import codec
from proxy.store.hold import Held
from proxy.store.links import Common, Links
from proxy.store.localfences import LocalFences
from proxy.store.nobodies import Alias, Nobodies
from proxy.store.slot import HeldUser, MemoryStats, Slot, World
from proxy.store.tables import Tables

# Users that each fill examines for expired answers, so that nobody needs a timer.
_SWEEP = 4


class Memory:
    """Answers by user in one process. Nothing here awaits or fails.

    `max_users` bounds users, floors, and (a tenth of it) marks and "nobody" records, `max_resource_bytes`
    what is held of resources. `max_ttl` (seconds),
    where set, caps the life of what is put in from then on. `now` is the wall clock that entries are judged
    by, `monotonic` the one that `max_ttl` is measured by.
    """

    def __init__(
        self,
        max_users: int = 10000,
        *,
        max_resource_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_ttl: float | None = None
        self.world = World()
        self.fences = LocalFences(self.world)
        # Those of other replicas. What they name was dropped then; until they lift it, nothing is put.
        self.heard = LocalFences()
        self._told: dict[str, tuple[Batch, TimerHandle, str]] = {}
        self._now = now
        self._monotonic = monotonic
        self._max_users = max(1, max_users)
        self._tables = Tables(max_resource_bytes, self.world)
        self._users = self._tables.users
        self.used: Callable[[str], None] = self._tables.used
        self._links, self._common = Links(), Common()
        self._nobodies = Nobodies(max_users // 10 + 1, self._over)
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._floor = 0
        self._seq = 0
        self._ring: deque[HeldUser] = deque()
        self._evictions = 0
        self._stats = MemoryStats()

    @property
    def stats(self) -> MemoryStats:
        """Counters and gauges."""
        self._stats.users = len(self._users)
        self._stats.bytes = self._tables.bytes + self._nobodies.bytes
        self._stats.evictions = self._evictions + self._nobodies.dropped
        return self._stats

    @property
    def seq(self) -> int:
        """The last number given out; a later ticket has a higher one."""
        return self._seq

    def look(self, ref: Ref) -> Looked:
        """See Store.get."""
        if self.fences.standing and self._is_fenced(ref):
            return Absent(Reason.FENCED)
        if ref.key == "id":
            user = self._tables.of(ref.value).get(ref.value)
            return self._slot(user, ref)
        alias = (ref.key, ref.value)
        user_id = self._links.get(alias)
        if user_id is None:
            return self._nobody(alias, ref)
        looked = self._slot(self._users[user_id], ref)
        if isinstance(looked, Found) and looked.entry.keys.get(ref.key) != ref.value:
            self._unlink(alias)
            self._stats.aliases_removed += 1
            return Absent(Reason.ALIAS_UNPROVEN)
        return looked

    def _is_fenced(self, ref: Ref) -> bool:
        return self.fences.hides(ref) or (
            ref.key != "id" and self.fences.hides_user(self._links.get((ref.key, ref.value)))
        )

    def hold(self, ref: Ref) -> Held | None:
        """The answer of a user that `look` would find now, if it is one."""
        user_id = ref.value if ref.key == "id" else self._links.get((ref.key, ref.value)) or ""
        user = self._tables.of(user_id).get(user_id)
        slot = user.slots.get(ref.slot) if user else None
        if slot is None or (ref.key != "id" and slot.entry.keys.get(ref.key) != ref.value):
            return None
        if user is None or not self.keeps(ref, user, slot):
            return None
        return Held(self, user, ref, slot)

    def keeps(self, ref: Ref, user: HeldUser, slot: Slot) -> bool:
        """See Keeper."""
        if self._tables.of(user.id).get(user.id) is not user or user.slots.get(ref.slot) is not slot:
            return False
        if ref.key != "id" and self._links.get((ref.key, ref.value)) != user.id:
            return False
        if self.fences.standing and self._is_fenced(ref):
            return False
        return slot.until is None or slot.until > self._monotonic()

    def _slot(self, user: HeldUser | None, ref: Ref) -> Looked:
        slot = user.slots.get(ref.slot) if user else None
        if user is None or slot is None:
            return Absent()
        if self._over(slot):
            self._remove_slot(user, ref.slot)
            self._stats.expirations += 1
            return Absent(Reason.EXPIRED)
        self.used(user.id)
        return Found(slot.entry, Tier.MEMORY)

    def _nobody(self, alias: Alias, ref: Ref) -> Looked:
        held = self._nobodies.look(alias)
        if held is None:
            return Absent()
        nobody, slot = held
        if self._over(slot):
            self._nobodies.remove(alias)
            self._stats.expirations += 1
            return Absent(Reason.EXPIRED)
        if not nobody.answers(ref):
            return Absent()
        self._nobodies.use(alias)
        return Found(slot.entry, Tier.MEMORY)

    def _over(self, slot: Slot) -> bool:
        return slot.over(self._now(), self._monotonic())

    def begin(self, ref: Ref | None = None) -> LocalTicket:
        """See Store.ticket."""
        self._seq += 1
        alias = (ref.key, ref.value) if ref is not None and ref.key != "id" else None
        if alias is not None and self.fences.standing and self.fences.hides(Ref(*alias, "")):
            return LocalTicket(self._seq)
        if alias is None or self._links.get(alias) is not None:
            return LocalTicket(self._seq)
        return LocalTicket(self._seq, self._nobodies.mark(alias, self._seq))

    def put(self, ref: Ref, entry: Entry, ticket: LocalTicket | None) -> Reason | None:
        """See Store.fill."""
        reason = codec.refused(ref, entry, self._now())
        if reason is not None:
            return reason
        if self.fenced(ref, entry.user_id):
            return Reason.FENCED
        self._sweep()
        slot = Slot(
            self._common.slim(entry), None if self.max_ttl is None else self._monotonic() + self.max_ttl
        )
        if ticket is None or ticket.seq <= self._floor:
            return self._refuse()
        if entry.user_id is None:
            stored = ticket.mark is not None and self._nobodies.put(ref, slot, ticket.mark)
            return None if stored else self._refuse()
        if ticket.seq <= self._floors.get(entry.user_id, 0):
            return self._refuse()
        alias = (ref.key, ref.value)
        marked = self._links.get(alias) is not None or self._nobodies.marked(alias, ticket.mark)
        if codec.proven_by_answer(ref) and not marked:
            # Whoever ended the token knew no user whose floor to raise; the mark is gone.
            return self._refuse()
        self._put_slot(entry.user_id, ref.slot, slot)
        return None

    def fenced(self, ref: Ref, user_id: str | None) -> bool:
        """Whether a write is under way, here or elsewhere, that may change what is to be stored for `ref`."""
        for fences in (self.fences, self.heard):
            if fences.standing and (fences.hides(ref) or fences.hides_user(user_id)):
                return True
        return False

    def _put_slot(self, user_id: str, name: str, slot: Slot) -> None:
        table = self._tables.of(user_id)
        user = table.get(user_id)
        if user is None:
            user = table[user_id] = HeldUser(user_id)
            self._ring.append(user)
        self.world.changed(user)
        replaced = user.replace(name, slot)
        self._tables.account(user, slot.size - sum(old.size for old in replaced))
        table.move_to_end(user_id)
        self._link(user, codec.aliases_of(slot.entry))
        for old in replaced:
            self._unlink_unproven(user, old)
        if len(self._users) > self._max_users:
            self._remove_user(next(iter(self._users)))
            self._evictions += 1
        while self._tables.full:
            self._remove_user(next(iter(self._tables.resources)))
            self._evictions += 1

    def _link(self, user: HeldUser, aliases: list[Alias]) -> None:
        for alias in aliases:
            self._nobodies.free(alias)
            if self._links.get(alias) not in (None, user.id):
                self._unlink(alias)
            self._links.put(alias, user.id)

    def _unlink_unproven(self, user: HeldUser, gone: Slot) -> None:
        """The aliases that an answer proved which is gone, and no other one of that user does."""
        for alias in codec.aliases_of(gone.entry):
            if self._links.get(alias) == user.id and not user.proves(*alias):
                self._unlink(alias)

    def _refuse(self) -> Reason:
        self._stats.refused_fills += 1
        return Reason.STALE_FILL

    def drop(
        self, user_ids: Iterable[str], aliases: Iterable[Alias] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store.evict."""
        self._seq += 1
        if everything:
            self._floor = self._seq
            entries = sum(len(user.slots) for user in self._tables) + len(self._nobodies)
            dropped = Evicted(entries, len(self._links))
            for held in (self._tables, self._links, self._nobodies, self._floors, self._ring):
                held.clear()
            return dropped
        named = tuple(aliases)
        entries, links = sum(map(self._nobodies.free, named)), 0
        for user_id in dict.fromkeys([*user_ids, *filter(None, map(self._links.get, named))]):
            self._raise_floor(user_id)
            user = self._tables.of(user_id).get(user_id)
            if user is not None:
                entries += sum(not codec.is_note(name) for name in user.slots)
                links += self._remove_user(user_id)
        return Evicted(entries, links)

    def _raise_floor(self, user_id: str) -> None:
        self._floors[user_id] = self._seq
        self._floors.move_to_end(user_id)
        if len(self._floors) > self._max_users:
            # Forgetting a floor must not let a stale fill in, so it becomes everybody's.
            self._floor = max(self._floor, self._floors.popitem(last=False)[1])

    def cap(self, seconds: float) -> None:
        """Ends what is held now after `seconds` at the latest."""
        until = self._monotonic() + seconds
        self._tables.cap(until)
        self._nobodies.cap(until)

    def _sweep(self) -> None:
        now = self._now()
        for _ in range(min(_SWEEP, len(self._ring))):
            user = self._ring.popleft()
            if self._tables.of(user.id).get(user.id) is not user:
                continue
            if user.earliest <= now:
                for name in user.over(now, self._monotonic()):
                    self._remove_slot(user, name)
                    self._stats.expirations += 1
            if user.slots:
                self._ring.append(user)
        self._nobodies.sweep()

    def _remove_slot(self, user: HeldUser, name: str) -> None:
        self.world.changed(user)
        slot = user.slots.pop(name)
        self._tables.account(user, -slot.size)
        self._unlink_unproven(user, slot)
        if not user.slots:
            self._remove_user(user.id)

    def _remove_user(self, user_id: str) -> int:
        """How many aliases went with the user."""
        user = self._tables.of(user_id).pop(user_id)
        self._tables.account(user, -sum(slot.size for slot in user.slots.values()))
        linked = [alias for alias in user.aliases() if self._links.get(alias) == user_id]
        for alias in linked:
            self._links.drop(alias)
        self.world.changed(user)
        user.slots.clear()  # the ring may hold the user for a while yet
        return len(linked)

    def _unlink(self, alias: Alias) -> None:
        self.world.changed(self._users[self._links.get(alias) or ""])
        self._links.drop(alias)

    def lead(self, key: str, value: str) -> str | None:
        """See Store.resolve."""
        return value if key == "id" else self._links.get((key, value))
