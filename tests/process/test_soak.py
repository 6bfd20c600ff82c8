"""A short run of the soak, and the checker that judges it."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

import pytest

from proxy.steps import changed
from proxy.store.scripts import TEXTS
from tests.processes import ROOT, Stub, ask, poll
from tests.simulator.bugs import Bug
from tests.soak.checker import (
    BEHIND,
    CUT_OFF,
    GONE,
    KEPT_BACK,
    Commit,
    Key,
    Read,
    Verdict,
    Version,
    Window,
    check,
)
from tests.soak.faults import Fault, Replica
from tests.soak.people import Person
from tests.soak.planted import BUGS, plant, wanted
from tests.soak.record import Record
from tests.soak.report import failures
from tests.soak.writer import Writer
from tests.valkey import Valkey

ID: Key = ("id", 7)
JSON = {"Content-Type": "application/json"}
NAME, PHONE = ("username", "ada"), ("phone", "+49")
OLD, NEW = ("email", "a@x.org"), ("email", "b@x.org")
FIRST, SECOND, THIRD = (7, 1), (7, 2), (7, 3)


def wrote(
    version: Version,
    begun: float,
    over: float,
    *keys: Key,
    answered: bool = True,
    replica: int = 0,
    named: tuple[Key, ...] = (),
) -> Commit:
    """A version of user 7 with those keys."""
    return Commit(7, version, frozenset(keys), begun, over, answered, "test", replica, frozenset(named))


COMMITS = (
    wrote(FIRST, 0.0, 0.0, ID, OLD, replica=-1),
    wrote(SECOND, 1.0, 2.0, ID, NEW, named=(ID, NEW)),
    wrote(THIRD, 3.0, 4.0, ID, NEW, answered=False, named=(ID,)),
)
DELETED = (*COMMITS[:2], wrote((7, GONE), 3.0, 4.0))
RETURNED = (*DELETED, wrote((8, 1), 5.0, 6.0, ("id", 8), OLD, named=(OLD,)))


def seen(begun: float, version: Version | None, key: Key = ID, replica: int = 1) -> Read:
    """A read that takes a tenth of a second."""
    return Read(7, begun, begun + 0.1, version, key, "test", replica)


def away(begun: float, ended: float, replica: int) -> Window:
    """That replica did not trust Redis."""
    return Window(begun, ended, "Redis not trusted", replica)


def told(verdict: Verdict) -> tuple[int, dict[str, int]]:
    """Violations, and excuses by why."""
    return len(verdict.violations), dict(verdict.excused)


@pytest.mark.parametrize(
    ("reads", "too_old"),
    [
        pytest.param([seen(0.1, FIRST), seen(1.5, FIRST)], 0, id="before, and while it is written"),
        pytest.param([seen(1.1, SECOND), seen(1.15, FIRST)], 0, id="two at once may differ"),
        pytest.param([seen(1.1, SECOND), seen(1.3, FIRST)], 1, id="older than a read that had ended"),
        pytest.param([seen(2.1, FIRST)], 1, id="older than a write that was answered"),
        pytest.param([seen(3.5, SECOND), seen(9.0, SECOND)], 0, id="nobody was told of the third"),
        pytest.param([seen(3.5, THIRD), seen(9.0, SECOND)], 1, id="but it was seen"),
        pytest.param([seen(0.1, None, OLD)], 1, id="nobody, though the address was theirs"),
        pytest.param([seen(0.1, None, NEW), seen(1.5, None, OLD)], 0, id="nobody, rightly"),
        pytest.param([seen(2.1, None, NEW)], 1, id="nobody, though the address was given"),
        pytest.param([seen(1.1, None, OLD), seen(1.3, FIRST)], 1, id="the old one after nobody"),
    ],
)
def test_the_checker_tells_old_reads(reads: list[Read], too_old: int) -> None:
    """A read is too old if a write was answered, or a newer read had ended, before it began."""
    assert (too_old, {}) == told(check(COMMITS, reads, []))


@pytest.mark.parametrize(
    ("read", "too_old"),
    [
        pytest.param(seen(3.5, SECOND), 0, id="while they are deleted"),
        pytest.param(seen(4.1, SECOND), 1, id="the user after the delete was answered"),
        pytest.param(seen(4.1, None), 0, id="nobody after it"),
        pytest.param(seen(5.5, (8, 1), OLD), 0, id="the next one before their creator was told"),
        pytest.param(seen(6.1, None, OLD), 1, id="nobody after they came back"),
        pytest.param(seen(6.1, None, ("id", 7)), 0, id="nobody by the id that was deleted"),
        pytest.param(seen(6.1, SECOND), 1, id="the deleted one by the old id"),
        pytest.param(seen(6.1, None, NEW), 0, id="nobody by the address that they don't have now"),
    ],
)
def test_the_checker_knows_that_users_go_and_come_back(read: Read, too_old: int) -> None:
    """With another id, and some of their keys."""
    assert (too_old, {}) == told(check(RETURNED, [read], []))


@pytest.mark.parametrize(
    ("read", "window", "why"),
    [
        pytest.param(
            seen(2.1, FIRST), away(1.5, 2.15, 0), KEPT_BACK, id="the writer's replica had not told yet"
        ),
        pytest.param(seen(2.1, FIRST), away(1.5, 2.05, 0), None, id="it had, when the read began"),
        pytest.param(
            seen(2.1, FIRST), away(2.05, 2.5, 0), None, id="it was well until the write was answered"
        ),
        pytest.param(seen(2.1, FIRST), away(0.1, 0.9, 0), None, id="it was well again before the write"),
        pytest.param(seen(2.1, FIRST), away(1.5, 2.5, 2), None, id="another one was away"),
        pytest.param(seen(2.1, FIRST), away(2.0, 2.5, 1), CUT_OFF, id="the reader's replica was cut off"),
        pytest.param(seen(2.1, FIRST), away(2.25, 2.5, 1), None, id="once the read was over"),
        pytest.param(seen(2.1, FIRST), away(1.5, 2.05, 1), None, id="until before the read"),
        pytest.param(seen(1.9 + BEHIND, FIRST), away(2.0, 9.0, 1), CUT_OFF, id="as old as its memory may be"),
        pytest.param(seen(2.1 + BEHIND, FIRST), away(2.0, 9.0, 1), None, id="older than that"),
        pytest.param(
            seen(2.1, None, NEW), away(1.5, 2.15, 0), KEPT_BACK, id="nobody, where a name was given"
        ),
        pytest.param(seen(2.1, None, NEW), away(1.5, 2.05, 0), None, id="nobody, once that was told"),
        pytest.param(seen(0.1, None, OLD), away(1.5, 2.15, 0), None, id="nobody, and no write to miss"),
    ],
)
def test_the_checker_excuses_what_the_docs_do_not_promise(
    read: Read, window: Window, why: str | None
) -> None:
    """By replica, write and time: a fault elsewhere, or before, or long ago excuses nothing."""
    assert (int(why is None), {why: 1} if why else {}) == told(check(COMMITS, [read], [window]))


def test_one_missed_write_that_was_told_is_enough() -> None:
    """Its eviction took the old copy with it, whatever others still keep back."""
    third = wrote(THIRD, 3.0, 3.1, ID, NEW, replica=2)
    windows = [away(1.5, 9.0, 0)]
    assert (0, {KEPT_BACK: 1}) == told(check(COMMITS[:2], [seen(3.5, FIRST)], windows))
    assert (1, {}) == told(check((*COMMITS[:2], third), [seen(3.5, FIRST)], windows))


def test_one_missed_write_that_is_too_old_is_enough() -> None:
    """A replica without Redis has no copy from before it, whatever came since."""
    third = wrote(THIRD, 8.0, 8.1, ID, NEW)
    windows = [away(1.5, 9.0, 1)]
    read = seen(2.1 + BEHIND, FIRST)
    assert (1, {}) == told(check((*COMMITS[:2], third), [read], windows))
    assert (1, {}) == told(check((*COMMITS[:2], replace(third, over=read.begun - 0.01)), [read], windows))


@pytest.mark.parametrize(("later", "excused"), [(BEHIND - 0.1, True), (BEHIND + 0.1, False)])
def test_a_write_that_was_seen_is_known_though_nobody_was_told(later: float, excused: bool) -> None:
    """The memory of a replica without Redis may be behind from then on, and not for ever."""
    reads = [seen(3.5, THIRD), seen(3.6 + later, SECOND, replica=2)]
    verdict = check(COMMITS, reads, [away(3.0, 60.0, 2)])
    assert (int(not excused), {CUT_OFF: 1} if excused else {}) == told(verdict)


def test_a_replica_that_is_cut_off_later_keeps_back_nothing_of_what_was_over() -> None:
    """Though its writer had no good answer."""
    reads = [seen(3.5, THIRD), seen(5.5, SECOND)]
    assert (0, {KEPT_BACK: 1}) == told(check(COMMITS, reads, [away(3.9, 6.0, 0)]))
    assert (1, {}) == told(check(COMMITS, reads, [away(4.1, 6.0, 0)]))


@pytest.mark.parametrize(
    ("over", "answered", "named", "excused"),
    [
        pytest.param(3.1, True, (ID,), True, id="its answer shows the address"),
        pytest.param(9.0, True, (ID,), True, id="it was seen, and is answered later"),
        pytest.param(3.1, False, (ID,), True, id="it was never answered"),
        pytest.param(9.0, True, (NEW,), False, id="it names the address"),
    ],
)
def test_an_address_that_was_kept_back_is_freed_by_whoever_names_it(
    over: float, answered: bool, named: tuple[Key, ...], excused: bool
) -> None:
    """A later write through another replica announces what its request names, before it is forwarded."""
    third = wrote(THIRD, 3.0, over, ID, NEW, answered=answered, replica=2, named=named)
    reads = [seen(3.2, THIRD), seen(3.5, None, NEW)]
    verdict = check((*COMMITS[:2], third), reads, [away(1.5, 9.0, 0)])
    assert (int(not excused), {KEPT_BACK: 1} if excused else {}) == told(verdict)


@pytest.mark.parametrize(
    ("key", "excused"),
    [
        pytest.param(ID, True, id="by the old id"),
        pytest.param(NEW, True, id="by an address that the next one does not have"),
        pytest.param(PHONE, False, id="by a number that the next one was given"),
        pytest.param(NAME, True, id="by a name that an answer has shown since"),
    ],
)
def test_a_delete_that_was_kept_back_is_not_told_by_writes_on_the_next_user(key: Key, excused: bool) -> None:
    """Who comes back is another user: only the keys that they share free the old one. A soak found that."""
    commits = (
        wrote(FIRST, 0.0, 0.0, ID, NEW, PHONE, NAME, replica=-1),
        wrote((7, GONE), 1.0, 2.0),
        wrote((8, 1), 3.0, 3.1, ("id", 8), OLD, PHONE, NAME, replica=2, named=(OLD, PHONE)),
        wrote((8, 2), 4.0, 4.1, ("id", 8), OLD, PHONE, NAME, replica=2, named=(OLD,)),
    )
    assert (1, {}) == told(check(commits, [seen(4.5, FIRST, key)], []))
    verdict = check(commits, [seen(4.5, FIRST, key)], [away(0.5, 9.0, 0)])
    assert (int(not excused), {KEPT_BACK: 1} if excused else {}) == told(verdict)


def test_an_excused_nobody_tells_others_nothing() -> None:
    """It may be that of an older version, or that of a write under way, which others need not see yet."""
    back = wrote(THIRD, 2.1, 9.0, ID, OLD, replica=1)
    reads = [seen(2.5, None, NEW), seen(3.0, SECOND)]
    assert (1, {}) == told(check((*COMMITS[:2], back), reads, []))
    assert (0, {KEPT_BACK: 1}) == told(check((*COMMITS[:2], back), reads, [away(1.5, 2.55, 0)]))


def test_only_a_killed_replica_breaks_connections() -> None:
    """And only while it is being replaced; nobody else's answer may be missing."""
    killed, cut = Fault("kill replica", 1.0, 2.0, 3.0), Fault("cut off replica", 5.0, 6.0, 7.0)
    record = Record(lost=[(2.5, "read"), (3.5, "read"), (5.5, "write")])
    record.unanswered["answer dropped"] = 3
    assert {"read": 1, "write": 1} == failures(record, [killed, cut], drops=3)
    record = Record(unanswered=Counter({"answer dropped": 4}), refused=Counter({"read by id: 503": 1}))
    ill = replace(cut, well=False)
    assert {
        "read by id: 503": 1,
        "502 that was not dropped": 1,
        "cut off replica: not all were well again": 1,
    } == failures(record, [ill], drops=3)


GONE_BY_THEN = (7, GONE)


@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "answered", "good"),
    [
        pytest.param(FIRST, SECOND, True, True, id="an update"),
        pytest.param(FIRST, THIRD, True, False, id="one that was done twice"),
        pytest.param(FIRST, FIRST, True, False, id="one that was answered and not done"),
        pytest.param(FIRST, FIRST, False, True, id="one that was neither"),
        pytest.param(FIRST, (8, 1), True, False, id="another user"),
        pytest.param(FIRST, GONE_BY_THEN, True, True, id="a delete"),
        pytest.param(GONE_BY_THEN, (8, 1), True, True, id="a create"),
        pytest.param(GONE_BY_THEN, (8, 2), True, False, id="and an update that nobody asked for"),
    ],
)
def test_a_write_is_done_once_or_not_at_all(
    before: Version, after: Version, answered: bool, good: bool, doubtful: bool
) -> None:
    """Unless another one before it, which seemed lost, may have been done as well."""
    record = Record()
    person = Person.of({"id": 7, "version": 1, "username": "ada", "phone": "+49", "email": "a@x"})
    person.state, person.doubtful = before, doubtful
    writer = Writer([person], 1, str, "", record, random.Random(1))
    shown = None if after[1] == GONE else {"id": after[0], "version": after[1], "email": "b@x"}
    writer._committed(person, wrote(before, 1.0, 2.0, answered=answered), shown)
    assert (int(not (good or doubtful)), after) == (record.refused.total(), person.state)
    assert person.doubtful == (before == after)
    # Only the last version was answered.
    told = [(one.version, one.answered) for one in record.commits[1:]]
    steps = [(SECOND, False)] if after == THIRD else []
    assert told == ([] if before == after else [*steps, (after, True)])


def test_mistakes_that_can_be_put_in_are_those_of_the_simulator() -> None:
    """In scripts that hold what they cut out."""
    scripts = list(TEXTS.values())
    for name in BUGS:
        bug = wanted(name)
        for piece, _ in bug.cuts if isinstance(bug, Bug) else ():
            assert any(piece in text for text in scripts), (name, piece)


def test_a_mistake_stays_until_the_process_ends() -> None:
    """It went with the first collection of garbage once, and such a run finds nothing."""
    whole = changed.aliases_in
    with ExitStack() as stack:
        plant(wanted("create"), stack)
        gc.collect()
        assert changed.aliases_in is not whole
    assert changed.aliases_in is whole


def test_a_nobody_that_forward_costs() -> None:
    """A replica without Redis forwards a rename: others say "nobody" for the new name until a write of theirs
    names it, in its request or in its answer. Two violations of a soak were this, and the checker knows it.
    """
    commits: list[Commit] = []
    reads: list[Read] = []
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        stub = stack.enter_context(Stub.start(users=8))
        cut, well = (Replica(n, stub.url, valkey, None, 100) for n in range(2))
        for one in (cut, well):
            stack.callback(one.stop)
            poll(one.well, "both are well")
        # Of a caller whom both replicas know.
        token = {"Authorization": f"Bearer {Person.of(stub.get('/users/1').json()).token}"}

        def place(key: Key) -> str:
            return f"/users/{key[1]}" if key is ID else f"/users/by-email/{key[1]}"

        def read(key: Key) -> Version | None:
            begun = time.monotonic()
            answer = ask(well.url, "GET", place(key), token)
            shown = (7, answer.json()["version"]) if answer.status == 200 else None
            reads.append(Read(7, begun, time.monotonic(), shown, key, answer.headers["X-Cache"], 1))
            return shown

        def write(through: Replica, key: Key, **body: str) -> None:
            begun = time.monotonic()
            answer = ask(through.url, "PATCH", place(key), token | JSON, json.dumps(body)).json()
            named = (key, *(pair for pair in body.items() if pair[0] == "email"))
            version, keys = (7, answer["version"]), (ID, ("email", answer["email"]))
            replica = int(through is well)
            commits.append(wrote(version, begun, time.monotonic(), *keys, replica=replica, named=named))

        write(well, ID, bio="before")
        for new in (OLD, NEW):
            assert read(new) is None
        assert SECOND == read(ID)
        cut.cut_off()
        poll(lambda: ask(cut.proxy.admin, "GET", "/health").json()["breaker"] == "open", "it notices")
        for new, key, before, later in (
            (OLD, ID, SECOND, (7, 4)),
            (NEW, NEW, (7, 4), (7, 6)),
        ):
            write(cut, ID, email=str(new[1]))
            assert (None, before) == (read(new), read(ID))
            stub.control(hold="update")
            writer = threading.Thread(target=write, args=(well, key), kwargs={"bio": "later"})
            writer.start()
            stub.until_held("update")
            assert (later, None if key is ID else later) == (read(ID), read(new))
            stub.control(release="all")
            writer.join()
            assert (later, later) == (read(new), read(ID))
    windows = [replace(one, replica=0) for one in cut.outages]
    assert (0, {KEPT_BACK: 5}) == told(check(commits, reads, windows))
    # Had the renames been told of, all were too old; had the first later write named the address, one was.
    assert 4 <= told(check(commits, reads, []))[0]
    commits[2] = replace(commits[2], named=frozenset({OLD}))
    assert (1, {KEPT_BACK: 4}) == told(check(commits, reads, windows))


def test_a_soak() -> None:
    """Real processes under load and faults, FLUSHALL first: no read was too old, and nothing failed."""
    command = [sys.executable, "-m", "tests.soak", "--json"]
    command += ["--seconds", "9", "--writes", "150", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert (0, {}) == (told["violations"], told["failed"])
    # As many as a busy machine has, too.
    assert (True, True) == (told["reads"] > 200, told["hit_rate_percent"] > 5), told
    assert {"DELETE", "PATCH", "POST", "PUT"} == set(told["writes"])
    assert told["faults"]["flush"] == 1
