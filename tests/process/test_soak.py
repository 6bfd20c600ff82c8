"""A short run of the soak, and the checker that judges it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.soak.checker import Commit, Read, Window, check

COMMITS = (
    Commit(7, 1, "a@x", 0.0, 0.0, "at the start"),
    Commit(7, 2, "b@x", 1.0, 2.0, "answered"),
    Commit(7, 3, "b@x", 3.0, None, "never answered"),
)


def seen(begun: float, ended: float, version: int | None, email: str | None = None) -> Read:
    """A read of user 7."""
    return Read(7, begun, ended, version, email, "test")


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


def test_the_checker_excuses_only_what_was_under_way_in_a_window() -> None:
    """After the window the old value is a violation like any other, also of what was written in it."""
    reads = [seen(2.1, 2.2, 1), seen(5.1, 5.2, 1)]
    verdict = check(COMMITS, reads, [Window(1.5, 2.15, "Redis is away")])
    assert (1, 1, [reads[1]]) == (
        verdict.in_windows,
        verdict.excused,
        [one.read for one in verdict.violations],
    )


def test_a_soak() -> None:
    """Real processes under load and a round of faults: no read was too old, and nothing failed."""
    command = [sys.executable, "-m", "tests.soak", "--seconds", "12", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert (0, {}) == (told["violations"], told["failed"])
    assert (True, True) == (told["reads"] > 500, told["hit_rate_percent"] > 40)
    assert sum(told["faults"].values()) >= 1
