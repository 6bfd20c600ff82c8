"""The worlds that are tried: small ones to their end, larger ones from seeds."""

from __future__ import annotations

from tests.simulator import actors as act
from tests.simulator import tokenworlds
from tests.simulator.history import User
from tests.simulator.world import Act, Actor, Scenario

TWO = (User("1", 1, "a@x"), User("2", 2, "b@x"))
ID, OTHER_ID, OLD, NEW = ("id", "1"), ("id", "2"), ("email", "a@x"), ("email", "b@x")
EMAILS = ("a@x", "b@x")
# Longer than a fence that nobody renews, and than a lease on the feed.
FENCE_OVER, LEASE_OVER = 31.0, 5.0
# Longer than a fence and the time that a replica has which evicts for a dead one.
TAKEN_OVER = 45.0


def _reads(name: str, replica: str, *keys: tuple[str, str]) -> Actor:
    return Actor(name, replica, act.one_by_one(*(act.reads(*key) for key in keys)))


def _waits_and_reads(name: str, replica: str, seconds: float, *keys: tuple[str, str]) -> Actor:
    acts: list[Act] = []
    for key in keys:
        acts += [act.reads(*key), act.waits(seconds)]
    return Actor(name, replica, act.one_by_one(*acts, act.reads(*keys[0])))


def _world(name: str, doing: Act) -> Actor:
    return Actor(name, "", doing)


WRITER = Actor("writer", "A", act.updates("1"))
QUIET = Actor("writer", "A", act.updates("1", quiet=True))
OTHER = Actor("other writer", "B", act.updates("1"))
RENAMER = Actor("renamer", "A", act.renames("1", "b@x"))
SOMEBODYS = Actor("writer", "A", act.updates_somebody("1"))
CREATOR = Actor("creator", "A", act.creates("2", "b@x"))
WARM, WARM_BOTH = _reads("warm", "B", ID), _reads("warm", "B", ID, OLD)
DEATH = _world("death", act.dies("A"))
LATER = (_waits_and_reads("one", "B", FENCE_OVER, ID), _waits_and_reads("two", "B", FENCE_OVER, OLD))

SMALL = (
    Scenario("a fill and a write", (_reads("reader", "A", ID), WRITER)),
    Scenario("a copy in another memory", (QUIET, _reads("reader", "B", ID, ID)), warm=(WARM,)),
    Scenario(
        "a copy on its way to memory", (QUIET, _reads("reader", "B", ID)), warm=(_reads("warm", "A", ID),)
    ),
    Scenario("a fill within a write", (QUIET, _reads("reader", "B", ID))),
    Scenario("a fill elsewhere by e-mail", (WRITER, _reads("reader", "B", OLD, ID))),
    Scenario(
        "a reader before and one after",
        (_reads("early", "A", ID), Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID)))),
    ),
    Scenario("a rename", (RENAMER, _reads("reader", "B", OLD, NEW)), emails=EMAILS),
    Scenario("a new user", (CREATOR, _reads("reader", "B", NEW, NEW)), emails=EMAILS),
    Scenario(
        "an alias that comes late",
        (RENAMER, _reads("one", "B", OLD), _reads("two", "A", ID, OLD)),
        emails=EMAILS,
    ),
    Scenario(
        "a write by a forgotten e-mail",
        (Actor("writer", "A", act.updates_by_email("a@x", asking=False)), _reads("reader", "B", ID, ID)),
        warm=(WARM, _world("maxmemory", act.throws_out("user:email:a@x"))),
    ),
    Scenario("two writers", (WRITER, OTHER, _reads("reader", "A", ID))),
    Scenario(
        "everybody", (Actor("bulk", "A", act.updates_all()), _reads("reader", "B", ID, ID)), warm=(WARM,)
    ),
)

LARGE = (
    Scenario(
        "readers and writers",
        (
            WRITER,
            OTHER,
            Actor("by e-mail", "B", act.updates_by_email("a@x")),
            _reads("one", "A", ID, OLD, ID),
            _reads("two", "B", OLD, ID, OLD),
            _reads("three", "C", ID, ID, OLD),
        ),
        replicas=("A", "B", "C"),
    ),
    Scenario(
        "names move",
        (
            RENAMER,
            Actor("creator", "B", act.creates("2", "a@x")),
            _reads("one", "A", OLD, NEW, ID),
            _reads("two", "B", NEW, OLD, NEW),
            _reads("three", "B", ID, OLD),
        ),
        warm=(_reads("warm", "B", OLD, NEW),),
        emails=EMAILS,
    ),
    Scenario(
        "birth and death",
        (
            Actor("deleter", "A", act.deletes("1")),
            Actor("creator", "B", act.creates("3", "a@x")),
            _reads("one", "A", OLD, ID, OLD),
            _reads("two", "B", OLD, OLD, ID),
        ),
        warm=(_reads("warm", "B", OLD),),
    ),
    Scenario(
        "everybody and one",
        (
            Actor("bulk", "A", act.updates_all()),
            OTHER,
            _reads("one", "A", ID, NEW, ID),
            _reads("two", "B", NEW, ID, ID),
        ),
        users=TWO,
        emails=EMAILS,
    ),
    Scenario(
        "a writer dies",
        (
            WRITER,
            DEATH,
            *LATER,
        ),
        warm=(WARM_BOTH,),
    ),
    Scenario(
        "who takes a name from another dies",
        (
            Actor("writer", "A", act.takes_over("1", "b@x")),
            DEATH,
            _waits_and_reads("one", "B", FENCE_OVER, OTHER_ID),
            _waits_and_reads("two", "B", FENCE_OVER, NEW, ID),
        ),
        warm=(_reads("warm", "B", ID, NEW),),
        users=TWO,
        emails=EMAILS,
    ),
    Scenario(
        "a writer of nobody knows whom dies",
        (
            SOMEBODYS,
            DEATH,
            *LATER,
        ),
        warm=(WARM_BOTH,),
    ),
    Scenario(
        "one of two writers of nobody knows whom ends",
        (
            SOMEBODYS,
            Actor("other writer", "A", act.updates_somebody("2")),
            DEATH,
            _waits_and_reads("one", "B", FENCE_OVER, ID, OTHER_ID),
        ),
        warm=(_reads("warm", "B", ID, OTHER_ID),),
        users=TWO,
    ),
    Scenario(
        "the note of a dead writer is lost",
        (
            SOMEBODYS,
            DEATH,
            _world("maxmemory", act.throws_out("user:members")),
            _waits_and_reads("one", "B", FENCE_OVER, ID),
        ),
        warm=(WARM,),
    ),
    Scenario(
        "who takes over dies as well",
        (
            SOMEBODYS,
            DEATH,
            _world("another", act.one_by_one(act.waits(30.0), act.dies("B"))),
            _waits_and_reads("one", "C", TAKEN_OVER, ID),
        ),
        warm=(_reads("warm", "C", ID, OLD),),
        replicas=("A", "B", "C"),
    ),
    Scenario(
        "a writer of nobody knows whom freezes",
        (
            Actor("writer", "A", act.one_by_one(act.updates_somebody("1"), act.reads(*ID))),
            _world("frost", act.freezes("A", FENCE_OVER)),
            *LATER,
        ),
        warm=(WARM_BOTH,),
    ),
    Scenario(
        "a replica freezes",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.updates("1"))),
            _world("frost", act.freezes("B", LEASE_OVER)),
            _reads("one", "A", ID, OLD),
            _reads("two", "B", ID, OLD, ID),
        ),
        warm=(WARM,),
        early=4,
    ),
    Scenario(
        "a replica is deaf",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID))),
            _world("wax", act.freezes("B.ear", LEASE_OVER)),
            _waits_and_reads("two", "B", 3.0, ID, OLD),
        ),
        warm=(WARM,),
        early=2,
    ),
    Scenario(
        "a feed breaks",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID))),
            _world("cut", act.cuts("B")),
            _waits_and_reads("two", "B", 1.0, ID, ID),
        ),
        warm=(WARM,),
        early=4,
    ),
    Scenario(
        "an answer is lost",
        (
            Actor("writer", "A", act.updates("1", lost=True)),
            OTHER,
            _reads("one", "A", ID, OLD, ID),
            _waits_and_reads("two", "B", 11.0, ID, OLD),
        ),
        warm=(WARM,),
        early=2,
    ),
    Scenario(
        "a key is thrown out",
        (
            WRITER,
            _world("maxmemory", act.throws_out("user:id:1")),
            _reads("one", "A", OLD, ID),
            _reads("two", "B", OLD, ID, OLD),
        ),
    ),
    Scenario(
        "the count is lost and the clock set back",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID))),
            _world("clock", act.one_by_one(act.sets_back(30), act.removes("user:seq"))),
            _reads("one", "A", ID, OLD),
            _reads("two", "B", OLD, ID),
        ),
    ),
    Scenario(
        "a fenced key is deleted",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID))),
            _world("operator", act.removes("user:id:1")),
            _reads("one", "A", ID, OLD),
            _reads("two", "B", OLD, ID, OLD, ID),
        ),
        warm=(WARM,),
    ),
    Scenario(
        "FLUSHALL",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1"), act.reads(*ID))),
            _world("flush", act.flushes()),
            _reads("one", "A", ID, OLD),
            _reads("two", "B", OLD, ID, OLD, ID),
        ),
        warm=(WARM,),
        early=3,
    ),
    Scenario(
        "a replica joins, and FLUSHALL",
        (
            Actor("writer", "A", act.one_by_one(act.updates("1", quiet=True), act.reads(*ID))),
            _world("flush", act.flushes()),
            _world("wax", act.lets_go("A.ear")),
            _reads("newcomer", "C", ID, ID),
        ),
        warm=(
            WARM,
            _world("wax", act.holds("A.ear")),
            Actor("newcomer", "C", act.one_by_one(act.joins(), act.reads(*ID))),
        ),
        replicas=("A", "B", "C"),
        late=("C",),
        settled=True,
    ),
    Scenario(
        "Redis restarts",
        (
            WRITER,
            OTHER,
            _world("restart", act.restarts()),
            _waits_and_reads("one", "A", 1.0, ID, OLD),
            _waits_and_reads("two", "B", 1.0, ID, OLD),
        ),
        warm=(WARM,),
        promise="converges",
        early=3,
    ),
    Scenario(
        "Redis restarts as it was, and all others",
        (
            WRITER,
            _world("power cut", act.one_by_one(act.saves(), act.waits(0.2), act.dies("A"), act.restarts())),
            Actor("newcomer", "B", act.one_by_one(act.waits(1.0), act.joins(), act.reads(*ID))),
        ),
        warm=(_reads("warm", "A", ID),),
        late=("B",),
        promise="converges",
    ),
    Scenario(
        "Redis is lost",
        (
            WRITER,
            OTHER,
            _world("loss", act.loses(3.0)),
            _waits_and_reads("one", "A", 1.0, ID, OLD),
            _waits_and_reads("two", "B", 1.0, ID, OLD),
        ),
        warm=(WARM,),
        promise="converges",
        early=3,
    ),
    Scenario(
        "a write while Redis comes back",
        (
            Actor("writer", "A", act.one_by_one(act.waits(3.0), act.updates("1"))),
            _world("loss", act.loses(3.0)),
            _waits_and_reads("one", "A", 3.0, ID, OLD),
            _waits_and_reads("two", "B", 3.0, ID, OLD, ID),
        ),
        warm=(WARM,),
        promise="converges",
    ),
)

SMALL += tokenworlds.SMALL
LARGE += tokenworlds.LARGE
ALL = {scenario.name: scenario for scenario in (*SMALL, *LARGE)}
