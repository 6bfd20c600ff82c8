"""Who acts: readers and writers, who do with the cache what the walk's steps do, and the world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from proxy.core.model import Batch, Entry, Fence, Found, Ref, Ticket
from proxy.leases import Loaded, Shared
from tests.simulator.history import Op, User
from tests.simulator.scheduler import ACTOR, REPLICA
from tests.simulator.world import UPSTREAM_TIMEOUT, Act, World

TTL = 300.0
Change = Callable[[World], dict[str, User | None] | None]


def _user(entry: Entry) -> User | None:
    return None if entry.user_id is None else msgspec.json.decode(entry.body, type=User)


async def read(world: World, replica: str, key: str, value: str) -> Op:
    """A look-up: a fresh hit, or one upstream call shared with all who ask meanwhile (steps/lookup.py)."""
    here = world.replicas[replica]
    op = world.history.begin(Op(ACTOR.get(), "read", (key, value)))
    ref = Ref(key, value, "users")
    seen = here.cache.leases.landed
    looked = await here.cache.get(ref)
    if isinstance(looked, Found) and looked.entry.expires > here.wall():
        op.saw, op.tier = _user(looked.entry), looked.tier
    else:

        async def load(_: Ticket) -> Loaded[User | None]:
            found = await world.upstream.read(key, value)
            now = here.wall()
            entry = Entry(
                user_id=found.id if found else None,
                keys={"email": found.email} if found else {},
                status=200 if found else 404,
                body=msgspec.json.encode(found),
                stored=now,
                expires=now + TTL,
                dead=now + TTL,
            )
            # "Nobody has this id" is not stored, as there is no user to store it under.
            return Loaded(found, None if found is None and key == "id" else entry)

        result = await here.cache.leases.fill_once(ref, seen, load)
        if isinstance(result, Shared):
            op.saw, op.tier = _user(result.found.entry), f"shared, {result.found.tier}"
        else:
            op.saw, op.tier = result.value, "upstream"
    world.history.end(op)
    return op


class Words:
    """What a write says of tokens, under its fence (steps/revoke.py). Nothing, here.

    `made` is what it makes of them.
    """

    made: dict[str, User | None] = {}  # noqa: RUF012 - never written to

    async def begin(self, world: World, replica: str, fence: Fence) -> None:
        """Before upstream hears of the write."""

    async def happened(self, world: World, replica: str, fence: Fence) -> None:
        """It was done, or may be."""

    async def undone(self, world: World, replica: str, fence: Fence) -> None:
        """It changed nothing."""


async def write(
    world: World,
    replica: str,
    before: Batch,
    change: Change,
    *,
    lost: bool = False,
    quiet: bool = False,
    words: Words | None = None,
) -> None:
    """A write: fence, forward, evict by outcome (steps/write.py).

    `lost`: upstream's answer never comes. `quiet`: it doesn't show the user, as with 204.
    """
    words = words or Words()
    cache = world.replicas[replica].cache
    # Where its proxy dies, what it says of tokens stands, whether upstream has heard of it or not.
    op = world.history.begin(Op(ACTOR.get(), "write", made=dict(words.made)))
    fence = await cache.fence(before)
    await words.begin(world, replica, fence)
    await world.scheduler.point("forwards the write")
    deadline = world.loop.time() + UPSTREAM_TIMEOUT

    def commit() -> dict[str, User | None] | None:
        made = change(world)
        op.made = made or {}
        return made

    async def forward() -> bool:
        ACTOR.set(f"{ACTOR.get()}.upstream")
        REPLICA.set("")
        done = await world.upstream.commit(commit, deadline)
        if not done:
            op.outcome = "failed"
        await world.scheduler.point("upstream answers")
        return done

    forwarded = asyncio.create_task(forward())
    if lost:
        await words.happened(world, replica, fence)
        # What it will be is not known yet; the names are those of the request.
        await cache.settle(fence, before, linger=UPSTREAM_TIMEOUT)
        return
    if not await forwarded:
        await words.undone(world, replica, fence)
        await cache.settle(fence, None)
        world.history.end(op)
        return
    made = {} if quiet or before.everything else op.made
    keys = {("email", user.email) for user in made.values() if user is not None}
    ids = tuple(dict.fromkeys((*before.users, *made)))
    aliases = tuple(dict.fromkeys((*before.aliases, *sorted(keys))))
    await words.happened(world, replica, fence)
    await cache.settle(fence, Batch(ids, aliases, before.everything))
    op.outcome = "done"
    world.history.end(op)


def reads(key: str, value: str) -> Act:
    """Reads one key."""

    async def act(world: World, replica: str) -> None:
        await read(world, replica, key, value)

    return act


def compares(key: str, value: str) -> Act:
    """Reads one key, and notes where that isn't what upstream has now."""

    async def act(world: World, replica: str) -> None:
        op = await read(world, replica, key, value)
        if op.saw != world.upstream.find(key, value):
            world.stale = f"replica {replica} stays stale: {key}={value}"

    return act


def updates(user_id: str, *, lost: bool = False, quiet: bool = False) -> Act:
    """PUT of a user whose keys stay as they are."""

    def change(world: World) -> dict[str, User | None] | None:
        held = world.upstream.users.get(user_id)
        return {user_id: User(user_id, world.upstream.version(), held.email)} if held else None

    return _writes(Batch((user_id,)), change, lost=lost, quiet=quiet)


def updates_somebody(user_id: str) -> Act:
    """A write that names nobody: only its answer tells whose it was."""

    def change(world: World) -> dict[str, User | None] | None:
        held = world.upstream.users.get(user_id)
        return {user_id: User(user_id, world.upstream.version(), held.email)} if held else None

    return _writes(Batch(unnamed=True), change)


def renames(user_id: str, email: str) -> Act:
    """PUT of a user with another e-mail in its body; refused where somebody has it."""

    def change(world: World) -> dict[str, User | None] | None:
        if _taken(world, email) or world.upstream.users.get(user_id) is None:
            return None
        return {user_id: User(user_id, world.upstream.version(), email)}

    return _writes(Batch((user_id,), (("email", email),)), change)


def takes_over(user_id: str, email: str) -> Act:
    """PUT of a user with the e-mail of another one, who loses it."""

    def change(world: World) -> dict[str, User | None] | None:
        version = world.upstream.version()
        held = [user for user in world.upstream.users.values() if user is not None and user.email == email]
        lost: dict[str, User | None] = {user.id: User(user.id, version, f"lost{user.id}@x") for user in held}
        return lost | {user_id: User(user_id, version, email)}

    return _writes(Batch((user_id,), (("email", email),)), change)


def creates(user_id: str, email: str) -> Act:
    """POST of a user whose id only the answer tells; refused where somebody has the e-mail."""

    def change(world: World) -> dict[str, User | None] | None:
        if _taken(world, email):
            return None
        return {user_id: User(user_id, world.upstream.version(), email)}

    return _writes(Batch((), (("email", email),)), change)


def deletes(user_id: str) -> Act:
    """DELETE of a user."""

    def change(world: World) -> dict[str, User | None] | None:
        return {user_id: None} if world.upstream.users.get(user_id) else None

    return _writes(Batch((user_id,)), change)


def updates_by_email(email: str, *, asking: bool = True) -> Act:
    """PUT under an e-mail: the id is looked up first, and fenced where it is known, here or at upstream."""

    async def act(world: World, replica: str) -> None:
        owner = await world.replicas[replica].cache.resolve("email", email)
        if owner is None and asking:
            found = await world.upstream.read("email", email)
            owner = None if found is None else found.id
        batch = Batch((owner,) if owner else (), (("email", email),))

        def change(world: World) -> dict[str, User | None] | None:
            held = next(
                (user for user in world.upstream.users.values() if user and user.email == email), None
            )
            return {held.id: User(held.id, world.upstream.version(), email)} if held else None

        await write(world, replica, batch, change)

    return act


def updates_all() -> Act:
    """A bulk write of every user."""

    def change(world: World) -> dict[str, User | None] | None:
        held = [user for user in world.upstream.users.values() if user is not None]
        return {user.id: User(user.id, world.upstream.version(), user.email) for user in held}

    return _writes(Batch(everything=True), change)


def _taken(world: World, email: str) -> bool:
    return any(user is not None and user.email == email for user in world.upstream.users.values())


def _writes(before: Batch, change: Change, *, lost: bool = False, quiet: bool = False) -> Act:
    async def act(world: World, replica: str) -> None:
        await write(world, replica, before, change, lost=lost, quiet=quiet)

    return act


def one_by_one(*acts: Act) -> Act:
    """One after another."""

    async def act(world: World, replica: str) -> None:
        for each in acts:
            await each(world, replica)

    return act


def joins() -> Act:
    """A replica that comes late joins the others."""

    async def act(world: World, replica: str) -> None:
        await asyncio.create_task(world.replicas[replica].join())

    return act


# -- the world ---------------------------------------------------------------------------------------


def waits(seconds: float) -> Act:
    """Does nothing for so long."""

    async def act(world: World, replica: str) -> None:
        await asyncio.sleep(seconds)
        await world.scheduler.point("has waited")

    return act


def dies(replica: str) -> Act:
    """Kills a replica where it stands."""

    async def act(world: World, _: str) -> None:
        world.kill(replica)
        world.history.note(f"replica {replica} dies")

    return act


def freezes(replica: str, seconds: float) -> Act:
    """Stops a replica, or one actor of it, for so long; the world goes on."""

    async def act(world: World, _: str) -> None:
        world.scheduler.frozen.add(replica)
        world.history.note(f"{replica} freezes")
        await asyncio.sleep(seconds)
        world.scheduler.frozen.discard(replica)
        world.history.note(f"{replica} goes on")

    return act


def holds(actor: str) -> Act:
    """Stops an actor until it is let go."""

    async def act(world: World, _: str) -> None:
        world.scheduler.frozen.add(actor)

    return act


def lets_go(actor: str) -> Act:
    """It goes on."""

    async def act(world: World, _: str) -> None:
        world.scheduler.frozen.discard(actor)
        world.history.note(f"{actor} goes on")

    return act


def cuts(replica: str) -> Act:
    """Breaks the connection that brings a replica the announcements."""

    async def act(world: World, _: str) -> None:
        own = world.replicas[replica].feed._own.encode()
        world.server.cut(own)
        world.history.note(f"the feed of {replica} breaks")

    return act


def throws_out(key: str) -> Act:
    """Redis evicts a key for want of memory."""

    async def act(world: World, _: str) -> None:
        world.server.throw_out(key)
        world.history.note(f"{key} is thrown out")

    return act


def sets_back(seconds: int) -> Act:
    """The clock of Redis is set back."""

    async def act(world: World, _: str) -> None:
        world.server.behind += seconds * 1_000_000
        world.history.note(f"the clock of Redis is set back by {seconds} s")

    return act


def removes(key: str) -> Act:
    """Somebody deletes a key."""

    async def act(world: World, _: str) -> None:
        world.server.execute(("DEL", key))
        world.history.note(f"{key} is deleted")

    return act


def flushes() -> Act:
    """FLUSHALL."""

    async def act(world: World, _: str) -> None:
        world.server.execute(("FLUSHALL",))
        world.history.note("FLUSHALL")

    return act


def saves() -> Act:
    """Redis saves what it holds."""

    async def act(world: World, _: str) -> None:
        world.server.save()
        world.history.note("Redis saves")

    return act


def restarts() -> Act:
    """The server's process is replaced by one that has what was saved, or nothing."""

    async def act(world: World, _: str) -> None:
        world.server.restart()
        world.history.note("Redis restarts")

    return act


def loses(seconds: float) -> Act:
    """Redis can't be reached for so long; it keeps what it holds."""

    async def act(world: World, _: str) -> None:
        world.server.lose()
        world.history.note("Redis is lost")
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(seconds)
        world.server.away = False
        world.history.note("Redis is back")

    return act
