"""The legacy service as a process: its command line, its start and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from upstream_stub.cli import parse_arguments
from upstream_stub.options import Address, Options, parse_address, parse_duration, parse_rate

COMMAND = (sys.executable, "-m", "upstream_stub")
QUICK = ("--listen", "127.0.0.1:0", "--users", "3", "--latency", "0", "--latency-jitter", "0")


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, once it has said that it listens, and what it said."""
    with subprocess.Popen(
        (*COMMAND, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """The exit code after that signal, and all that was said since the start."""
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out + err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_serves_and_ends_cleanly(number: signal.Signals) -> None:
    """One line says where it listens; an idle client and a signal later it ends with 0 and no other word."""
    with running(*QUICK, "--etag") as (process, line):
        found = re.fullmatch(
            r"upstream_stub listening on (http://127\.0\.0\.1:\d+) \(3 users, latency 0 ms\)\n", line
        )
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/users/1") as answer:
            assert (200, 1) == (answer.status, json.load(answer)["id"])
            assert answer.headers["ETag"]
        port = int(found[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            assert (0, "") == stopped(process, number)


def test_a_file_survives_a_restart(tmp_path: Path) -> None:
    """What was written to a file database is there when the service comes back."""
    arguments = (*QUICK, "--database", str(tmp_path / "users.db"))
    for bio in ("first", "second"):
        with running(*arguments) as (process, line):
            url = line.split()[3]
            with urllib.request.urlopen(f"{url}/users/1") as answer:
                before = json.load(answer)
            change = urllib.request.Request(
                f"{url}/users/1", method="PUT", data=json.dumps({"bio": bio}).encode()
            )
            with urllib.request.urlopen(change) as answer:
                after = json.load(answer)
            assert 0 == stopped(process, signal.SIGTERM)[0]

        assert before["version"] + 1 == after["version"]

    assert ("first", 3) == (before["bio"], after["version"])


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """A path instead of a port."""
    path = tmp_path / "s"
    with running(*QUICK, "--listen", f"unix:{path}") as (process, line):
        assert f"listening on unix:{path} " in line
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        assert 0 == stopped(process, signal.SIGTERM)[0]


def test_a_port_in_use_is_one_clear_line() -> None:
    """The exit code is 2 and the line names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run((*COMMAND, "--listen", address), capture_output=True, text=True, check=False)

    assert (2, "") == (done.returncode, done.stdout)
    assert re.fullmatch(rf"upstream_stub: cannot listen on http://{address}: [^\n]+\n", done.stderr)


def test_an_unusable_database_is_one_clear_line(tmp_path: Path) -> None:
    """So is a file that is no database."""
    path = tmp_path / "users.db"
    path.write_text("not a database at all, whatever its name says" * 30)

    done = subprocess.run(
        (*COMMAND, *QUICK, "--database", str(path)), capture_output=True, text=True, check=False
    )

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert done.stderr.startswith(f"upstream_stub: cannot use the database {path}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "many"],
        ["--users", "-1"],
        ["--latency", "fast"],
        ["--latency", "-5ms"],
        ["--error-rate", "1.5"],
        ["--error-rate", "nan"],
        ["--listen", "8000"],
        ["--listen", "localhost:99999"],
        ["--listen", "::1:80"],
        ["--listen", "unix:"],
        ["--algorithm", "none"],
        ["--jwt-secret", ""],
        ["--token-ttl", "10ms"],
        ["--user", "5"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_a_bad_argument_is_one_clear_line(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the argument, and the exit code is 2."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments, {})

    said = capsys.readouterr()
    assert (2, "", 1) == (ended.value.code, said.out, said.err.count("\n"))
    assert said.err.startswith("upstream_stub: ")
    assert arguments[0] in said.err


def test_arguments_become_options() -> None:
    """Every flag reaches its option, and none given is the documented default."""
    given = {
        "--listen": "[::1]:0",
        "--database": "users.db",
        "--users": "5",
        "--seed": "9",
        "--latency": "0.5s",
        "--latency-jitter": "3ms",
        "--error-rate": "0.01",
        "--drop-after-commit-rate": "0.02",
        "--algorithm": "RS256",
        "--jwt-secret": "s",
        "--token-ttl": "2m",
    }
    flags = ["--leak-hash", "--etag", "--no-open-writes", "--access-log"]
    arguments = [*(word for pair in given.items() for word in pair), *flags]

    assert Options() == parse_arguments([], {})
    assert Options(
        listen=Address("::1", 0),
        database="users.db",
        users=5,
        seed=9,
        latency=0.5,
        latency_jitter=0.003,
        error_rate=0.01,
        drop_after_commit_rate=0.02,
        leak_hash=True,
        etag=True,
        open_writes=False,
        algorithm="RS256",
        jwt_secret="s",
        token_ttl=120.0,
        access_log=True,
    ) == parse_arguments(arguments, {"JWT_SECRET": "from the environment"})
    assert "from the environment" == parse_arguments([], {"JWT_SECRET": "from the environment"}).jwt_secret


def test_durations_rates_and_addresses() -> None:
    """The notations that the help promises."""
    assert [0.01, 0.01, 1.0, 2.0, 0.5, 300.0, 3600.0] == [
        parse_duration(text) for text in ("10ms", "0.01s", "1s", "2", ".5", "5m", "1h")
    ]
    assert [0.0, 1.0, 0.01] == [parse_rate(text) for text in ("0", "1", "1e-2")]
    assert Address("0.0.0.0", 80) == parse_address(":80")
    assert Address(path="/run/s") == parse_address("unix:/run/s")
    assert "http://[::1]:80" == parse_address("[::1]:80").url


def test_help_says_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads only the help can log in and knows the instruments."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--help"], {})

    said = capsys.readouterr().out
    assert 0 == ended.value.code
    for needed in ("password-N", "/__stats", "/__control", "--drop-after-commit-rate", "--no-open-writes"):
        assert needed in said
