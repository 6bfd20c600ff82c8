"""Looks at single users in Redis that are hits nearly always: one write for all of a tick, and no tasks.

What is found is judged as `RedisStore.get` judges it. For whatever is not a plain hit nothing is said here:
that is for the walk, which asks again, counts and mends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from proxy.core.errors import StoreError
from proxy.core.keeping import Keeping
from proxy.core.model import Entry, Ref
from proxy.core.packed import Packed
from proxy.store import codec
from proxy.store.link import Link
from proxy.store.memory import MemoryStore
from proxy.store.mux import Asked, Wire
from proxy.store.patience import LATE
from proxy.store.recovery import Recovery

Done = Callable[[Packed | None], None]

# A look in so many is left to the walk, which takes the copy into memory: what is asked for often gets there.
TAKEN_IN: Final = 512
# Aliases whose user is known, the oldest go first. Redis is asked for the alias all the same.
MOST_LEADS: Final = 20_000
# Any value of so many letters is short enough, however they are encoded.
_SHORT: Final = codec.LONGEST_VALUE // 4
_USER: Final = codec.user_key("").encode()
_EPOCH: Final = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (
    len(codec.EPOCH_KEY),
    codec.EPOCH_KEY.encode(),
)


class _Field:
    """Where a slot is kept in a user's hash; `asked` is how it is asked for, with the fence."""

    __slots__ = ("asked", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        this, fence = name.encode(), codec.FENCE_FIELD.encode()
        self.asked = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(this), this, len(fence), fence)


class Glance:
    """One look; `cancel` makes sure that nobody is told of it."""

    __slots__ = ("alias", "done", "field", "user_id")

    def __init__(self, user_id: str, field: _Field, alias: tuple[str, str] | None, done: Done) -> None:
        self.user_id = user_id
        self.field = field
        self.alias = alias
        self.done: Done | None = done

    def cancel(self) -> None:
        """The caller has gone."""
        self.done = None


class _Round(Asked):
    """The looks of one tick. The epoch is read after all of them: one raised in between refuses them all."""

    __slots__ = ("_again", "_changes", "_due", "_glances", "_loop", "_owner", "_started", "_timer", "_wire")

    def __init__(self, owner: Glances, glances: list[Glance], wire: Wire) -> None:
        super().__init__(len(glances) + sum(one.alias is not None for one in glances) + 1)
        self._owner = owner
        self._glances = glances
        self._wire = wire
        self._changes = owner.link.process.changes
        self._started = perf_counter()
        self._loop = asyncio.get_running_loop()
        self._again = False
        self._arm()

    def finished(self) -> None:
        """See Asked."""
        self._timer.cancel()
        link, replies = self._owner.link, self.replies
        link.latency.observe(perf_counter() - self._started)
        epoch = replies[-1]
        if self._changes != link.process.changes or not isinstance(epoch, bytes):
            self._leave()
            return
        glances, self._glances = self._glances, []
        if glances:
            self._owner.recovery.breaker.succeeded()
        at = 0
        for one in glances:
            lead = None
            if one.alias is not None:
                lead = replies[at]
                at += 1
            values = replies[at]
            at += 1
            if one.done is not None:
                _tell(one, self._owner.read(one, lead, values, epoch))

    def failed(self, why: str) -> None:  # noqa: ARG002 - the walk finds out by itself
        """See Asked."""
        self._timer.cancel()
        self._leave()

    def _arm(self) -> None:
        self._due = self._loop.time() + self._owner.link.deadline
        self._timer = self._loop.call_at(self._due, self._late)

    def _late(self) -> None:
        if not self._again and self._loop.time() - self._due > LATE:
            # As Patience has it: it is this process that stood still.
            self._again = True
            self._arm()
            return
        owner, count = self._owner, len(self._glances)
        self._wire.given_up(self)
        for _ in range(count):
            owner.link.errors += 1
            owner.recovery.failed(StoreError("redis did not answer in time"))
        self._leave()

    def _leave(self) -> None:
        """All of them are the walk's."""
        glances, self._glances = self._glances, []
        for one in glances:
            _tell(one, None)


def _tell(glance: Glance, copy: Packed | None) -> None:
    done, glance.done = glance.done, None
    if done is None:
        return
    try:
        done(copy)
    except Exception as error:  # noqa: BLE001 - the others of the round are not to suffer for it
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "a look was not taken", "exception": error})


class Glances:
    """Asks for what memory has no room for. `now` is the wall clock that entries are judged by."""

    def __init__(
        self,
        link: Link,
        seal: codec.Seal,
        now: Callable[[], float],
        keeping: Keeping,
        memory: MemoryStore,
        recovery: Recovery,
    ) -> None:
        self.link = link
        self.recovery = recovery
        self._memory = memory
        self._seal = seal
        self._now = now
        self._keeping = keeping
        self._waiting: list[Glance] = []
        self._leads: dict[tuple[str, str], str] = {}
        self._fields: dict[str, _Field] = {}
        self._turn = 0

    def learn(self, ref: Ref, entry: Entry) -> None:
        """The walk has found `entry` for `ref` in Redis, or has stored it there."""
        if ref.key == "id" or entry.user_id is None or not self._memory.full:
            return
        self._leads[(ref.key, ref.value)] = entry.user_id
        if len(self._leads) > MOST_LEADS:
            del self._leads[next(iter(self._leads))]

    def ask(self, ref: Ref, done: Done) -> Glance | None:
        """Calls `done` later with a copy that was found and is no older than any write, or with None: walk.

        Returns None where only the walk can tell, and `done` is then not called.
        """
        value = ref.value
        if not 0 < len(value) <= _SHORT or not value.isascii():
            return None
        # Once for all of a tick: these are sent, or not, as it is at its end.
        if not self._waiting and self._wire() is None:
            return None
        alias = None
        if ref.key != "id":
            alias = (ref.key, value)
            lead = self._leads.get(alias)
            if lead is None:
                return None
            value = lead
        if self._memory.has(value, ref.slot):
            return None
        self._turn += 1
        if self._turn % TAKEN_IN == 0:
            return None
        glance = Glance(value, self._fields.get(ref.slot) or self._field(ref.slot), alias, done)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(glance)
        return glance

    def _wire(self) -> Wire | None:
        """The connection. None: all is the walk's, as the store is away, as this process writes, or as memory
        has room for whatever is found.
        """
        mux, memory = self.link.mux, self._memory
        if mux is None or self.recovery.down or memory.fences.standing or not memory.full:
            return None
        wire = mux.wire
        return wire if wire is not None and wire.usable else None

    def _send(self) -> None:
        """All that was asked for in this tick."""
        glances = [one for one in self._waiting if one.done is not None]
        self._waiting = []
        wire = self._wire()
        if wire is None:
            for one in glances:
                _tell(one, None)
            return
        packed = []
        for one in glances:
            if one.alias is not None:
                name = codec.alias_key(*one.alias).encode()
                packed.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name))
            key = _USER + one.user_id.encode()
            packed.append(b"*4\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n%b" % (len(key), key, one.field.asked))
        packed.append(_EPOCH)
        if glances:
            wire.post(packed, _Round(self, glances, wire), now=True)

    def _field(self, slot: str) -> _Field:
        name = codec.slot_field(self._keeping.placed(Ref("id", "", slot)).slot)
        # One for each view; the slots of tokens are never asked for here.
        field = self._fields[slot] = _Field(name)
        return field

    def read(self, glance: Glance, lead: Any, values: Any, epoch: bytes) -> Packed | None:
        """The copy, if all that `RedisStore.get` asks of one holds."""
        if not isinstance(values, list) or values[1] is not None or not isinstance(values[0], bytes):
            return None
        user_id, alias = glance.user_id, glance.alias
        if alias is not None and (not isinstance(lead, bytes) or lead != user_id.encode()):
            self._leads.pop(alias, None)
            return None
        blob = values[0]
        if self._seal is not codec.PLAIN:
            blob = self._seal.open(codec.user_key(user_id), glance.field.name, blob)
        copy = codec.peek(blob)
        if copy is None or copy.user_id != user_id or copy.epoch.encode() != epoch:
            return None
        if alias is not None and not copy.proves(*alias):
            return None
        return copy if copy.dead > self._now() else None

    def __repr__(self) -> str:
        return f"Glances({len(self._waiting)} waiting)"
