"""A short run of the soak, and the checker that judges it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from proxy.store.scripts import TEXTS
from tests.processes import ROOT
from tests.simulator.bugs import BUGS as SIMULATED
from tests.soak.checker import Commit, Read, Window, check
from tests.soak.planted import BUGS

COMMITS = (
    Commit(7, 1, "a@x", 0.0, 0.0, "at the start"),
    Commit(7, 2, "b@x", 1.0, 2.0, "answered", replica=0),
    Commit(7, 3, "b@x", 3.0, None, "never answered", replica=0),
)


def seen(begun: float, ended: float, version: int | None, email: str | None = None, replica: int = 1) -> Read:
    """A read of user 7."""
    return Read(7, begun, ended, version, email, "test", replica)


@pytest.mark.parametrize(
    ("reads", "too_old"),
    [
        pytest.param([seen(0.1, 0.2, 1), seen(1.5, 1.6, 1)], 0, id="before, and while it is written"),
        pytest.param([seen(1.1, 1.2, 2), seen(1.1, 1.9, 1)], 0, id="two at once may differ"),
        pytest.param([seen(1.1, 1.2, 2), seen(1.3, 1.4, 1)], 1, id="older than a read that had ended"),
        pytest.param([seen(2.1, 2.2, 1)], 1, id="older than a write that was answered"),
        pytest.param([seen(3.5, 3.6, 2), seen(9.0, 9.1, 2)], 0, id="nobody was told of the third"),
        pytest.param([seen(3.5, 3.6, 3), seen(9.0, 9.1, 2)], 1, id="but it was seen"),
        pytest.param([seen(0.1, 0.2, None, "a@x")], 1, id="nobody, though the address was theirs"),
        pytest.param([seen(0.1, 0.2, None, "b@x"), seen(1.5, 1.6, None, "a@x")], 0, id="nobody, rightly"),
        pytest.param([seen(2.1, 2.2, None, "b@x")], 1, id="nobody, though the address was given"),
        pytest.param([seen(1.1, 1.2, None, "a@x"), seen(1.3, 1.4, 1)], 1, id="the old one after nobody"),
    ],
)
def test_the_checker_tells_old_reads(reads: list[Read], too_old: int) -> None:
    """A read is too old if a write was answered, or a newer read had ended, before it began."""
    assert too_old == len(check(COMMITS, reads, []).violations)


@pytest.mark.parametrize(
    ("read", "window", "excused"),
    [
        pytest.param(
            seen(2.1, 2.2, 1), (1.5, 2.15, 0), True, id="the writer's replica had not told of it yet"
        ),
        pytest.param(seen(2.1, 2.2, 1), (1.5, 2.05, 0), False, id="it had, when the read began"),
        pytest.param(seen(2.1, 2.2, 1), (2.05, 2.5, 0), False, id="it was well until the write was answered"),
        pytest.param(seen(2.1, 2.2, 1), (0.1, 0.9, 0), False, id="it was well again before the write"),
        pytest.param(seen(2.1, 2.2, 1), (1.5, 2.5, 2), False, id="another one was away"),
        pytest.param(seen(2.1, 2.2, 1), (2.0, 2.5, 1), True, id="the reader's replica was cut off"),
        pytest.param(seen(7.9, 8.0, 1), (2.0, 9.0, 1), True, id="as old as its memory may be"),
        pytest.param(seen(8.1, 8.2, 1), (2.0, 9.0, 1), False, id="older than that"),
        pytest.param(seen(8.1, 8.2, 1), (2.0, 8.0, 1), False, id="it was back"),
        pytest.param(seen(2.1, 2.2, None, "b@x"), (1.5, 2.15, 0), True, id="nobody, where a name was given"),
        pytest.param(seen(0.1, 0.2, None, "a@x"), (1.5, 2.15, 0), False, id="nobody, and no write to miss"),
    ],
)
def test_the_checker_excuses_what_the_docs_do_not_promise(
    read: Read, window: tuple[float, float, int], excused: bool
) -> None:
    """By replica, write and time: a fault elsewhere, or before, or long ago excuses nothing."""
    begun, ended, replica = window
    verdict = check(COMMITS, [read], [Window(begun, ended, "Redis not trusted", replica)])
    assert (int(excused), int(not excused)) == (verdict.excused, len(verdict.violations))


def test_one_missed_write_that_was_told_is_enough() -> None:
    """Its eviction took the old copy with it, whatever others still keep back."""
    third = Commit(7, 3, "b@x", 3.0, 3.1, "answered", replica=2)
    windows = [Window(1.5, 9.0, "Redis not trusted", 0)]
    assert 0 == len(check(COMMITS[:2], [seen(3.5, 3.6, 1)], windows).violations)
    assert 1 == len(check((*COMMITS[:2], third), [seen(3.5, 3.6, 1)], windows).violations)


@pytest.mark.parametrize(("answered", "excused"), [(3.1, False), (None, True), (9.0, True)])
def test_an_address_that_was_kept_back_is_freed_by_the_next_answer(
    answered: float | None, excused: bool
) -> None:
    """A later write of another replica shows the address in its answer, and only there."""
    third = Commit(7, 3, "b@x", 3.0, answered, "by a replica that is well", replica=2)
    reads = [seen(3.2, 3.3, 3), seen(3.5, 3.6, None, "b@x")]
    verdict = check((*COMMITS[:2], third), reads, [Window(1.5, 9.0, "Redis not trusted", 0)])
    assert (int(excused), int(not excused)) == (verdict.excused, len(verdict.violations))


def test_mistakes_that_can_be_put_in_are_those_of_the_simulator() -> None:
    """Under the simulator's names, and in scripts that hold what they cut out."""
    known = {bug.name: bug for bug in SIMULATED}
    scripts = list(TEXTS.values())
    for name in BUGS.values():
        for piece, _ in known[name].cuts:
            assert any(piece in text for text in scripts), (name, piece)


def test_a_soak() -> None:
    """Real processes under load and a round of faults: no read was too old, and nothing failed."""
    command = [sys.executable, "-m", "tests.soak", "--seconds", "12", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert (0, {}) == (told["violations"], told["failed"])
    assert (True, True) == (told["reads"] > 500, told["hit_rate_percent"] > 40)
    assert sum(told["faults"].values()) >= 1
