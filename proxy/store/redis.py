"""Answers in Redis or Valkey, shared by all replicas: one hash a user, one string an alias (design §6)."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from proxy.core.errors import StoreError
from proxy.core.keeping import ANYHOW, Keeping
from proxy.core.model import Absent, Batch, Entry, Evicted, Found, Looked, Reason, Ref, Ticket, Tier
from proxy.store import codec
from proxy.store.link import WRONG_TYPE, Command, Link, Script, connect
from proxy.store.lives import FLOOR_MS, LEASED_MS, TICKET_US, WEEK_MS
from proxy.store.slot import RedisStats
from proxy.store.topologies import FEED_KEY, open_link
from proxy.store.writes import NO_FENCE, RedisWrites

__all__ = ["RedisStats", "RedisStore", "connect"]
_MS = 1000
_US = 1_000_000
_SIX_DAYS = 6 * 86400 * _MS
_MARK_LIFE = 30 * _MS
_UNDER_WAY = 2  # fill.lua's answer during a write
_LAPSED = 2  # settle.lua's where the writer has died
# How long one replica may keep the others from asking upstream for the same key. Longer than most upstreams
# take; when it is over, whoever asks next takes over from a replica that died.
LEASE = 3.0

_EPOCH, _MARK, _UNLINK, _MEND = tuple(Script(name) for name in ("epoch", "mark", "unlink", "mend"))
_NEGATIVE, _ALIAS, _UNMARK, _RELEASE = tuple(
    Script(name, "_wakes") for name in ("negative", "alias", "unmark", "release")
)
_SETTLE, _LEASE = Script("settle", "_fences"), Script("lease", "_fences")
_FILL = Script("fill", "_fences", "_wakes")

_GET_EPOCH: Command = ("GET", codec.EPOCH_KEY)


class RedisStore:
    """A Store in Redis. Every method but `health` and `close` raises StoreError where Redis cannot answer.

    `client` is a URL, or a ready client that stays open when the store is closed. `deadline` (seconds)
    bounds each operation with its round trips. `seal` is put around the answers that are stored, `keeping`
    names the rules that they are stored under. `now` is the wall clock that entries are judged by.
    """

    def __init__(
        self,
        client: Redis | str,
        *,
        pool_size: int = 10,
        pool_timeout: float = 5.0,
        deadline: float = 0.25,
        seal: codec.Seal = codec.PLAIN,
        keeping: Keeping = ANYHOW,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._own = isinstance(client, str)
        self.link = (
            open_link(client, pool_size=pool_size, pool_timeout=pool_timeout, deadline=deadline)
            if isinstance(client, str)
            else Link(client, deadline=deadline)
        )
        self.writes = RedisWrites(self.link, seal)
        self._seal = seal
        self._keeping = keeping
        self._now = now
        self._stats = RedisStats()
        self.reading = (self.link, seal, now, keeping)

    @property
    def stats(self) -> RedisStats:
        """Counters since the start."""
        self._stats.errors = self.link.errors
        return self._stats

    async def get(self, ref: Ref) -> Looked:
        """See Store. Stale, expired and unreadable things are told apart by the reason."""
        if not codec.usable(ref.value):
            return Absent(Reason.KEY_UNUSABLE)
        ref = self._keeping.placed(ref)
        async with self.link.bounded():
            if ref.key == "id":
                return await self._user(ref, ref.value, None)
            raw, epoch = await self.link.run(("GET", codec.alias_key(ref.key, ref.value)), _GET_EPOCH)
            if raw is None or (isinstance(raw, bytes) and raw.startswith(codec.MARK)):
                return Absent()
            if isinstance(raw, bytes):
                if raw.startswith(codec.FENCED):
                    return Absent(Reason.FENCED)
                if raw.startswith(codec.NOBODY):
                    return await self._nobody(ref, raw, epoch)
                user_id = codec.decode_id(raw)
                if user_id is not None:
                    return await self._user(ref, user_id, raw)
            return await self._corrupt_alias(ref, raw)

    async def _user(self, ref: Ref, user_id: str, alias: bytes | None) -> Looked:
        key, field = codec.user_key(user_id), codec.slot_field(ref.slot)
        # The epoch is read after the answer: one that was raised in between refuses it.
        read: Command = ("HMGET", key, field, codec.FENCE_FIELD)
        asked: list[Command] = [read, _GET_EPOCH, ("EXISTS", key)]
        values, epoch, *exists = await self.link.run(*asked[: 2 if alias is None else 3])
        blob, fence = (values, None) if values is WRONG_TYPE else values
        if fence is not None:
            (fenced,) = await self.link.run(_SETTLE.call(key))
            if fenced == _LAPSED:
                await self.writes.settle(Batch((user_id,)), NO_FENCE)
            return Absent(Reason.FENCED if fenced == 1 else Reason.ABSENT)
        if blob is None:
            if exists == [0]:
                await self._unlink(ref, alias)
            return Absent()
        entry = codec.decode(self._seal.open(key, field, blob)) if isinstance(blob, bytes) else None
        if entry is None or entry.user_id != user_id:
            self._stats.corrupt += 1
            found = blob if isinstance(blob, bytes) else b""
            await self.link.run(_MEND.call(key, field, found, FLOOR_MS))
            return Absent(Reason.CORRUPT)
        unfit = self._unfit(entry, epoch)
        if unfit is not None:
            return Absent(unfit)
        if alias is not None and entry.keys.get(ref.key) != ref.value:
            await self._unlink(ref, alias)
            return Absent(Reason.ALIAS_UNPROVEN)
        return Found(entry, Tier.REDIS)

    async def _nobody(self, ref: Ref, raw: bytes, epoch: object) -> Looked:
        nobody = codec.decode_nobody(raw, self._seal, codec.alias_key(ref.key, ref.value))
        if nobody is None or (nobody.key, nobody.value) != (ref.key, ref.value):
            return await self._corrupt_alias(ref, raw)
        unfit = self._unfit(nobody.entry, epoch)
        if unfit is not None:
            # It makes room for the mark, without which the next "nobody" could not be stored.
            await self.link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), raw))
            return Absent(unfit)
        return Found(nobody.entry, Tier.REDIS) if nobody.answers(ref) else Absent()

    def _unfit(self, entry: Entry, epoch: object) -> Reason | None:
        if epoch is WRONG_TYPE:
            # The next ticket puts a new one there.
            self._stats.corrupt += 1
            return Reason.CORRUPT
        if epoch != entry.epoch.encode():
            fenced = isinstance(epoch, bytes) and epoch.startswith(codec.SIGN.encode())
            return Reason.FENCED if fenced else Reason.ABSENT
        return Reason.EXPIRED if entry.dead <= self._now() else None

    async def _unlink(self, ref: Ref, read: bytes | None) -> None:
        self._stats.aliases_removed += 1
        await self.link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), read or b""))

    async def _corrupt_alias(self, ref: Ref, raw: object) -> Absent:
        self._stats.corrupt += 1
        read = raw if isinstance(raw, bytes) else b""
        await self.link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), read))
        return Absent(Reason.CORRUPT)

    async def ticket(self, ref: Ref | None = None, *, wake: bytes | None = None) -> Ticket:
        """See Store. `seq` counts microseconds of Redis's clock.

        With `wake` the ticket comes with the lease on filling `ref`, or is `busy` with somebody else's; who
        has it will then send that message down the feed when the fill has ended.
        """
        epoch = _EPOCH.call(codec.EPOCH_KEY, secrets.token_urlsafe(6), WEEK_MS, str(_SIX_DAYS))
        token = secrets.token_hex(8)
        asked = [epoch]
        if ref is not None and codec.usable(ref.value):
            asked += self._claim(self._keeping.placed(ref), token, wake)
        async with self.link.bounded():
            seq, found, *replies = await self.writes.numbered(*asked)
        ticket = Ticket(seq=seq, epoch=None if found.startswith(codec.SIGN.encode()) else found.decode())
        if not replies:
            return ticket
        if ref is not None and ref.key == "id":
            left = replies[0]
            return replace(ticket, lease=token if left == 0 else None, busy=max(left, 0) / _US)
        (mark, left), *counts = replies
        name = mark[len(codec.MARK) :].decode(errors="replace")
        return replace(ticket, mark=name or None, busy=left / _MS, evicted=self.link.counted(counts))

    def _claim(self, ref: Ref, token: str, wake: bytes | None) -> list[Command]:
        if ref.key != "id":
            mark = codec.MARK + token.encode()
            lease = "0" if wake is None else str(int(LEASE * _MS))
            key = codec.alias_key(ref.key, ref.value)
            return [_MARK.call(key, mark, str(_MARK_LIFE), lease, wake or b""), *self.link.counting]
        if wake is None:
            return []
        args = (ref.slot, token, str(int(LEASE * _US)), LEASED_MS, wake)
        return [_LEASE.call(codec.user_key(ref.value), *args)]

    async def release(self, ref: Ref, ticket: Ticket, wake: bytes) -> None:
        """Ends a fill that stored nothing: `wake` goes to all who wait for it."""
        ref = self._keeping.placed(ref)
        if ref.key == "id" and ticket.lease is not None:
            command = _RELEASE.call(codec.user_key(ref.value), ref.slot, ticket.lease, wake)
        elif ref.key != "id" and ticket.mark is not None:
            mark = codec.MARK + ticket.mark.encode()
            command = _UNMARK.call(codec.alias_key(ref.key, ref.value), mark, wake)
        else:
            return
        async with self.link.bounded():
            await self.link.run(command)

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store."""
        now = self._now()
        if (reason := codec.refused(ref, entry, now)) is not None:
            return reason
        if ticket.seq is None or ticket.epoch is None:
            return self._refuse()
        rules, ref = self._keeping.sign(ref.slot), self._keeping.placed(ref)
        entry = replace(entry, epoch=ticket.epoch)
        life = str(math.ceil((entry.dead - now) * _MS))
        if entry.user_id is None:
            if ticket.mark is None:
                return self._refuse()
            mark = codec.MARK + ticket.mark.encode()
            key = codec.alias_key(ref.key, ref.value)
            record = codec.encode_nobody(ref, entry, self._seal, key)
            store = _NEGATIVE.call(key, mark, record, life)
        else:
            key, field = codec.user_key(entry.user_id), codec.slot_field(ref.slot)
            blob = self._seal.seal(key, field, codec.encode(entry))
            held = ticket.lease if ref.key == "id" else None
            memory = "" if held else ticket.evicted
            limits = (FLOOR_MS, TICKET_US, str(codec.TOKEN_SLOTS), held or "", memory, rules)
            store = _FILL.call(key, str(ticket.seq), field, blob, life, *limits)
        async with self.link.bounded():
            stored, epoch = await self.link.run(store, _GET_EPOCH)
            # Under an epoch that is over it is invisible already.
            if stored == _UNDER_WAY:
                return Reason.FENCED
            if stored != 1 or epoch != ticket.epoch.encode():
                return self._refuse()
            if entry.user_id is not None:
                names = codec.aliases_of(entry)
                args = (entry.user_id, life, codec.place(ref, ticket.mark))
                if 0 in await self.link.run(*(_ALIAS.call(codec.alias_key(*a), *args) for a in names)):
                    return self._refuse()
        return None

    def _refuse(self) -> Reason:
        self._stats.refused_fills += 1
        return Reason.STALE_FILL

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[tuple[str, str]] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store. `everything` counts nothing: what it drops is left to expire."""
        batch = Batch(tuple(user_ids), tuple(aliases), everything)
        evicted, _ = await self.writes.settle(batch, NO_FENCE)
        return evicted

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store."""
        if key == "id":
            return value
        if not codec.usable(value):
            return None
        async with self.link.bounded():
            (raw,) = await self.link.run(("GET", codec.alias_key(key, value)))
        return codec.decode_id(raw) if isinstance(raw, bytes) else None

    async def run_id(self) -> str:
        """Names the server's process, as another one may not know the last evictions; "" if unknown."""
        async with self.link.bounded(any_process=True):
            try:
                (info,) = await self.link.run(("INFO", "server"))
            except ResponseError:
                # Not everybody may ask; that it answered is worth something.
                await self.link.run(("PING",))
                return ""
        return str(info.get("run_id", "")) if isinstance(info, Mapping) else ""

    async def health(self) -> Mapping[str, Any]:
        """See Store."""
        started = time.perf_counter()
        try:
            async with self.link.bounded():
                _, names = await self.link.run(("PING",), ("HKEYS", FEED_KEY))
        except StoreError:
            return {"backend": "redis", "status": "degraded", "latency_ms": None}
        spent = (time.perf_counter() - started) * _MS
        # Some fields of the table of replicas are nobody.
        replicas = len([one for one in names if one[:1].isalnum()]) if isinstance(names, list) else None
        return {"backend": "redis", "status": "ok", "latency_ms": round(spent, 3), "replicas": replicas}

    async def close(self) -> None:
        """See Store; a client that was given is left open."""
        if self._own:
            await self.link.close()
