"""How the commands behave towards a person and a shell: Ctrl-C at any moment, pipes, terminals, typing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from proxy.clilive import fitted
from proxy.clistats import lines
from proxy.telemetry import Telemetry
from tests.processes import COMMAND, ROOT, environment, run

# Runs the program, and is interrupted when it reads the module that the first argument names.
INTERRUPTED = """
import os, runpy, signal, sys
wanted = sys.argv[1]
class Hook:
    def find_spec(self, name, *_):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hook())
sys.argv[:] = ["user-cache-proxy", *sys.argv[2:]]
runpy.run_module("proxy", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["proxy.cli", "proxy.config", "msgspec", "proxy.server", "aiohttp"])
def test_ctrl_c_while_it_starts_is_no_traceback(module: str) -> None:
    """Whatever it is about to read: it ends as by the signal, or as the command does, and says nothing."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            INTERRUPTED,
            module,
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ],
        capture_output=True,
        text=True,
        env=environment(JWT_SECRET="x" * 40, LOG_LEVEL="error"),
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert done.returncode in (-signal.SIGINT, 0)
    assert "" == done.stderr


@pytest.mark.parametrize(
    "words",
    [["--help"], ["schema"], ["check"], ["schema", "--reference"], ["completion", "bash"]],
    ids=" ".join,
)
def test_a_reader_that_has_seen_enough_is_no_mistake(words: list[str]) -> None:
    """`| true` and `| head -1`: nothing on standard error."""
    for reader in ("true", "head -1"):
        command = f"{' '.join(COMMAND)} {' '.join(words)} | {reader}"
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False,
            env=environment(JWT_SECRET="x" * 40),
        )  # fmt: skip
        assert "" == done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("srve", "serve"), ("stat", "stats"), ("explian", "explain"), ("completon", "completion")],
)
def test_a_slip_of_the_finger_is_seen(typed: str, meant: str) -> None:
    """The command that was likely meant is named; nonsense has none."""
    assert f"did you mean {meant}?" in run(typed)[2]
    assert "did you mean" not in run("zzz")[2]


def test_a_page_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line wraps and none is pushed out at the top; what was cut says so."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 4)))
    shown = fitted(["short", "x" * 20, "y" * 30, "four", "five"])
    assert ["short", "x" * 18 + "…", "y" * 18 + "…"] == shown


def test_counters_are_for_people() -> None:
    """Milliseconds and not buckets, times ago and not seconds of 1970, and no heading without lines."""
    telemetry = Telemetry()
    for seconds in (0.00004, 0.0002):
        telemetry.upstream_latency.observe(seconds)
    telemetry.invalidated(2, 1, everything=False, ids=("42",))
    told = telemetry.stats() | {"agreement": {"truth": {"GET /x": {"percent": 99.5, "compared": 200}}}}
    told["recent_evictions"][0]["time"] = 1000.0
    page = list(lines(told, now=1030.0))
    assert "UPSTREAM LATENCY" not in page
    assert not [line for line in page if "bucket" in line or "e+09" in line]
    rows = [line.split() for line in page]
    assert ["upstream", "2", "0.12", "ms", "0.05", "ms", "0.198", "ms"] in rows
    assert ["30", "s", "ago", "write", "42", "2"] in rows
    assert ["GET", "/x", "99.5", "%", "200"] in rows
    headings = [
        at for at, line in enumerate(page) if line and line == line.upper() and " " not in line.strip()
    ]
    assert all(page[at + 1] for at in headings)
