"""Mistakes to put back in: each takes a step of the protocol away, and some schedule must show it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from proxy.core.model import Batch, Evicted, Fence, Found, Looked, Reason, Ref, Ticket
from proxy.feed import Feed
from proxy.leases import Leases, Loaded, Own
from proxy.renewal import RENEW
from proxy.rollcall import RollCall
from proxy.store import codec
from proxy.store.bracket import Bracket
from proxy.store.held import Memory
from proxy.store.memory import MemoryStore
from proxy.store.notes import Notes, redeemed
from proxy.store.recovery import Recovery
from proxy.store.redis import RedisStore
from proxy.store.writes import RedisWrites
from tests.simulator import tokenbugs

Patching = Callable[[], Any]


@dataclass(frozen=True)
class Bug:
    """`cuts`: pieces of scripts and what they become. `seed` and `tried`: what found it, after how many."""

    name: str
    scenario: str
    seed: int
    tried: int
    patching: Patching = nullcontext
    cuts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def mutate(self, text: str) -> str:
        """A script with the mistake in it."""
        for piece, other in self.cuts:
            text = text.replace(piece, other)
        return text

    def __str__(self) -> str:
        return self.name


def _instead(owner: type, name: str, other: Any) -> Patching:
    return lambda: patch.object(owner, name, other)


@contextmanager
def _ticket_late() -> Iterator[None]:
    load = Leases._load

    async def late(
        self: Leases, ref: Ref, ticket: Ticket, loader: Callable[[Ticket], Awaitable[Loaded[Any]]]
    ) -> tuple[Own[Any], Found | None]:
        loaded = await loader(ticket)
        newer = await self._store.ticket(ref)

        async def again(_: Ticket) -> Loaded[Any]:
            return loaded

        return await load(self, ref, replace(newer, lease=ticket.lease), again)

    with patch.object(Leases, "_load", late):
        yield


@contextmanager
def _unproven() -> Iterator[None]:
    user = RedisStore._user

    async def trusting(self: RedisStore, ref: Ref, user_id: str, alias: bytes | None) -> Looked:
        return await user(self, ref, user_id, None)

    with patch.object(RedisStore, "_user", trusting):
        yield


@contextmanager
def _epoch_late() -> Iterator[None]:
    fill = RedisStore.fill

    async def any_epoch(self: RedisStore, ref: Ref, entry: Any, ticket: Ticket) -> Reason | None:
        async with self.link.bounded():
            (epoch,) = await self.link.run(("GET", codec.EPOCH_KEY))
        known = isinstance(epoch, bytes) and not epoch.startswith(codec.SIGN.encode())
        return await fill(self, ref, entry, replace(ticket, epoch=epoch.decode()) if known else ticket)

    with patch.object(RedisStore, "fill", any_epoch):
        yield


def _forgets(self: MemoryStore, fence: Fence, seconds: float, writer: str) -> None:
    return None


async def _nobody_waits(self: Feed, announcement: Any, left: dict[str, float]) -> None:
    return None


@contextmanager
def _alive_when_sent() -> Iterator[None]:
    renewing = Feed._renewing

    async def eager(self: Feed) -> None:
        run = self._link.run

        async def extends(*commands: Any) -> list[Any]:
            sent = self._clock()
            replies = await run(*commands)
            renewal = any(one[:2] == RENEW.call("")[:2] for one in commands)
            if renewal and self._proven.is_set():
                self._until = max(self._until, sent + self._lease)
            return replies

        with patch.object(self._link, "run", extends):
            await renewing(self)

    with patch.object(Feed, "_renewing", eager):
        yield


@contextmanager
def _never_again() -> Iterator[None]:
    settle = RedisWrites.settle

    async def held(self: RedisWrites, batch: Batch, fence: Fence, *told: Any) -> tuple[Evicted, bool]:
        evicted, _ = await settle(self, batch, fence, *told)
        return evicted, True

    with patch.object(RedisWrites, "settle", held):
        yield


@contextmanager
def _redeemed_early() -> Iterator[None]:
    settle = RedisWrites.settle

    async def early(self: RedisWrites, batch: Batch, fence: Fence, *told: Any) -> tuple[Evicted, bool]:
        settled = await settle(self, batch, fence, *told)
        await self.lift(Fence(fence.name, Batch()))
        return settled

    with patch.object(RedisWrites, "settle", early):
        yield


def _with_the_first(self: Notes, fence: str) -> list[Any]:
    note = self._of.get(fence)
    return [] if note is None else [redeemed(note)]


async def _not_widened(self: Bracket, fence: Fence, leads: frozenset[str], tries: int) -> None:
    return None


async def _at_once(self: RollCall, *_: Any) -> frozenset[str] | None:
    return None if self._listed is None else self._listed.union(self._joined)


def _kept(self: Feed, number: int) -> bool:
    sent = self._sent.pop(number, None)
    if sent is not None:
        self._until = max(self._until, sent + self._lease * 0.95)
        self._proven.set()
    return False


async def _met(self: RedisWrites, run_id: str) -> bool:
    return True


async def _forgotten(self: Recovery) -> None:
    self.pending.take(1 << 30)
    self._back()
    self.breaker.close()


@contextmanager
def _untold_on_return() -> Iterator[None]:
    deliver, up = Bracket._deliver, Bracket._raise

    def returning(self: Bracket) -> bool:
        return self.recovery.down and not self.recovery.deaf

    async def delivers(self: Bracket, batch: Batch, fence: Fence) -> Evicted:
        return self.memory.drop_batch(batch) if returning(self) else await deliver(self, batch, fence)

    async def raises(self: Bracket, fence: Fence) -> None:
        if not returning(self):
            await up(self, fence)

    with patch.object(Bracket, "_deliver", delivers), patch.object(Bracket, "_raise", raises):
        yield


async def _no_fence(
    self: RedisWrites, fence: Fence, *told: Any, seconds: float = 0.0
) -> tuple[list[Any], frozenset[str]]:
    async with self._link.bounded():
        return await self._link.run(*told), frozenset()


BUGS = (
    Bug(
        "a fill's ticket is not checked against the floor",
        "a fill elsewhere by e-mail",
        19,
        20,
        cuts=(("seq <= tonumber(floor)", "false"),),
    ),
    Bug("the ticket is taken after upstream was asked", "a fill and a write", 37, 38, _ticket_late),
    Bug(
        "the floor is raised only where something is stored",
        "a fill elsewhere by e-mail",
        19,
        20,
        cuts=(
            (
                "redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', floor))",
                "if #removed > 1 then redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', floor)) end",
            ),
        ),
    ),
    Bug("an alias is not proven by the user it leads to", "an alias that comes late", 101, 102, _unproven),
    Bug(
        "memory has no floor",
        "a copy on its way to memory",
        3,
        4,
        _instead(Memory, "_raise_floor", lambda self, user_id: None),
    ),
    Bug(
        "the clock is not read on the hit",
        "a replica freezes",
        1,
        2,
        _instead(Feed, "alive", property(lambda self: self._until > 0)),
    ),
    Bug(
        "an announcement waits for nobody",
        "a copy in another memory",
        93,
        94,
        _instead(Feed, "heard", _nobody_waits),
    ),
    Bug("a renewal counts without its echo", "a replica is deaf", 0, 1, _alive_when_sent),
    Bug(
        "a fill is stored under a fence",
        "a fill within a write",
        7,
        8,
        _instead(MemoryStore, "fenced", lambda *_: False),
        cuts=(
            (
                "settle(now, '', false) ~= '' then\n  return 2",
                "settle(now, '', false) == 'x' then\n  return 2",
            ),
        ),
    ),
    Bug("a write has no fence", "a writer dies", 72, 73, _instead(RedisWrites, "fence", _no_fence)),
    Bug(
        "a fence that runs out does not evict",
        "a writer dies",
        561,
        562,
        cuts=(("if not evicting then", "if false then"), ("if lapsed then", "if false then")),
    ),
    Bug(
        "nobody is stored without a mark",
        "a new user",
        19,
        20,
        cuts=(
            ("if type(held) ~= 'string' or string.match(held, '^[^\\n]*') ~= ARGV[1] then", "if false then"),
        ),
    ),
    Bug("the second announcement is never made", "a write by a forgotten e-mail", 36, 37, _never_again),
    Bug(
        "fences of others are not remembered",
        "a fenced key is deleted",
        529,
        530,
        _instead(MemoryStore, "stand", _forgets),
    ),
    Bug(
        "a write of unnamed users leaves no note",
        "a writer of nobody knows whom dies",
        9,
        10,
        cuts=(
            (
                "redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2]))",
                "local _ = (ARGV[1]",
            ),
        ),
    ),
    Bug(
        "the note goes before all have heard of the eviction",
        "a writer of nobody knows whom dies",
        175,
        176,
        _redeemed_early,
    ),
    Bug(
        "the note goes with the first of those that share it",
        "one of two writers of nobody knows whom ends",
        143,
        144,
        _instead(Notes, "leaving", _with_the_first),
    ),
    Bug(
        "whoever finds the note of a dead writer removes it at once",
        "who takes over dies as well",
        120,
        121,
        cuts=(("redis.call('HSET', KEYS[1], name, claim)", "redis.call('HDEL', KEYS[1], name)"),),
    ),
    Bug(
        "a lost table of notes is not noticed",
        "the note of a dead writer is lost",
        9,
        10,
        cuts=(("server and 0 or 1", "0"),),
    ),
    Bug(
        "who has the name that a write gives away is not fenced",
        "who takes a name from another dies",
        72,
        73,
        _instead(Bracket, "_widen", _not_widened),
    ),
    Bug(
        "a count that was lost goes on by the clock",
        "the count is lost and the clock set back",
        7,
        8,
        cuts=(("if last == 0 or last >", "if last >"),),
    ),
    Bug(
        "who takes a lease does not say so",
        "a replica joins, and FLUSHALL",
        25,
        26,
        cuts=(("redis.call('PUBLISH', 'user:feed', ARGV[8])", "local _"),),
    ),
    Bug(
        "the roll is called before the own announcement was heard",
        "a replica joins, and FLUSHALL",
        3979,
        3980,
        _instead(RollCall, "at", _at_once),
    ),
    Bug("a ticket of an old epoch is good", "everybody and one", 5, 6, _epoch_late),
    Bug("memory is kept after a lapse", "a feed breaks", 0, 1, _instead(Feed, "_echoed", _kept)),
    Bug(
        "who begins trusts whatever Redis holds",
        "Redis restarts as it was, and all others",
        0,
        1,
        _instead(RedisWrites, "meet", _met),
    ),
    Bug(
        "evictions are forgotten in an outage",
        "Redis is lost",
        0,
        1,
        _instead(Recovery, "_return", _forgotten),
    ),
    Bug(
        "a write during the return is not told",
        "a write while Redis comes back",
        4,
        5,
        _untold_on_return,
    ),
    Bug(
        "that a token ends is said once the write was done",
        "who logs out dies",
        9,
        10,
        tokenbugs.said_afterwards,
    ),
    Bug(
        "that tokens are from before is said once the write was done",
        "who has a new password dies",
        9,
        10,
        tokenbugs.said_afterwards,
    ),
    Bug(
        "that a token is good is noted however long ago it was asked",
        "a refused logout and a real one",
        154,
        155,
        tokenbugs.notes_without_tickets,
    ),
    Bug("only Redis knows of a logout", "FLUSHALL after a logout", 0, 1, tokenbugs.kept_by_one),
    Bug(
        "a Redis that lost its data is believed about a token",
        "FLUSHALL and who did not hear of a logout",
        54,
        55,
        tokenbugs.loss_unnoticed,
    ),
    Bug(
        "a Redis that lost its data is not told of logouts again",
        "FLUSHALL and who did not hear of a logout",
        29,
        30,
        tokenbugs.never_told_again,
    ),
)
