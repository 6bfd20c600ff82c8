"""The writing side of Redis: ticket numbers, fences around users, evictions."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Mapping
from typing import Any

from proxy.core.model import Batch, Evicted, Fence
from proxy.store import codec
from proxy.store.fences import LIFE, lifted, opened, raised
from proxy.store.link import Command, Link, Script
from proxy.store.lives import FLOOR_MS, TICKET_US, WEEK_MS
from proxy.store.notes import Notes, redeemed

_SEQ, _UNLINK = Script("seq"), Script("unlink")
_FREE, _EVICT = Script("free", "_wakes"), Script("evict", "_fences", "_wakes")

# The field of `user:members` with the run id of the server process that everybody was evicted in.
MET = "#"
# What stands around nobody.
NO_FENCE = Fence("", Batch())


class RedisWrites:
    """What writes do to Redis, over one link. Raises StoreError."""

    def __init__(self, link: Link, seal: codec.Seal = codec.PLAIN) -> None:
        self._link = link
        self._seal = seal
        self._restarting = Lock()
        self._notes = Notes()

    async def numbered(self, *commands: Command) -> list[Any]:
        """A ticket number, and the replies to `commands` after it. To be used within `bounded`."""
        number = (codec.SEQ_KEY, WEEK_MS, TICKET_US)
        replies = await self._link.run(_SEQ.call(*number, "0"), *commands)
        if replies[0] == b"":
            # All who find it lost at the same time raise the epoch once: what was begun under an epoch ends
            # with it.
            async with self._restarting:
                replies = await self._link.run(_SEQ.call(*number, "0"), *commands)
                if replies[0] == b"":
                    await self._link.run(opened(NO_FENCE))
                    replies = await self._link.run(_SEQ.call(*number, "1"), *commands)
        return [int(replies[0]), *replies[1:]]

    async def fence(
        self, fence: Fence, *told: Command, seconds: float = LIFE
    ) -> tuple[list[Any], frozenset[str]]:
        """Raises a fence, or gives it another `seconds`; then runs `told`.

        Returns the replies to `told`, and the users that the batch's aliases lead to: an alias that has a
        user is fenced by its user.
        """
        commands = raised(fence.batch, fence.name, seconds)
        if fence.batch.unnamed:
            commands.append(self._notes.pledged(fence.name, seconds))
        async with self._link.bounded():
            if self._link.ordered or not told:
                replies = await self._link.run(*commands, *told)
            else:
                # On several servers what is told must not overtake the fence: a replica that has dropped its
                # copy could read the old answer again.
                replies = await self._link.run(*commands)
                replies += await self._link.run(*told)
        first = len(fence.batch.users)
        held = replies[first : first + len(fence.batch.aliases)]
        return replies[len(commands) :], frozenset(filter(None, map(codec.decode_id, held)))

    async def meet(self, run_id: str) -> bool:
        """Whether that server process is known here, or began empty. One that is not known may hold an old
        copy: everybody is evicted."""
        async with self._link.bounded():
            met, epoch = await self._link.run(("HGET", codec.MEMBERS_KEY, MET), ("GET", codec.EPOCH_KEY))
            if met != run_id.encode():
                await self._link.run(opened(NO_FENCE))
                # Not before: who finds it there believes what the server holds.
                await self._link.run(*_met(run_id))
            return epoch is None or bool(met == run_id.encode())

    async def redeem(self, claims: Mapping[bytes, bytes], run_id: str) -> None:
        """Removes the notes of writes whose users nobody could name, where they hold what is given.

        Everybody is evicted in the server process of that run id, if it is known.
        """
        async with self._link.bounded():
            await self._link.run(*(redeemed(*claim) for claim in claims.items()), *_met(run_id))

    async def lift(self, fence: Fence, *told: Command) -> None:
        """Takes a fence down after a write that changed nothing, its note last, and runs `told`."""
        async with self._link.bounded():
            leaving = self._notes.leaving(fence.name)
            await self._link.run(*lifted(fence.batch, fence.name), *leaving, *told)
        self._notes.left(fence.name)

    async def settle(self, batch: Batch, fence: Fence, *told: Command) -> tuple[Evicted, bool]:
        """Evicts `batch`, lifts the fence, runs `told`; and says if it had stood around all, all the time.

        Where it had not, answers from before may have been stored meanwhile, here and in memories. The note
        of an unnamed user stays until they are gone as well.
        """
        async with self._link.bounded():
            if batch.everything:
                raising = [] if fence.batch.everything else [opened(fence)]
                await self._link.run(*raising, *lifted(fence.batch, fence.name), *told)
                return Evicted(), False
            return await self._evict(
                dict.fromkeys(user_id for user_id in batch.users if codec.usable(user_id, as_id=True)),
                list(dict.fromkeys(pair for pair in batch.aliases if codec.usable(pair[1]))),
                fence,
                told,
            )

    async def _evict(
        self, ids: dict[str, None], pairs: list[tuple[str, str]], fence: Fence, told: tuple[Command, ...]
    ) -> tuple[Evicted, bool]:
        seq, *held = await self.numbered(*(_FREE.call(codec.alias_key(*pair)) for pair in pairs))
        links: dict[tuple[str, str], str] = {}
        entries = 0
        for pair, raw in zip(pairs, held, strict=True):
            entries += raw.startswith(codec.NOBODY)
            user_id = codec.decode_id(raw)
            if user_id is not None:
                ids[user_id] = None
                links[pair] = user_id
        bounds = (str(seq), FLOOR_MS, TICKET_US, fence.name)
        rest = [one for one in fence.batch.users if one not in ids]
        lifting = lifted(Batch(tuple(rest), fence.batch.aliases, fence.batch.everything), fence.name)
        replies = await self._link.run(
            *(_EVICT.call(codec.user_key(user_id), *bounds) for user_id in ids), *lifting, *told
        )
        # An alias that led to a fenced user was dropped with that user, by all.
        around = set(fence.batch.users)
        free = set(pairs) - set(fence.batch.aliases)
        held_firm = around >= set(ids) and all(links.get(pair) in around for pair in free)
        for user_id, (stood, *blobs) in zip(ids, replies, strict=False):
            held_firm = held_firm and stood == 1
            entries += len(blobs) // 2
            for field, blob in zip(blobs[::2], blobs[1::2], strict=True):
                slot = field.decode(errors="replace")
                entry = codec.decode(self._seal.open(codec.user_key(user_id), slot, blob))
                if entry is not None:
                    links.update(dict.fromkeys(codec.aliases_of(entry), user_id))
        held_firm = held_firm and all(reply == 1 for reply in replies[len(ids) : len(ids) + len(lifting)])
        gone = await self._link.run(*(_UNLINK.call(codec.alias_key(*a), i) for a, i in links.items()))
        return Evicted(entries=entries, aliases=sum(gone)), held_firm


def _met(run_id: str) -> list[Command]:
    if not run_id:
        return []
    return [("HSET", codec.MEMBERS_KEY, MET, run_id), ("PEXPIRE", codec.MEMBERS_KEY, WEEK_MS)]
