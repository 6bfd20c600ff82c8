"""What replicas tell each other: drop these users from memory; and whether memory may be used at all.

A replica may answer from memory while its lease is proven alive: it renewed the lease at a moment `sent` of
its own clock, and the echo of that came down the connection that brings the announcements. Whatever was
announced before the echo has then been dropped. A writer's announcement returns when each replica whose
lease was alive has dropped the users, or that lease is over (design §7.5). See docs/coherence.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from proxy.announcement import Announcement
from proxy.core.errors import StoreError
from proxy.core.model import Batch, Fence, Ref
from proxy.core.ports import Memory
from proxy.messages import Listening, Message, about, decode, encode, questions
from proxy.renewal import MEMBERS, UNLISTED, renewal, renewed
from proxy.rollcall import RollCall
from proxy.store.link import Command, Link, Script

log = logging.getLogger("proxy.feed")

CHANNEL = "user:feed"
LEASE = 2.0
RENEW_EVERY = 0.5
# Clocks of two machines may run apart by this share of a lease; kernels keep them far closer.
DRIFT = 0.05
# After a lost connection the next one is tried after this many seconds.
RECONNECT_AFTER = 0.1

ANNOUNCE = Script("announce")


class Feed:
    """One replica's end of the feed.

    `drop(batch)` is called before an announcement is acknowledged, and with everything whenever the lease
    was not alive for a while; `woken(key, value, storable)` when a replica has ended a fill; `standing`
    hears of the fences of others. Times are seconds of `clock`.
    """

    def __init__(
        self,
        link: Link,
        listening: Listening,
        *,
        drop: Callable[[Batch], object],
        woken: Callable[[str, str, bool], None],
        standing: Memory | None = None,
        lease: float = LEASE,
        renew_every: float = RENEW_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.replica = secrets.token_hex(6)
        self._own = f"{CHANNEL}:{self.replica}"
        self._link = link
        self._listening = listening
        self._drop = drop
        self._woken = woken
        self._standing = standing
        self._lease = lease
        self._renew_every = renew_every
        self._clock = clock
        self._until = self._settled = 0.0
        self._sent: dict[int, float] = {}
        self._roll = RollCall()
        self._numbers = 0
        self._open: dict[int, Announcement] = {}
        self._task: asyncio.Task[None] | None = None
        self._proven = asyncio.Event()
        self.orphaned: Callable[[Mapping[bytes, bytes]], object] = lambda _: None
        self.forgotten: Callable[[], object] = lambda: None
        self.newcomer: Callable[[], object] = lambda: None
        """See ports.Membership, as of the two before."""
        self.lapses = 0
        """Times that memory was given up because the lease was not proven in time; joining is none."""
        self.announced = 0
        self.waited_out = 0
        """Announcements that a replica did not acknowledge before its lease was over."""

    @property
    def alive(self) -> bool:
        """May memory be used now? Read the clock each time: a process that was frozen finds out here."""
        return self._clock() < self._until

    @property
    def behind(self) -> float:
        """For so many seconds writes of others may have gone unheard; 0 while the lease is alive."""
        return max(0.0, self._clock() - self._until)

    # -- announcing ----------------------------------------------------------------------------------

    def announcement(self, batch: Batch, fence: str = "", seconds: float = 0.0) -> Announcement:
        """A message that tells all replicas to drop `batch`; run its command, then await `heard`.

        Before they acknowledge, they raise `fence` around it in their own memory, for `seconds`.
        """
        self.announced += 1
        self._numbers += 1
        message = about("drop", self.replica, self._numbers, Fence(fence, batch), seconds)
        command = ANNOUNCE.call(MEMBERS, CHANNEL, encode(message))
        announcement = self._open[self._numbers] = Announcement(self._numbers, command, self._hear)
        return announcement

    def standing(self, fence: Fence, seconds: float) -> Command:
        """Tells all replicas how long a fence goes on standing; 0: it is down."""
        message = about("stand" if seconds else "lift", self.replica, 0, fence, seconds)
        return ("PUBLISH", CHANNEL, encode(message))

    def word(
        self, tokens: Sequence[tuple[str, float]] = (), cutoffs: Sequence[tuple[str, float, float]] = ()
    ) -> Command:
        """Tells all replicas of tokens that are good no more, so that Redis may forget it; see Message."""
        message = Message("word", self.replica, 0, tokens=tuple(tokens), cutoffs=tuple(cutoffs))
        return ("PUBLISH", CHANNEL, encode(message))

    @property
    def listed(self) -> Command | None:
        """Asks Redis for this replica's own entry; None while there need not be one."""
        return ("HEXISTS", MEMBERS, self.replica) if self._proven.is_set() else None

    def wake(self, ref: Ref, *, storable: bool) -> bytes:
        """The message that a fill of `ref` has ended; `storable`: look again, it may be stored."""
        return encode(Message("wake", "", int(storable), (), ((ref.key, ref.value),)))

    async def _hear(self, announcement: Announcement, left: dict[str, float]) -> None:
        try:
            await self.heard(announcement, left)
        finally:
            self._open.pop(announcement.number, None)

    async def heard(self, announcement: Announcement, left: dict[str, float]) -> None:
        """Waits for the live replicas, `left` being the seconds of their leases when they were told."""
        started = self._clock()
        # The table of members was lost (FLUSHALL, an eviction of the key, another server), and leases that it
        # held may be alive: renew.lua noted how long, or nobody has renewed since, not even this replica.
        longest = left.pop(UNLISTED, 0.0)
        if left.pop(self.replica, None) is None:
            longest = self._lease
        roll = await self._roll.at(announcement, self.replica, longest * (1 + DRIFT)) if longest else None
        if roll is not None:
            left, longest = dict.fromkeys(roll - {self.replica}, self._lease) | left, 0.0
        missing: set[str] = set()
        if left:
            missing = await announcement.acked_by(left, max(left.values()) * (1 + DRIFT))
        if missing:
            log.warning("replicas did not acknowledge within their lease", extra={"replicas": len(missing)})
            longest = max(longest, *(left[one] for one in missing))
        if longest:
            self.waited_out += 1
            await asyncio.sleep(started + longest * (1 + DRIFT) - self._clock())

    # -- listening -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Joins in the background; memory stays off until the first echo."""
        if self._task is None:
            self._task = asyncio.create_task(self._for_ever())

    async def proven(self) -> None:
        """Waits until the lease is alive for the first time."""
        self.start()
        await self._proven.wait()

    async def close(self) -> None:
        """Leaves: memory is off first, then the others need not wait for this replica any more."""
        self._until = min(self._until, self._clock())
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreError):
            async with self._link.bounded():
                await self._link.run(("HDEL", MEMBERS, self.replica))

    async def _for_ever(self) -> None:
        me = asyncio.current_task()
        while not (me and me.cancelling()):  # before 3.13 a TaskGroup drops one that meets an error
            try:
                async with self._listening(CHANNEL, self._own) as messages, asyncio.TaskGroup() as group:
                    group.create_task(self._renewing())
                    async for raw in messages:
                        await self._take(raw)
                    raise StoreError("the feed ended")
            except* StoreError as lost:
                log.debug("feed lost", extra={"cause": str(lost.exceptions[0])})
            except* Exception as bug:
                # Whatever went wrong, memory is off until a new connection has proven itself.
                log.exception("feed broke", extra={"cause": type(bug.exceptions[0]).__name__})
            finally:
                self._until = min(self._until, self._clock())
                self._sent.clear()
                self._roll.lost()
            await asyncio.sleep(RECONNECT_AFTER)

    async def _renewing(self) -> None:
        while True:
            self._numbers += 1
            sent = self._sent[self._numbers] = self._clock()
            joined = self._proven.is_set()
            async with self._link.bounded():
                server = self._link.process.run_id
                command = renewal(self.replica, self._own, self._numbers, self._lease, server)
                (reply,) = await self._link.run(command)
            told = renewed(reply)
            self._settled = self._clock() + told.unlisted
            if not (told.unlisted or told.new):
                self._roll.listed(told.live, sent)
            if joined and self.replica not in told.live:
                # The table was lost, and all else with it.
                self.forgotten()
            if told.orphans or (told.new and joined):
                self.orphaned(told.orphans)
            await asyncio.sleep(self._renew_every)

    async def _take(self, raw: bytes) -> None:
        try:
            message = decode(raw)
        except msgspec.MsgspecError:
            # Somebody else writes to our channel. What it meant is unknown, so nothing here may be trusted.
            raise StoreError("unreadable message on the feed") from None
        match message.kind:
            case "echo" if self._echoed(message.number) and self._standing is not None:
                for writer, question in questions(self.replica, self._standing.told()):
                    await self._say(writer, question)
            case "ack":
                if message.number in self._open:
                    self._open[message.number].ack(message.sender)
            case "wake":
                for key, value in message.aliases:
                    self._woken(key, value, bool(message.number))
            case "held" if self._standing is not None:
                ended = tuple(one for one in message.fences if not self._standing.stands(one))
                await self._say(message.sender, Message("ended", self.replica, 0, fences=ended))
            case "word" if self._standing is not None:
                self._standing.learn(message.tokens, message.cutoffs)
            case "join":
                self._roll.joined(message.sender, self._clock())
                self.newcomer()
            case "drop" | "stand" | "lift" | "ended" if message.sender != self.replica:
                await self._told(message)
            case "drop" if message.number in self._open:
                self._open[message.number].ack(self.replica)

    async def _told(self, message: Message) -> None:
        """Another replica begins, goes on with, or has ended a write."""
        batch = Batch(message.users, message.aliases, message.everything)
        if self._standing is not None and message.kind in ("lift", "ended"):
            for one in message.fences or (message.fence,):
                self._standing.lift(one)
        elif self._standing is not None and message.fence:
            self._standing.stand(Fence(message.fence, batch), message.seconds, message.sender)
        if message.kind == "drop":
            self._drop(batch)
            await self._say(message.sender, Message("ack", self.replica, message.number))

    async def _say(self, replica: str, message: Message) -> None:
        async with self._link.bounded():
            await self._link.run(("PUBLISH", f"{CHANNEL}:{replica}", encode(message)))

    def _echoed(self, number: int) -> bool:
        """True where memory was off until now: fences may have been lifted, and nobody told this replica."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return False
        self._sent = {newer: at for newer, at in self._sent.items() if newer > number}
        again = not self.alive
        if again:
            # Announcements of the time between may have missed this replica: nobody waited for it.
            self.lapses += self._proven.is_set()
            self._drop(Batch(everything=True))
        self._until = max(self._until, sent + self._lease * (1 - DRIFT))
        self._proven.set()
        return again

    def health(self) -> dict[str, Any]:
        """Counts; `alive`: memory is used; `settled`: writes need not wait for unlisted replicas."""
        return {
            "alive": self.alive,
            "settled": self.alive and self._clock() >= self._settled,
            "replica": self.replica,
            "lapses": self.lapses,
            "announced": self.announced,
            "waited_out": self.waited_out,
        }


def join(link: Link, memory: Memory, woken: Callable[[str, str, bool], None]) -> Feed:
    """This replica's end of the feed, over the store's own link."""
    return Feed(link, link.listening, drop=memory.drop_batch, woken=woken, standing=memory)
