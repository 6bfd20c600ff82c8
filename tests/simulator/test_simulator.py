"""The stores keep their promise under every schedule that is tried, and each mistake put back in is found."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from proxy import renewal
from proxy.store import codec, fences, notes, redis, writes
from proxy.store.link import Script
from tests.simulator.bugs import BUGS, Bug
from tests.simulator.history import History, Op, User
from tests.simulator.scenarios import ALL, LARGE, SMALL
from tests.simulator.search import exhaustively, from_seed, from_seeds
from tests.simulator.server import EPOCH_US, Server
from tests.simulator.world import Scenario
from tests.valkey import Valkey

SEEDS = range(45)
# How many schedules without a switch that nothing forced, which is all of them where two act, and with one.
UNFORCED, FORCED = 150, 100
MORE_SEEDS = range(1000)

ONE, TWO = User("1", 1, "a@x"), User("1", 2, "a@x")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the stores say of outages and leases is wanted here, and there is a lot of it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _op(kind: Any, start: int, end: int, saw: User | None = None, **more: Any) -> Op:
    return Op("x", kind, ("id", "1"), start, end, saw, **more)


@pytest.mark.parametrize(
    ("reads", "outcome", "together", "explained"),
    [
        ([(3, 4, TWO)], "done", True, True),
        ([(3, 4, ONE)], "done", True, False),
        ([(3, 4, ONE)], "done", False, False),
        ([(3, 4, ONE)], "unknown", True, True),
        ([(3, 4, ONE), (5, 6, TWO)], "unknown", True, True),
        ([(3, 4, TWO), (5, 6, ONE)], "unknown", True, False),
        ([(3, 4, TWO), (5, 6, ONE)], "unknown", False, True),
        ([(0, 7, ONE)], "done", True, True),
        ([(0, 7, None)], "done", True, False),
    ],
)
def test_a_history_is_judged(
    reads: list[tuple[int, int, User | None]], outcome: Any, together: bool, explained: bool
) -> None:
    """One write from 1 to 2, and reads: stale ones, and an old value after the new one, are found out."""
    history = History({"1": ONE})
    history.ops = [_op("write", 1, 2, made={"1": TWO}, outcome=outcome)]
    history.ops += [_op("read", start, end, saw) for start, end, saw in reads]

    assert (None if explained else "1") == history.violation(together=together)


def _scripts() -> dict[str, Script]:
    modules = (redis, writes, fences, notes, renewal)
    named = {
        id(each): each for module in modules for each in vars(module).values() if isinstance(each, Script)
    }
    return {each.digest: each for each in named.values()}


def _random_command(rng: random.Random, now: int) -> tuple[Any, ...]:
    user, alias = codec.user_key("1"), codec.alias_key("email", "a@x")
    fence, seq, other = rng.choice("fgh"), str(now + rng.randrange(-9, 9) * 1_000_000), rng.choice("12")
    return rng.choice(
        [
            fences._FENCE.call(user, fence, rng.choice(["0", "9000000000"]), "120000"),
            fences._LIFT.call(user, fence),
            fences._GUARD.call(alias, fence, "90000"),
            fences._UNGUARD.call(alias, fence),
            fences._SHUT.call(codec.EPOCH_KEY, fence, "90000"),
            fences._OPEN.call(codec.EPOCH_KEY, fence, "epoch", "900000"),
            writes._FREE.call(alias),
            writes._EVICT.call(user, seq, "120000", "60000000", fence),
            redis._FILL.call(user, seq, "v:u", "body", "90000", "120000", "60000000", "64", "", "", ""),
            redis._LEASE.call(user, "u", f"t{other}", "3000000", "61000", "wake"),
            redis._RELEASE.call(user, "u", f"t{other}", "freed"),
            redis._SETTLE.call(user),
            redis._MARK.call(alias, f"!w{other}", "30000", "0", ""),
            redis._NEGATIVE.call(alias, f"!w{other}", "!nobody", "9000"),
            redis._ALIAS.call(alias, other, "90000"),
            redis._UNMARK.call(alias, f"!w{other}", "freed"),
            writes._UNLINK.call(alias, other),
            notes._PLEDGE.call(codec.MEMBERS_KEY, fence, "9000000000", "90000"),
            notes._REDEEM.call(codec.MEMBERS_KEY, fence, ""),
            notes._REDEEM.call(codec.MEMBERS_KEY, fence, "other"),
            ("HMGET", user, "v:u", "none"),
            ("GET", alias),
            ("GET", codec.EPOCH_KEY),
            ("EXISTS", user),
            ("HGET", alias, "x"),
        ]
    )


def _plain(reply: Any) -> Any:
    if isinstance(reply, Exception):
        return str(reply).split()[0]
    # What is left of a lease depends on the time that passes between two commands.
    return "some" if isinstance(reply, int) and reply > 1_000 else reply


def test_the_server_answers_like_a_real_one(valkey: Valkey) -> None:
    """The scripts reply alike on the server of the simulation and on Valkey, whatever came before."""
    client: Any = Redis.from_url(valkey.url, protocol=2)
    for text in (each.text for each in _scripts().values()):
        client.execute_command("SCRIPT", "LOAD", text)
    for seed in range(12):
        rng = random.Random(seed)
        client.execute_command("FLUSHDB")
        started = time.time()
        server = Server(lambda started=started: time.time() - EPOCH_US / 1e6)  # type: ignore[misc]
        for _ in range(60):
            command = _random_command(rng, int(started * 1e6))
            try:
                expected = client.execute_command(*command)
            except Exception as error:  # noqa: BLE001 - compared like any other reply
                expected = error
            assert _plain(expected) == _plain(server.execute(command)), (seed, command[3:])
    client.close()


@pytest.mark.parametrize("scenario", SMALL, ids=lambda scenario: scenario.name)
def test_a_small_world_keeps_the_promise_in_every_order(scenario: Scenario) -> None:
    """No order in which two or three actors can go on breaks linearizability."""
    for switches, limit in ((0, UNFORCED), (1, FORCED)):
        broken, _ = exhaustively(scenario, switches, limit)
        assert broken is None, str(broken)


@pytest.mark.parametrize("scenario", LARGE, ids=lambda scenario: scenario.name)
def test_a_large_world_keeps_its_promise(scenario: Scenario) -> None:
    """No seed leads to a schedule that breaks what the world promises, whatever dies, freezes or is lost."""
    broken, _ = from_seeds(scenario, SEEDS)
    assert broken is None, str(broken)


def test_a_seed_is_a_schedule() -> None:
    """The same seed gives the same schedule, or a recorded one would be worth nothing."""
    bug = BUGS[0]
    first, again = (from_seed(ALL[bug.scenario], bug.seed, bug.mutate) for _ in range(2))

    assert first is not None
    assert again is not None
    assert first.story.split("schedule:")[0] == again.story.split("schedule:")[0]


def test_each_mistake_changes_a_script() -> None:
    """A piece that no script has any more would leave the step in place."""
    texts = [each.text for each in _scripts().values()]
    lost = [piece for bug in BUGS for piece, _ in bug.cuts if not any(piece in text for text in texts)]
    assert [] == lost


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_mistake_is_found(bug: Bug) -> None:
    """Each step of the protocol is needed: without it some schedule breaks the promise."""
    with bug.patching():
        broken, _ = from_seeds(ALL[bug.scenario], (bug.seed, *MORE_SEEDS), bug.mutate)
    assert broken is not None
