"""`warm` and `stats --watch` against a running proxy."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import COMMAND, PATIENCE, ROOT, Proxy, Stub, environment, poll, run


def warmed(served: Proxy, *words: str, given: str = "") -> tuple[int, dict[str, int], str]:
    """Exit code, counts and complaints of one run."""
    code, told, complained = run(
        "warm", *words, "--proxy", served.url, "--rate", "5000", "--json", given=given
    )
    return code, json.loads(told), complained


def counts(**given: int) -> dict[str, int]:
    """What is reported, with zeros for the rest."""
    return dict.fromkeys(("stored", "hits", "others", "failed", "skipped"), 0) | given


def test_a_range_is_read_once(served: Proxy) -> None:
    """The users are hits afterwards, and a second run finds them there."""
    first, second = warmed(served, "--range", "1-10"), warmed(served, "--range", "1-10")

    assert ((0, counts(stored=10), ""), (0, counts(hits=10), "")) == (first, second)
    assert "HIT" == served.get("/users/10").x_cache


def test_ids_come_from_a_file_or_standard_input(served: Proxy, tmp_path: Path) -> None:
    """One a line; what is a comment is none, and an unknown user can't be stored."""
    (tmp_path / "ids").write_text("# of yesterday\n11\n\n12\n999999\n", "utf-8")

    assert (0, counts(stored=2, others=1), "") == warmed(served, "--ids", str(tmp_path / "ids"))
    assert (0, counts(stored=1), "") == warmed(served, "--ids", "-", given="13\n")


def test_ids_come_from_the_services_list(stub: Stub) -> None:
    """Page by page, to the end."""
    with Proxy.start(stub.url) as one:
        assert (0, counts(stored=50), "") == warmed(one, "--list", "/users?after={}&limit=20")


def test_a_run_goes_on_where_the_last_one_ended(served: Proxy, tmp_path: Path) -> None:
    """--state: what was done is skipped, and kept when it is stopped by Ctrl-C, which is told in a line."""
    state = tmp_path / "done"
    words = ("warm", "--range", "1-40", "--proxy", served.url, "--state", str(state))
    process = subprocess.Popen(
        (*COMMAND, *words, "--rate", "20"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT,
    )  # fmt: skip
    poll(lambda: state.exists() and int(state.read_text() or 0) >= 2, "some users")
    process.send_signal(signal.SIGINT)
    told, complained = process.communicate(timeout=15)
    done = int(state.read_text())

    assert (130, f"stopped; the same command goes on from there ({state})") == (
        process.returncode,
        complained.strip().partition(": ")[2],
    )
    assert "read and stored" in told
    assert (0, done, 40 - done) == (
        (again := warmed(served, "--range", "1-40", "--state", str(state)))[0],
        again[1]["skipped"],
        again[1]["hits"] + again[1]["stored"],
    )


def test_it_gives_up_where_nothing_works(served: Proxy, tmp_path: Path) -> None:
    """Ten failures in a row: exit code 1, and they are not counted as done."""
    state = tmp_path / "done"
    code, told, complained = run(
        "warm", "--range", "1-100", "--proxy", "127.0.0.1:9", "--rate", "5000", "--state", str(state)
    )

    assert (1, "0") == (code, state.read_text())
    assert "0 read and stored" in told
    assert complained.startswith(
        "user-cache-proxy: gave up: 10 requests in a row failed (the last: no answer)"
    )


def test_the_rate_is_kept(served: Proxy) -> None:
    """Twenty requests at a hundred a second take no less than the nineteen pauses between them."""
    began = time.monotonic()
    run("warm", "--range", "1-20", "--proxy", served.url, "--rate", "100")

    assert 0.19 <= time.monotonic() - began


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--range", "9-1"], "--range takes FIRST-LAST, e.g. 1-1000"),
        (["--ids", "/nowhere"], "/nowhere: cannot be read (No such file or directory)"),
        (["--range", "1-2", "--rate", "0"], "--rate takes 0.01 to 100000 requests a second"),
        (["--range", "1-2", "--proxy", "ftp://x"], "--proxy takes HOST:PORT or http://HOST:PORT"),
        (["--range", "1-2", "--route", "GET /x"], "'GET /x' is no route that looks users up by id"),
        (["--list", "users"], "--list takes a path of the service, e.g. '/users?after={}&limit=100'"),
        (["--range", "1-2", "-H", "x"], "-H takes a header line: 'Name: value'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_clear_line(words: list[str], complaint: str) -> None:
    """Exit code 2."""
    assert (2, "", f"user-cache-proxy: {complaint}\n") == run("warm", *words)


def test_a_bar_shows_on_a_terminal(served: Proxy) -> None:
    """It fills up, and the last line stays."""
    words = [*COMMAND, "warm", "--range", "1-5", "--proxy", served.url, "--rate", "5000"]

    assert "[##############################] 5/5" in on_terminal(words)


def test_stats_are_watched(served: Proxy) -> None:
    """--json: one line each time, until Ctrl-C, which is a clean end; requests meanwhile are in it."""
    process = subprocess.Popen(
        (*COMMAND, "stats", "--watch", "0.2", "--json", "--admin", served.admin),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline())]
    while not lines[-1]["requests_per_second"] and len(lines) < 50:
        served.get("/users/1")
        lines.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    _, complained = process.communicate(timeout=15)

    assert (0, "") == (process.returncode, complained)
    assert lines[-1]["requests_per_second"] > 0


def test_a_terminal_shows_a_page(served: Proxy) -> None:
    """It is drawn in place, and the terminal is given back as it was."""
    words = [*COMMAND, "stats", "--watch", "0.2", "--admin", served.admin]
    seen = on_terminal(words, until="WHY NOT A HIT")

    assert "hit rate" in seen
    assert seen.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def on_terminal(words: list[str], until: str | None = None) -> str:
    """What a command writes to a terminal; Ctrl-C once `until` was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment())
    seen = b""
    try:
        while select.select([terminal], [], [], PATIENCE)[0]:
            seen += os.read(terminal, 4096)
            if until is not None and until.encode() in seen:
                os.kill(pid, signal.SIGINT)
                until = None
        os.kill(pid, signal.SIGKILL)
        raise TimeoutError(seen.decode())
    except OSError:
        pass
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
    return seen.decode()
