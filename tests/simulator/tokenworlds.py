"""The worlds in which a token ends."""

from __future__ import annotations

from tests.simulator import actors as act
from tests.simulator import tokens
from tests.simulator.history import User
from tests.simulator.tokens import GOOD, Logout, Password
from tests.simulator.world import Act, Actor, Scenario

USERS = (User("1", 1, "a@x"), GOOD)
# Longer than a fence that nobody renews.
FENCE_OVER = 31.0


def _checks(name: str, replica: str, count: int, wait: float = 0.0) -> Actor:
    acts: list[Act] = []
    for number in range(count):
        acts += [act.waits(wait)] if wait and number else []
        acts.append(tokens.checks())
    return Actor(name, replica, act.one_by_one(*acts))


def _scenario(
    name: str,
    *actors: Actor,
    replicas: tuple[str, ...] = ("A", "B"),
    early: int = 0,
    promise: str = "linear",
) -> Scenario:
    warm = tuple(_checks("warm", one, 1) for one in replicas)
    return Scenario(
        name, actors, warm, replicas, USERS, (), early=early, promise=promise, compare=tokens.compares
    )


LOGOUT = Actor("logout", "A", act.one_by_one(tokens.ends(Logout()), tokens.checks()))
RENEWAL = Actor("new password", "A", act.one_by_one(tokens.ends(Password()), tokens.checks()))
REFUSED = Actor("refused", "A", act.one_by_one(tokens.ends(Logout(), refused=True), tokens.checks()))

SMALL = (
    _scenario("a token and its logout", LOGOUT, _checks("reader", "B", 2)),
    _scenario("a token and a new password", RENEWAL, _checks("reader", "B", 2)),
    _scenario("a token and a refused logout", REFUSED, _checks("reader", "B", 2)),
)

DEATH = Actor("death", "", act.dies("A"))


def _flushed(name: str, writer: Actor) -> Scenario:
    checks = (_checks("one", "B", 4, 0.4), _checks("two", "C", 4, 0.4))
    flush = Actor("flush", "", act.flushes())
    return _scenario(name, writer, flush, *checks, replicas=("A", "B", "C"), early=2)


LARGE = (
    _scenario("who logs out dies", LOGOUT, DEATH, _checks("one", "B", 3, FENCE_OVER)),
    _scenario("who has a new password dies", RENEWAL, DEATH, _checks("one", "B", 3, FENCE_OVER)),
    _scenario(
        "a refused logout and a real one",
        REFUSED,
        Actor("logout", "B", tokens.ends(Logout())),
        _checks("one", "A", 3),
        _checks("two", "B", 3),
    ),
    _flushed("FLUSHALL and a logout", LOGOUT),
    _flushed("FLUSHALL and a new password", RENEWAL),
    _scenario(
        "FLUSHALL after a logout",
        Actor("logout", "A", act.one_by_one(tokens.ends(Logout()), act.flushes(), tokens.checks())),
        _checks("one", "B", 4, 0.1),
        early=1,
    ),
    _scenario(
        "FLUSHALL and who did not hear of a logout",
        LOGOUT,
        Actor("cut", "", act.one_by_one(act.cuts("B"), act.waits(0.3), act.flushes())),
        _checks("one", "B", 4, 0.4),
        early=2,
    ),
    _scenario(
        "Redis restarts empty after a logout",
        LOGOUT,
        Actor("restart", "", act.one_by_one(act.waits(0.3), act.restarts())),
        _checks("one", "B", 4, 0.7),
        early=2,
        promise="converges",
    ),
)
