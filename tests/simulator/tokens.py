"""Who asks about a token, and who makes it bad: what introspection and logouts do with the cache (steps/).

A token stands among the users of upstream under its own name, and is there for as long as it is good.
"""

from __future__ import annotations

from proxy.core.model import Batch, Entry, Fence, Reason, Ref
from tests.simulator.actors import TTL, Words, write
from tests.simulator.actors import compares as others
from tests.simulator.history import Op, User
from tests.simulator.scheduler import ACTOR
from tests.simulator.server import EPOCH_US
from tests.simulator.world import Act, World

TOKEN, WHOSE = "T", "1"
GOOD = User(TOKEN, 1, "")
ISSUED = EPOCH_US / 1e6 - 1000.0
UNTIL = EPOCH_US / 1e6 + 86400.0


async def check(world: World, replica: str) -> Op:
    """Proven here, refused here, or asked of upstream, whose word is kept (steps/introspect.py)."""
    here = world.replicas[replica]
    op = world.history.begin(Op(ACTOR.get(), "read", ("id", TOKEN)))
    state = await here.cache.token_state(WHOSE, TOKEN, UNTIL, ISSUED)
    op.tier = "proven" if state is None else state.value
    if state is None:
        op.saw = GOOD
    elif state is not Reason.TOKEN_REVOKED:
        ref = Ref("id", WHOSE, f"+good#{TOKEN}")
        ticket = await here.cache.ticket(ref)
        found = op.saw = await world.upstream.read("id", TOKEN)
        now = here.wall()
        if found is not None:
            end = now + TTL
            note = Entry(user_id=WHOSE, active=True, status=204, stored=now, expires=end, dead=end)
            await here.cache.fill(ref, note, ticket)
    world.history.end(op)
    return op


class _Ends(Words):
    """The token is bad from then on."""

    made = {TOKEN: None}  # noqa: RUF012 - never written to


class Logout(_Ends):
    """The token is good no more."""

    async def begin(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await world.replicas[replica].cache.revoke(WHOSE, TOKEN, UNTIL, fence.name)

    async def happened(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await world.replicas[replica].cache.revoke(WHOSE, TOKEN, UNTIL)

    async def undone(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await world.replicas[replica].cache.restore(TOKEN, fence.name)


class Password(_Ends):
    """No token of before is good by itself."""

    async def begin(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await self._say(world, replica, fence, sure=False)

    async def happened(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await self._say(world, replica, fence, sure=True)

    async def undone(self, world: World, replica: str, fence: Fence) -> None:
        """See Words."""
        await world.replicas[replica].cache.restore_user(WHOSE, fence.name)

    async def _say(self, world: World, replica: str, fence: Fence, *, sure: bool) -> None:
        here = world.replicas[replica]
        await here.cache.revoke_user(WHOSE, here.wall(), here.wall() + 86400.0, fence.name, sure=sure)


def checks() -> Act:
    """Asks about the token."""

    async def act(world: World, replica: str) -> None:
        await check(world, replica)

    return act


def ends(words: Words, *, refused: bool = False) -> Act:
    """A write that makes the token bad."""

    def change(world: World) -> dict[str, User | None] | None:
        return None if refused else {TOKEN: None}

    async def act(world: World, replica: str) -> None:
        await write(world, replica, Batch((WHOSE,)), change, words=words)

    return act


def compares(key: str, value: str) -> Act:
    """Asks about the token, and reads every other key; notes where a bad one is good, or a user is stale."""

    async def act(world: World, replica: str) -> None:
        op = await check(world, replica)
        if op.saw is not None and world.upstream.find("id", TOKEN) is None:
            world.stale = f"replica {replica} calls a bad token good"

    return act if value == TOKEN else others(key, value)
