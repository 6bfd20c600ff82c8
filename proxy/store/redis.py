"""Answers in Redis or Valkey, shared by all replicas: one hash a user, one string an alias (design §6)."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from proxy.core.errors import StoreError
from proxy.core.model import Absent, Entry, Evicted, Found, Looked, Reason, Ref, Ticket, Tier
from proxy.store import codec
from proxy.store.link import WRONG_TYPE, Command, Link, Script, connect

__all__ = ["RedisStats", "RedisStore", "connect"]

_MS = 1000
_US = 1_000_000
_WEEK = 7 * 86400 * _MS
_SIX_DAYS = 6 * 86400 * _MS
_MARK_LIFE = 30 * _MS
# A ticket must not outlive the floors that refuse it.
_FLOOR_LIFE = 120 * _MS
_TICKET_AGE = 60 * _US

_SEQ, _EPOCH, _MARK, _NEGATIVE, _FILL, _ALIAS, _UNLINK, _FREE, _EVICT, _MEND = _SCRIPTS = tuple(
    Script(name)
    for name in ("seq", "epoch", "mark", "negative", "fill", "alias", "unlink", "free", "evict", "mend")
)

_GET_EPOCH: Command = ("GET", codec.EPOCH_KEY)


@dataclass(slots=True)
class RedisStats:
    """What this process saw: unreadable keys, aliases that led astray, late fills, failed operations."""

    corrupt: int = 0
    aliases_removed: int = 0
    refused_fills: int = 0
    errors: int = 0


class RedisStore:
    """A Store in Redis. Every method but `health` and `close` raises StoreError where Redis cannot answer.

    `client` is a URL, or a ready client that stays open when the store is closed. `deadline` (seconds)
    bounds each operation with its round trips. `now` is the wall clock that entries are judged by.
    """

    def __init__(
        self,
        client: Redis | str,
        *,
        pool_size: int = 10,
        pool_timeout: float = 5.0,
        deadline: float = 0.25,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._own = isinstance(client, str)
        ready = connect(client, pool_size, pool_timeout, deadline) if isinstance(client, str) else client
        self._link = Link(ready, _SCRIPTS, deadline=deadline)
        self._now = now
        self._stats = RedisStats()

    @property
    def stats(self) -> RedisStats:
        """Counters since the start."""
        self._stats.errors = self._link.errors
        return self._stats

    async def get(self, ref: Ref) -> Looked:
        """See Store. Stale, expired and unreadable things are told apart by the reason."""
        if not codec.usable(ref.value):
            return Absent(Reason.KEY_UNUSABLE)
        async with self._link.bounded():
            if ref.key == "id":
                return await self._user(ref, ref.value, None)
            raw, epoch = await self._link.run(("GET", codec.alias_key(ref.key, ref.value)), _GET_EPOCH)
            if raw is None or (isinstance(raw, bytes) and raw.startswith(codec.MARK)):
                return Absent()
            if isinstance(raw, bytes):
                if raw.startswith(codec.NOBODY):
                    return await self._nobody(ref, raw, epoch)
                user_id = codec.decode_id(raw)
                if user_id is not None:
                    return await self._user(ref, user_id, raw)
            return await self._corrupt_alias(ref, raw)

    async def _user(self, ref: Ref, user_id: str, alias: bytes | None) -> Looked:
        key, field = codec.user_key(user_id), codec.slot_field(ref.slot)
        # The epoch is read after the answer: one that was raised in between refuses it.
        asked: list[Command] = [("HGET", key, field), _GET_EPOCH, ("EXISTS", key)]
        blob, epoch, *exists = await self._link.run(*asked[: 2 if alias is None else 3])
        if blob is None:
            if exists == [0]:
                await self._unlink(ref, alias)
            return Absent()
        entry = codec.decode(blob) if isinstance(blob, bytes) else None
        if entry is None or entry.user_id != user_id:
            self._stats.corrupt += 1
            read = blob if isinstance(blob, bytes) else b""
            await self._link.run(_MEND.call(key, field, read, str(_FLOOR_LIFE)))
            return Absent(Reason.CORRUPT)
        unfit = self._unfit(entry, epoch)
        if unfit is not None:
            return Absent(unfit)
        if alias is not None and entry.keys.get(ref.key) != ref.value:
            await self._unlink(ref, alias)
            return Absent(Reason.ALIAS_UNPROVEN)
        return Found(entry, Tier.REDIS)

    async def _nobody(self, ref: Ref, raw: bytes, epoch: object) -> Looked:
        nobody = codec.decode_nobody(raw)
        if nobody is None or (nobody.key, nobody.value) != (ref.key, ref.value):
            return await self._corrupt_alias(ref, raw)
        unfit = self._unfit(nobody.entry, epoch)
        if unfit is not None:
            # It makes room for the mark, without which the next "nobody" could not be stored.
            await self._link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), raw))
            return Absent(unfit)
        return Found(nobody.entry, Tier.REDIS) if nobody.answers(ref) else Absent()

    def _unfit(self, entry: Entry, epoch: object) -> Reason | None:
        if epoch is WRONG_TYPE:
            # The next ticket puts a new one there.
            self._stats.corrupt += 1
            return Reason.CORRUPT
        if epoch != entry.epoch.encode():
            return Reason.ABSENT
        return Reason.EXPIRED if entry.dead <= self._now() else None

    async def _unlink(self, ref: Ref, read: bytes | None) -> None:
        self._stats.aliases_removed += 1
        await self._link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), read or b""))

    async def _corrupt_alias(self, ref: Ref, raw: object) -> Absent:
        self._stats.corrupt += 1
        read = raw if isinstance(raw, bytes) else b""
        await self._link.run(_UNLINK.call(codec.alias_key(ref.key, ref.value), read))
        return Absent(Reason.CORRUPT)

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """See Store. `seq` counts microseconds of Redis's clock."""
        epoch = _EPOCH.call(codec.EPOCH_KEY, secrets.token_hex(8), str(_WEEK), str(_SIX_DAYS))
        asked = [epoch]
        if ref is not None and ref.key != "id" and codec.usable(ref.value):
            mark = codec.MARK + secrets.token_hex(8).encode()
            asked.append(_MARK.call(codec.alias_key(ref.key, ref.value), mark, str(_MARK_LIFE)))
        async with self._link.bounded():
            seq, found, *marks = await self._numbered(*asked)
        left = marks[0][len(codec.MARK) :].decode(errors="replace") if marks else ""
        return Ticket(seq=seq, epoch=found.decode(), mark=left or None)

    async def _numbered(self, *commands: Command) -> list[Any]:
        """A ticket number, and the replies to `commands` after it."""
        number = (codec.SEQ_KEY, str(_WEEK), str(_TICKET_AGE))
        replies = await self._link.run(_SEQ.call(*number, "0"), *commands)
        if replies[0] == b"":
            await self._link.run(self._new_epoch())
            replies = await self._link.run(_SEQ.call(*number, "1"), *commands)
        return [int(replies[0]), *replies[1:]]

    @staticmethod
    def _new_epoch() -> Command:
        return ("SET", codec.EPOCH_KEY, secrets.token_hex(8), "PX", str(_WEEK))

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """See Store."""
        now = self._now()
        reason = codec.refused(ref, entry, now)
        if reason is not None:
            return reason
        if ticket.seq is None or ticket.epoch is None:
            return self._refuse()
        entry = msgspec.structs.replace(entry, epoch=ticket.epoch)
        life = str(math.ceil((entry.dead - now) * _MS))
        if entry.user_id is None:
            if ticket.mark is None:
                return self._refuse()
            mark = codec.MARK + ticket.mark.encode()
            record = codec.encode_nobody(ref, entry)
            store = _NEGATIVE.call(codec.alias_key(ref.key, ref.value), mark, record, life)
        else:
            field, blob = codec.slot_field(ref.slot), codec.encode(entry)
            limits = (str(_FLOOR_LIFE), str(_TICKET_AGE), str(codec.TOKEN_SLOTS))
            store = _FILL.call(codec.user_key(entry.user_id), str(ticket.seq), field, blob, life, *limits)
        async with self._link.bounded():
            stored, epoch = await self._link.run(store, _GET_EPOCH)
            # Under an epoch that is over it is invisible already.
            if stored != 1 or epoch != ticket.epoch.encode():
                return self._refuse()
            if entry.user_id is not None:
                names = codec.aliases_of(entry)
                await self._link.run(*(_ALIAS.call(codec.alias_key(*a), entry.user_id, life) for a in names))
        return None

    def _refuse(self) -> Reason:
        self._stats.refused_fills += 1
        return Reason.STALE_FILL

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[tuple[str, str]] = (), *, everything: bool = False
    ) -> Evicted:
        """See Store. `everything` counts nothing: what it drops is left to expire."""
        async with self._link.bounded():
            if everything:
                await self._link.run(self._new_epoch())
                return Evicted()
            return await self._evict(
                dict.fromkeys(user_id for user_id in user_ids if codec.usable(user_id, as_id=True)),
                list(dict.fromkeys(pair for pair in aliases if codec.usable(pair[1]))),
            )

    async def _evict(self, ids: dict[str, None], pairs: list[tuple[str, str]]) -> Evicted:
        seq, *held = await self._numbered(*(_FREE.call(codec.alias_key(*pair)) for pair in pairs))
        links: dict[tuple[str, str], str] = {}
        entries = 0
        for pair, raw in zip(pairs, held, strict=True):
            entries += raw.startswith(codec.NOBODY)
            user_id = codec.decode_id(raw)
            if user_id is not None:
                ids[user_id] = None
                links[pair] = user_id
        bounds = (str(seq), str(_FLOOR_LIFE), str(_TICKET_AGE))
        removed = await self._link.run(*(_EVICT.call(codec.user_key(user_id), *bounds) for user_id in ids))
        for user_id, blobs in zip(ids, removed, strict=True):
            entries += len(blobs)
            for blob in blobs:
                entry = codec.decode(blob)
                if entry is not None:
                    links.update(dict.fromkeys(codec.aliases_of(entry), user_id))
        gone = await self._link.run(*(_UNLINK.call(codec.alias_key(*a), i) for a, i in links.items()))
        return Evicted(entries=entries, aliases=sum(gone))

    async def resolve(self, key: str, value: str) -> str | None:
        """See Store."""
        if key == "id":
            return value
        if not codec.usable(value):
            return None
        async with self._link.bounded():
            (raw,) = await self._link.run(("GET", codec.alias_key(key, value)))
        return codec.decode_id(raw) if isinstance(raw, bytes) else None

    async def run_id(self) -> str:
        """Names the server's process, as another one may not know the last evictions; "" if unknown."""
        async with self._link.bounded():
            try:
                (info,) = await self._link.run(("INFO", "server"))
            except ResponseError:
                # Not everybody may ask; that it answered is worth something.
                await self._link.run(("PING",))
                return ""
        return str(info.get("run_id", "")) if isinstance(info, Mapping) else ""

    async def health(self) -> Mapping[str, Any]:
        """See Store."""
        started = time.perf_counter()
        try:
            async with self._link.bounded():
                await self._link.run(("PING",))
        except StoreError:
            return {"backend": "redis", "status": "degraded", "latency_ms": None}
        spent = (time.perf_counter() - started) * _MS
        return {"backend": "redis", "status": "ok", "latency_ms": round(spent, 3)}

    async def close(self) -> None:
        """See Store; a client that was given is left open."""
        if self._own:
            await self._link.close()
