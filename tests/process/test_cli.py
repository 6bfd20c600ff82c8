"""The commands as real processes: what they print, their exit codes, and the life of a serving proxy."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import proxy
from proxy.cli import main, make_parser
from proxy.clicomplete import commands_of
from proxy.config import SETTINGS
from tests.answer import Answer
from tests.processes import COMMAND, ROOT, SECRET, Proxy, Stub, ask, environment, run
from tests.valkey import Valkey

NOWHERE = "127.0.0.1:9"


def said(line: str) -> str:
    """A complaint as it is printed."""
    return f"user-cache-proxy: {line}\n"


Told = tuple[int, str, str]
Called = Callable[..., Told]


@pytest.fixture(name="called")
def _called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """Runs a command in this process: for what needs no process of its own, as it is ten times as fast."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.env, raising=False)

    def call(*arguments: str, **env: str) -> Told:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


def test_the_version() -> None:
    """One line that a script can read."""
    assert (0, f"user-cache-proxy {proxy.__version__}\n", "") == run("--version")


def test_help_names_every_setting(called: Called) -> None:
    """Flag, environment name and default of each setting are in the help of serve."""
    code, told, complaint = called("serve", "--help")
    told = " ".join(told.split())

    assert (0, "") == (code, complaint)
    for setting in SETTINGS:
        assert setting.env in told
        assert setting.help in told
        assert setting.default in told
        if setting.flag:
            assert f"{setting.flag} " in told


@pytest.mark.parametrize("command", commands_of(make_parser()))
def test_every_command_has_help_with_an_example(called: Called, command: str) -> None:
    """Whoever asks for help gets a line to copy."""
    code, told, _ = called(command, "--help")

    assert 0 == code
    assert re.search(rf"examples:\n  user-cache-proxy {command}", told)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["walk"], "argument COMMAND: invalid choice"),
        (["serve", "--colour"], "unrecognized arguments: --colour; see user-cache-proxy serve --help"),
        (["stats", "--wach"], "--wach; did you mean --watch?; see user-cache-proxy stats --help"),
        (["evict"], "one of the arguments --id --email --username --phone --all is required"),
        (["evict", "--id", "1", "--all"], "not allowed with argument"),
        (["demo", "--port", "many"], "invalid int value: 'many'"),
        (["demo", "--port", "65536"], "--port takes 0 to 65535"),
        (["demo", "--json"], "demo --json needs --once"),
        (["explain", "a", "b", "c"], "explain takes [METHOD] URL"),
        (["explain", "users/42"], "the URL is a path with its query"),
        (["explain", "http://127.0.0.1:8080/users/42"], "the URL is a path with its query"),
        (["explain", "/users/42", "-H", "no colon"], "-H takes a header line"),
        (["stats", "--admin", "9090"], "is not an address; give host:port"),
        (["stats", "--admin", "ftp://127.0.0.1"], "--admin takes HOST:PORT or http://HOST:PORT"),
        (["stats", "--admin", "http://127.0.0.1:many"], "--admin takes HOST:PORT or http://HOST:PORT"),
        (["serve", "--listen", "8080"], "--listen: '8080' is not an address; give host:port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_clear_line(called: Called, arguments: Sequence[str], complaint: str) -> None:
    """Exit code 2, one line that says what is wrong, and nothing else."""
    code, told, complained = called(*arguments, JWT_SECRET=SECRET)

    assert (2, "", 1) == (code, told, complained.count("\n"))
    assert complained.startswith("user-cache-proxy: ")
    assert complaint in complained


def test_no_command_shows_the_help(called: Called) -> None:
    """Nothing to do is a mistake; the help says what there is."""
    code, told, complained = called()

    assert (2, "") == (code, told)
    assert "examples:" in complained


BROKEN = """\
version: 1
user: {id: id, keys: {email: {path: email}}}
views: {users: {ttl: soon}}
routes:
  - {match: "GET /users/{id:number}", lookup: {by: id, view: users}}
  - {match: "GET /mail/{email}", lookup: {by: e-mail, view: users}}
  - {match: "PUT /x", wirte: {evict: all}}
"""


@pytest.mark.parametrize("command", ["check", "serve"])
def test_all_mistakes_are_told_together(tmp_path: Path, command: str) -> None:
    """Each mistake of the file and of the environment has a line of its own, with its place; exit code 2."""
    path = tmp_path / "routes.yaml"
    path.write_text(BROKEN, encoding="utf-8")

    code, told, complained = run(command, "--routes", str(path), environ=environment(WORKERS="many"))
    lines = complained.splitlines()

    assert (2, "") == (code, told)
    assert [] == [line for line in lines if not line.startswith("user-cache-proxy: ")]
    for number in (3, 5, 6, 7):
        assert [] != [line for line in lines if f"{path}:{number}" in line]
    assert [] != [line for line in lines if line.startswith("user-cache-proxy: WORKERS: 'many'")]


def test_check_of_a_broken_file_as_json(called: Called, tmp_path: Path) -> None:
    """The same mistakes for a program, on standard output."""
    path = tmp_path / "routes.yaml"
    path.write_text(BROKEN, encoding="utf-8")

    code, told, complained = called("check", "--routes", str(path), "--json")

    assert (2, "", False) == (code, complained, json.loads(told)["ok"])
    assert 4 <= len(json.loads(told)["mistakes"])


def test_check_says_what_each_route_does(called: Called) -> None:
    """The packaged file, without its secret at hand: right, one line a route, and a word on the secret."""
    code, told, complained = called("check")
    lines = {re.split(r" {2,}", line)[0]: re.split(r" {2,}", line)[1:] for line in told.splitlines()}

    assert (0, "") == (code, complained)
    assert ["lookup", "id", "users 300s", "anyone", "its user, by any write here"] == lines[
        "GET /users/{id:int}"
    ]
    assert "introspection 60s" == lines["GET /auth/introspect"][2]
    assert ["introspect", "token, caller", "users 300s", "callers with an answer"] == lines[
        "POST /auth/introspect"
    ][:4]
    assert "the user whose id is token" == lines["PUT /profile"][-1]
    assert "everything" == lines["POST /admin/users/bulk"][-1]
    assert ["pass", "-", "-", "-", "-"] == lines["POST /auth/login"]
    assert "warning: JWT_SECRET is not set here; without it tokens can't be proven" in told
    assert told.endswith("routes.yaml: 15 routes, no mistakes\n")


def test_check_as_json(called: Called) -> None:
    """The same for a program; with the secret there is no word about it."""
    code, told, _ = called("check", "--json", JWT_SECRET=SECRET)
    answer = json.loads(told)
    batch = next(route for route in answer["routes"] if "ids" in route["match"])

    assert (0, True, 15) == (code, answer["ok"], len(answer["routes"]))
    assert ("batch", "id (many)", "users", 300.0) == tuple(
        batch[name] for name in ("kind", "key", "view", "ttl_seconds")
    )
    assert [] == [sentence for sentence in answer["warnings"] if "JWT_SECRET" in sentence]


def test_check_warns_of_routes_that_may_drop_everybody(called: Called, tmp_path: Path) -> None:
    """A write whose user is known by an alias only, or only from a body, can lead to a mass eviction."""
    path = tmp_path / "routes.yaml"
    path.write_text(
        "version: 1\n"
        "user: {id: id, keys: {email: {path: email}}}\n"
        "views: {users: {ttl: 60s}}\n"
        "routes:\n"
        '  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}}\n'
        '  - {match: "PUT /mail/{email}", write: {evict: [{email: path.email}]}}\n'
        '  - {match: "PUT /user/{id}/x", write: {evict: [{id: path.id}]}}\n'
        '  - {match: "PUT /x", write: {evict: [{id: response.id}]}}\n',
        encoding="utf-8",
    )

    _, told, _ = called("check", "--routes", str(path), "--json")

    warned = [sentence.partition(":")[0] for sentence in json.loads(told)["warnings"]]
    assert ["PUT /mail/{email}", "PUT /x"] == warned


@pytest.mark.parametrize("words", [["/users/7"], ["GET", "/users/7"], ["get", "/users/7"]], ids=" ".join)
def test_explain_asks_the_running_proxy(served: Proxy, words: list[str]) -> None:
    """The verdict comes first and is true: a user that was read is a hit, with or without the method."""
    served.get("/users/7")

    code, told, complained = run("explain", *words, "--admin", served.admin)
    lines = [re.split(r" {2,}", line) for line in told.splitlines()]

    assert (0, "") == (code, complained)
    assert ["HIT", "a stored answer may be served to this caller"] == lines[0]
    assert ["route", "GET /users/{id:int}"] in lines
    assert ["keys", "user:id:7"] in lines


def test_explain_as_json_shows_header_lines_to_the_proxy(served: Proxy) -> None:
    """-H reaches the proxy's judgement: the same URL is refused with a bad token."""
    token = "Authorization: Bearer no.such.token"

    _, without, _ = run("explain", "/auth/me", "--admin", served.admin, "--json")
    _, bad, _ = run("explain", "/auth/me", "-H", token, "--admin", served.admin, "--json")

    assert ("BYPASS", "token-missing") == (json.loads(without)["would_be"], json.loads(without)["reason"])
    assert "401" == json.loads(bad)["would_be"]
    assert served.admin.removeprefix("http://") == json.loads(bad)["proxy"]


@pytest.mark.parametrize(
    ("words", "verdict", "field"),
    [
        (["/users/42"], "UNKNOWN", ["keys", "user:id:42"]),
        (["/users/by-email/A@b.c"], "UNKNOWN", ["keys", "user:email:a@b.c"]),
        (["DELETE", "/users/42"], "BYPASS", ["implied", "yes"]),
        (["PUT", "/profile"], "BYPASS", ["evicts", "the user whose id is token"]),
        (["/users/42", "-H", "X-HTTP-Method-Override: PUT"], "BYPASS", ["kind", "write"]),
        (["POST", "/auth/login"], "BYPASS", ["kind", "pass"]),
        (["/users/42?x=1"], "BYPASS", ["kind", "pass"]),
        (["/auth/me"], "UNKNOWN", ["kind", "introspect"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_explain_without_a_proxy_tells_what_the_routes_say(
    called: Called, words: list[str], verdict: str, field: list[str]
) -> None:
    """Nobody answers: the routes file alone, and a line that says so."""
    code, told, complained = called("explain", *words, "--admin", NOWHERE)
    lines = [re.split(r" {2,}", line) for line in told.splitlines()]

    assert (0, "", verdict) == (code, complained, lines[0][0])
    assert field in lines
    assert lines[-1][0].startswith(
        f"no proxy answers at {NOWHERE} (Connection refused), so what is stored is unknown"
    )


def test_the_admin_address_comes_from_the_environment_too(served: Proxy) -> None:
    """ADMIN_LISTEN is where serve listens, so it is also where the other commands ask; a flag beats it."""
    port = served.admin.rpartition(":")[2]
    here = environment(ADMIN_LISTEN=f"0.0.0.0:{port}")

    assert 0 == run("stats", environ=here)[0]
    assert 1 == run("stats", "--admin", NOWHERE, environ=here)[0]


def test_stats_are_readable(stub: Stub) -> None:
    """Counters as lines and groups, and the whole answer with --json."""
    with Proxy.start(stub.url) as one:
        one.get("/users/3")
        one.get("/users/3")
        _, told, complained = run("stats", "--admin", one.admin)
        code, raw, _ = run("stats", "--admin", one.admin, "--json")

    rows = [line.split() for line in told.splitlines()]
    assert (0, "", 1, 1) == (code, complained, json.loads(raw)["hits"], json.loads(raw)["misses"])
    assert ["hit", "rate", "percent", "50"] in rows
    assert ["users", "1", "1"] in rows
    assert ["MISS", "1"] in rows
    assert "born" not in told, "what workers tell each other"


@pytest.mark.parametrize(
    "command", [["stats"], ["evict", "--id", "1"], ["evict", "--all", "--yes"]], ids=" ".join
)
def test_no_proxy_is_one_clear_line(called: Called, command: list[str]) -> None:
    """Exit code 1 and the address that was asked."""
    asked = called(*command, "--admin", NOWHERE)

    assert (1, "", said(f"no proxy answers at {NOWHERE} (Connection refused)")) == asked


def test_something_else_at_the_address_is_one_clear_line(called: Called, stub: Stub) -> None:
    """The sample service is no admin socket."""
    code, told, complained = called("stats", "--admin", stub.url)

    assert (1, "", 1) == (code, told, complained.count("\n"))
    assert "is not the admin socket of a user-cache-proxy" in complained


def test_what_speaks_no_http_is_one_clear_line(called: Called) -> None:
    """Nor is a port that talks something else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        asked = called("stats", "--admin", place)
        thread.join()

    assert (1, "", said(f"what answers at {place} does not speak HTTP")) == asked


def test_evict_drops_one_user(served: Proxy) -> None:
    """By any key; the next read is a miss, and the counts are told."""
    email = served.get("/users/5").json()["email"]
    before = served.get("/users/5").x_cache

    code, told, complained = run("evict", "--email", email, "--admin", served.admin)

    assert (0, "", "HIT", "MISS") == (code, complained, before, served.get("/users/5").x_cache)
    assert re.fullmatch(r"evicted 1 stored answer, \d aliases\n", told)


def test_an_eviction_that_was_not_delivered_fails(stub: Stub, valkey_server: Callable[..., Valkey]) -> None:
    """Redis is gone: exit code 1, and a line that says what that means."""
    server = valkey_server()
    with Proxy.start(stub.url, server.url) as one:
        one.get("/users/5")
        server.kill()
        code, _, complained = run("evict", "--id", "5", "--admin", one.admin)

    assert (1, 1) == (code, complained.count("\n"))
    assert complained.startswith("user-cache-proxy: not done (503): Redis can't be reached")


def test_evict_all_asks_first(served: Proxy) -> None:
    """No terminal: refused without --yes, and nothing is dropped. With --yes everybody is."""
    served.get("/users/6")

    refused = run("evict", "--all", "--admin", served.admin)
    kept = served.get("/users/6").x_cache
    code, told, _ = run("evict", "--all", "--yes", "--admin", served.admin)

    sentence = "evict --all drops everybody and there is no terminal to ask on; add --yes"
    assert ((2, "", said(sentence)), "HIT") == (refused, kept)
    assert (0, "evicted everybody\n", "MISS") == (code, told, served.get("/users/6").x_cache)


@pytest.mark.parametrize(("answer", "code", "after"), [(b"n\n", 1, "HIT"), (b"y\n", 0, "MISS")])
def test_evict_all_listens_to_the_person(served: Proxy, answer: bytes, code: int, after: str) -> None:
    """On a terminal it asks, and does what it is told."""
    served.get("/users/8")
    pid, terminal = pty.fork()
    if pid == 0:
        import sys

        words = [sys.executable, "-m", "proxy", "evict", "--all", "--admin", served.admin]
        os.execve(sys.executable, words, environment())
    try:
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(terminal, 1024)
        os.write(terminal, answer)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)

    assert (code, after) == (status, served.get("/users/8").x_cache)


def test_the_admin_token_is_asked_for_and_sent(stub: Stub) -> None:
    """An admin socket that is not loopback: 401 is told in a line, ADMIN_TOKEN opens it."""
    with Proxy.start(stub.url, ADMIN_LISTEN="0.0.0.0:0", ADMIN_TOKEN="of-operators") as one:
        place = f"127.0.0.1:{one.admin.rpartition(':')[2]}"
        without = run("stats", "--admin", place)
        bad = run("stats", "--admin", place, environ=environment(ADMIN_TOKEN="guessed"))
        good = run("stats", "--admin", place, environ=environment(ADMIN_TOKEN="of-operators"))

    asked = said(f"the proxy at {place} asks for a token: set ADMIN_TOKEN to the one it was given")
    assert [(1, "", asked)] * 2 == [without, bad]
    assert 0 == good[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_what_is_in_flight(number: signal.Signals) -> None:
    """A request that upstream still works on gets its answer; then the proxy ends with 0."""
    with Stub.start() as own, Proxy.start(own.url) as one:
        own.control(hold="user_by_id")
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(one.get("/users/9")))
        client.start()
        own.until_held("user_by_id")
        one.send(number)
        one.until("draining", lambda: one.told("draining") or None)
        own.control(release="user_by_id")
        client.join()

        assert [200] == [answer.status for answer in answers]
        assert 0 == one.wait()
        assert [] == [line for line in one.lines() if "Traceback" in line]
        with pytest.raises(ConnectionRefusedError):
            one.get("/users/9")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_is_a_clean_end_too(tmp_path: Path, number: signal.Signals) -> None:
    """Nothing is half started: the settings are still being read, and it ends with 0 and without a word."""
    path = tmp_path / "routes.yaml"
    os.mkfifo(path)
    process = subprocess.Popen(
        (*COMMAND, "serve", "--routes", str(path)),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    # Opens as soon as the other end is read from, which is when the settings are read.
    with path.open("w"):
        process.send_signal(number)
        _, complained = process.communicate(timeout=15)

    assert (0, "") == (process.returncode, complained)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`check | head`: no traceback when the pipe is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        (*COMMAND, "check"), stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    os.close(writing)

    assert (1, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_clear_line(flag: str, workers: str) -> None:
    """Exit code 1, and the line names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {"--listen": "127.0.0.1:0", "--admin": "127.0.0.1:0"} | {flag: address}
        words = [word for pair in addresses.items() for word in pair]
        redis = ["--redis", "redis://127.0.0.1:9/0"]
        code, told, complained = run(
            "serve", *words, *redis, "--workers", workers, environ=environment(JWT_SECRET=SECRET)
        )

    assert (1, "") == (code, told)
    assert said(f"can't listen on {address}: Address already in use") == complained


def test_warnings_of_the_settings_are_logged(stub: Stub) -> None:
    """A short secret is told when serving begins, without the secret."""
    with Proxy.start(stub.url, JWT_SECRET="short-secret") as one:
        warned = [line["message"] for line in one.told() if line["level"] == "warning"]

    assert ["tokens: the secret is shorter than 32 bytes and can be guessed; use a longer one"] == warned


def test_two_workers_share_the_port_and_the_figures(stub: Stub, valkey: Valkey) -> None:
    """Both serve, /stats adds them up, and one that is killed is started again."""
    with Proxy.start(stub.url, valkey.url, WORKERS="2") as one:
        # The kernel spreads connections over the workers; a hundred do not all go to one.
        answers = [one.get(f"/users/{1 + number % 40}") for number in range(100)]
        figures = one.stats()
        before = one.workers()
        os.kill(before[1], signal.SIGKILL)
        one.until("worker died", lambda: one.told("worker died") or None)
        one.until("a new worker", lambda: len(one.told("listening")) == 3 or None)
        after = one.workers()
        again = [ask(one.url, "GET", "/users/1").status for _ in range(20)]
        code = one.stop()

    assert {200} == {answer.status for answer in answers}
    assert (2, 100) == (figures["workers"], figures["total_lookups"])
    assert (2, 1) == (len(after), len(set(before) & set(after)))
    assert ({200}, 0) == (set(again), code)
