"""How processes live and end: draining, systemd, TLS on the listening socket."""

from __future__ import annotations

import http.client
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.core.errors import ConfigError
from proxy.core.settings import TlsSettings
from proxy.crew import LONGEST_DELAY, RESTART_DELAY, YOUNG, Crew
from proxy.sockets import tls
from tests.certificates import make_certificate
from tests.process.notified import notified
from tests.processes import COMMAND, ROOT, Proxy, Stub, environment, poll
from tests.valkey import Valkey


def test_a_drain_says_no_before_it_stops() -> None:
    """`/readyz` is red at once; connections are taken until a second signal, and what is in flight ends."""
    with Stub.start() as stub, Proxy.start(stub.url, DRAIN_DELAY="30s") as proxy:
        assert 200 == proxy.ask_admin("GET", "/readyz").status
        proxy.send(signal.SIGTERM)
        lines(proxy, "draining", 1)
        told = proxy.ask_admin("GET", "/readyz")
        assert (503, "draining") == (told.status, told.json()["status"])
        assert 200 == proxy.ask_admin("GET", "/healthz").status
        assert 200 == proxy.get("/users/1").status
        started = time.monotonic()
        assert 0 == proxy.stop()
        assert time.monotonic() - started < 15


def test_a_drain_ends_by_itself() -> None:
    """After the delay nobody is taken any more."""
    with Stub.start() as stub, Proxy.start(stub.url, DRAIN_DELAY="100ms") as proxy:
        started = time.monotonic()
        assert 0 == proxy.stop()
        assert time.monotonic() - started >= 0.1


def members(valkey: Valkey) -> set[bytes]:
    """The replicas on the feed."""
    return {one for one in valkey.ask("HKEYS", "user:members") if re.fullmatch(rb"[0-9a-f]{12}", one)}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told(workers: str, tmp_path: Path, valkey: Valkey) -> None:
    """READY once all workers serve, STOPPING when they end: each once, from the main process."""
    with notified(tmp_path) as heard:
        env = heard.env | {"WORKERS": workers}
        with Stub.start() as stub, Proxy.starting(stub.url, redis=valkey.url, **env) as proxy:
            assert ("READY=1", proxy.pid) == heard.said()
            assert int(workers) == len(proxy.told("listening"))
            joined = poll(lambda: len(found := members(valkey)) == int(workers) and found, "the feed")
            assert 0 == proxy.stop()
            # No write waits for those that have left.
            assert not joined & members(valkey)
            assert ("STOPPING=1", proxy.pid) == heard.said()
            assert heard.silent()


def test_tls_on_the_listening_socket(tmp_path: Path) -> None:
    """A client that checks the certificate is answered; one that speaks plain HTTP is not."""
    certificate = make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with Stub.start() as stub, Proxy.start(stub.url, LISTEN_TLS_CERT=str(certificate)) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        said = []
        for _ in range(2):
            client = http.client.HTTPSConnection(host, int(port), context=trusting, timeout=10)
            client.request("GET", "/users/1")
            response = client.getresponse()
            said.append((response.status, response.headers["X-Cache"], response.read()[:1]))
            client.close()
        assert [(200, "MISS", b"{"), (200, "HIT", b"{")] == said
        # Each of them has a line with OpenSSL's reason, and counts.
        with pytest.raises((http.client.HTTPException, OSError)):
            proxy.get("/users/canary")
        distrusting = ssl.create_default_context()
        # In TLS 1.3 a client says so after the handshake.
        distrusting.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(host, int(port), context=distrusting, timeout=10).request("GET", "/")
        told = lines(proxy, "request refused", 2)
        assert [("tls-handshake", "HTTP_REQUEST"), ("tls-handshake", "TLSV1_ALERT_UNKNOWN_CA")] == [
            (line["problem"], line["detail"]) for line in told
        ]
        assert {"time", "level", "logger", "message", "problem", "detail"} == {*told[0], *told[1]}
        assert {"tls-handshake": 2} == proxy.stats()["refused"]
    context = tls(TlsSettings(certificate=str(certificate), key=str(certificate)))
    assert context is not None
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


def test_a_renewed_certificate_is_taken_over(tmp_path: Path) -> None:
    """By SIGHUP: new connections get it, and the one that is open goes on."""
    used = tmp_path / "used.pem"
    old, new = (make_certificate(tmp_path).rename(tmp_path / name) for name in ("old.pem", "new.pem"))
    shutil.copy(old, used)
    with Stub.start() as stub, Proxy.start(stub.url, LISTEN_TLS_CERT=str(used)) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")

        def client(trusted: Path) -> http.client.HTTPSConnection:
            context = ssl.create_default_context(cafile=str(trusted))
            return http.client.HTTPSConnection(host, int(port), context=context, timeout=10)

        def status(one: http.client.HTTPSConnection) -> int:
            one.request("GET", "/users/1")
            answer = one.getresponse()
            answer.read()
            return answer.status

        with closing(client(old)) as before, closing(client(new)) as after, closing(client(old)) as late:
            assert 200 == status(before)
            shutil.copy(new, used)
            reload(proxy, 1)
            assert [200, 200] == [status(before), status(after)]
            with pytest.raises(ssl.SSLCertVerificationError):
                status(late)


def test_a_certificate_that_can_not_be_had(tmp_path: Path) -> None:
    """Named by the variables, without a traceback."""
    (tmp_path / "x.pem").write_text("no certificate")
    for name, cause in (("none.pem", "No such file"), ("x.pem", "not a PEM certificate")):
        path = str(tmp_path / name)
        with pytest.raises(ConfigError) as caught:
            tls(TlsSettings(certificate=path, key=path))
        assert cause in caught.value.mistakes[0]


class Mortal:
    """A worker that can be killed."""

    exitcode = -9

    def __init__(self) -> None:
        self.alive = True
        self.sentinel = os.getpid()

    def is_alive(self) -> bool:
        return self.alive


def test_workers_that_keep_dying_are_started_ever_later() -> None:
    """Twice as long each time, up to a bound; from the beginning once one has lived for a while."""
    crew = Crew([Mortal()], lambda _: Mortal())  # type: ignore[arg-type, return-value, list-item]
    now = time.monotonic()
    waits: list[float] = []
    for _ in range(7):
        worker: Any = crew.workers[0]
        worker.alive = False
        crew.mend(now)
        assert [] == crew.sentinels
        due = crew._due[0]
        crew.mend(due - 0.001)
        assert crew.workers[0] is worker
        crew.mend(due)
        assert crew.workers[0] is not worker
        waits.append(round(due - now, 3))
        now = due
    assert [RESTART_DELAY * 2**n for n in range(5)] + [LONGEST_DELAY] * 2 == waits
    worker = crew.workers[0]
    worker.alive = False
    crew.mend(now + YOUNG)
    assert RESTART_DELAY == crew._due[0] - (now + YOUNG)


def test_kill_loses_nothing_but_warmth(valkey: Valkey) -> None:
    """After SIGKILL a new process finds what was stored, and evicts what is written."""
    with Stub.start() as stub:
        with Proxy.start(stub.url, redis=valkey.url) as proxy:
            assert "MISS" == proxy.get("/users/7").x_cache
            proxy.kill()
        with Proxy.start(stub.url, redis=valkey.url) as proxy:
            assert "HIT" == proxy.get("/users/7").x_cache
            poll(lambda: proxy.ask_admin("GET", "/readyz").status == 200, "ready")


def lines(proxy: Proxy, message: str, count: int) -> list[dict[str, Any]]:
    """The log lines of that message, once there are so many."""
    return proxy.until(message, lambda: found if len(found := proxy.told(message)) == count else None)


def reload(proxy: Proxy, count: int) -> list[dict[str, Any]]:
    """Sends SIGHUP; the lines of so many reloads, those before among them, once they are there."""
    proxy.send(signal.SIGHUP)
    return lines(proxy, "settings in force", count)


ROUTES = """
version: 1
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_routes_are_read_again(workers: str, tmp_path: Path, valkey: Valkey) -> None:
    """SIGHUP: a file with mistakes changes nothing, another one does; nobody is refused meanwhile."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    env = {"ROUTES_FILE": str(routes), "WORKERS": workers}
    with Stub.start() as stub, Proxy.start(stub.url, redis=valkey.url, **env) as proxy:
        assert "MISS" == proxy.get("/users/1").x_cache
        assert "HIT" == proxy.get("/users/1").x_cache
        routes.write_text("version: 2")
        proxy.send(signal.SIGHUP)
        (told,) = lines(proxy, "settings not reloaded", 1)
        assert "version '2' is not known" in told["mistake"]
        assert "HIT" == proxy.get("/users/1").x_cache
        stub.control(hold="user_by_id")
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(proxy.get, "/users/2")
            stub.until_held("user_by_id")
            routes.write_text(ROUTES.replace("GET /users/{id:int}", "GET /profiles/{id:int}"))
            # Nobody waits for what is in flight, and that ends as it began.
            reload(proxy, int(workers))
            stub.control(release="all")
            assert (200, 2) == ((answer := slow.result()).status, answer.json()["id"])
        assert ["BYPASS"] * 4 == [proxy.get("/users/1").x_cache for _ in range(4)]
        assert 0 == proxy.stop()


def test_what_was_ready_is_not_given_under_other_routes(tmp_path: Path) -> None:
    """Not on the connection that was open before the reload, which stays, nor on a new one."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    head = b"GET /users/1 HTTP/1.1\r\nHost: users\r\n\r\n"
    env = {"ROUTES_FILE": str(routes), "JWT_SECRET": "x" * 40}
    with Stub.start() as stub, Proxy.start(stub.url, **env) as proxy:
        place = urlsplit(proxy.url)
        with socket.create_connection((place.hostname, place.port), 10) as sock:

            def hit() -> bool:
                sock.sendall(head)
                answer = sock.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
                return b"X-Cache: HIT" in answer

            ready = [hit() for _ in range(3)]
            tokens = "tokens: {secret_env: JWT_SECRET}\nviews:"
            routes.write_text(ROUTES.replace("anyone", "token").replace("views:", tokens))
            reload(proxy, 1)
            late = hit()
        assert [False, True, True] == ready
        assert not late
        assert "HIT" != proxy.get("/users/1").x_cache


def test_what_became_a_secret_is_dropped(tmp_path: Path, valkey: Valkey) -> None:
    """A reload that adds a secret's name leaves no answer with it; another one stays warm."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    for redis in (valkey.url, None):
        routes.write_text(ROUTES)
        with Stub.start() as stub, Proxy.start(stub.url, redis=redis, ROUTES_FILE=str(routes)) as proxy:
            assert "display_name" in proxy.get("/users/1").json()
            assert [False] == [line["cold"] for line in reload(proxy, 1)]
            assert "HIT" == proxy.get("/users/1").x_cache
            stub.control(hold="user_by_id")
            with ThreadPoolExecutor(1) as pool:
                slow = pool.submit(proxy.get, "/users/2")
                stub.until_held("user_by_id")
                routes.write_text(ROUTES.replace("views:", "user: {secrets: [display_name]}\nviews:"))
                assert [False, True] == [line["cold"] for line in reload(proxy, 2)]
                stub.control(release="all")
                assert 200 == slow.result().status
            # Neither what was stored before, nor what an old walk had in hand.
            for number in (1, 2):
                answer = proxy.get(f"/users/{number}")
                assert ("MISS", False) == (answer.x_cache, "display_name" in answer.json())


def test_a_reload_keeps_what_is_warm(tmp_path: Path) -> None:
    """Memory, counters, the mode and the connections to upstream, where the change does not touch them."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    with Stub.start() as stub, Proxy.start(stub.url, ROUTES_FILE=str(routes)) as proxy:
        assert ["MISS", "HIT", "HIT"] == [proxy.get("/users/1").x_cache for _ in range(3)]
        routes.write_text(ROUTES + '  - {match: "GET /avatars/{file:path}", resource: {}}\n')
        reload(proxy, 1)
        assert "HIT" == proxy.get("/users/1").x_cache
        told = proxy.stats()
        assert (3, 1) == (told["hits"], told["misses"])
        assert 1 == stub.requests("user_by_id")


def test_a_start_that_fails_leaves_the_old_settings(tmp_path: Path) -> None:
    """Settings that are well written and can't be served with: an error in the log, and nobody is refused."""
    routes, authorities = tmp_path / "routes.yaml", tmp_path / "ca.pem"
    with Stub.start() as stub:
        good = f"upstream: {{url: '{stub.url}'}}\n{ROUTES}"
        routes.write_text(good)
        with Proxy.start("", ROUTES_FILE=str(routes)) as proxy:
            assert "MISS" == proxy.get("/users/1").x_cache
            authorities.write_text("no authority")
            routes.write_text(good.replace(f"'{stub.url}'", "'https://127.0.0.1:1', ca_file: ca.pem"))
            proxy.send(signal.SIGHUP)
            (told,) = lines(proxy, "settings not reloaded", 1)
            assert "upstream.ca_file: cannot be read" in told["mistake"]
            assert "HIT" == proxy.get("/users/1").x_cache
            routes.write_text(good)
            reload(proxy, 1)
            assert 0 == proxy.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_fails_over_reloads(workers: str, tmp_path: Path, valkey: Valkey) -> None:
    """Under load, on kept-alive and on new connections: all are answered, and none waits for it."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    other = ROUTES + '  - {match: "GET /avatars/{file:path}", resource: {}}\n'
    env = {"ROUTES_FILE": str(routes), "WORKERS": workers}
    with Stub.start(latency="2ms") as stub, Proxy.start(stub.url, redis=valkey.url, **env) as proxy:
        over = threading.Event()
        counts = [0] * 4

        def reader(number: int) -> float:
            place, longest = urlsplit(proxy.url), 0.0
            kept = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
            while not over.is_set():
                path = f"/users/{1 + (counts[number] + 10 * number) % 45}"
                began = time.monotonic()
                if counts[number] % 3:
                    kept.request("GET", path)
                    answer = kept.getresponse()
                    answer.read()
                    status = answer.status
                else:
                    status = proxy.get(path).status
                longest = max(longest, time.monotonic() - began)
                assert 200 == status
                counts[number] += 1
            kept.close()
            return longest

        stub.control(hold="profile")
        with ThreadPoolExecutor(5) as pool:
            # In flight all the while.
            held = pool.submit(proxy.get, "/profiles/somebody")
            stub.until_held("profile")
            readers = [pool.submit(reader, number) for number in range(4)]
            for turn in range(6):
                routes.write_text((other, ROUTES)[turn % 2])
                reload(proxy, int(workers) * (turn + 1))
                read = min(counts)
                proxy.until("reads by all", lambda read=read: min(counts) > read + 1)
            over.set()
            stub.control(release="all")
            assert 404 == held.result().status
            assert max(one.result() for one in readers) < 5
        assert [] == proxy.told("settings not reloaded")


@contextmanager
def on_a_terminal(words: Sequence[str], folder: Path) -> Iterator[tuple[int, int, Path]]:
    """A proxy in the foreground of a terminal of its own: its id, the terminal's other end, and its log."""
    log = folder / "log"
    given = environment(UPSTREAM_URL="http://127.0.0.1:1", LISTEN="127.0.0.1:0", ADMIN_LISTEN="127.0.0.1:0")
    given |= {"JWT_SECRET": "x" * 40, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json"}
    line = shlex.join([*words, *COMMAND, "serve"]) + f" 2>{shlex.quote(str(log))}"
    pid, terminal = pty.fork()
    if not pid:
        # Whoever runs the tests may have ignored it.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(folder)
        os.execvpe("/bin/sh", ["/bin/sh", "-c", f"exec {line}"], given)
    try:
        poll(partial(said, log, "listening"), "listening")
        yield pid, terminal, log
    finally:
        # One that has ended as it should is nobody's child any more.
        with suppress(ChildProcessError, ProcessLookupError):
            if not ended(pid):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def ended(pid: int) -> bool:
    """Whether that child has ended."""
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def said(log: Path, message: str) -> bool:
    """Whether that line is in the log."""
    return log.exists() and message in log.read_text()


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    """In the foreground of one."""
    with on_a_terminal((), tmp_path) as (pid, terminal, log):
        os.close(terminal)
        poll(partial(ended, pid), "its end")
        assert not said(log, "settings in force")


def test_under_nohup_it_goes_on(tmp_path: Path) -> None:
    """The terminal's end is nothing to it; SIGHUP is a reload."""
    with on_a_terminal(("nohup",), tmp_path) as (pid, terminal, log):
        os.close(terminal)
        os.kill(pid, signal.SIGHUP)
        poll(partial(said, log, "settings in force"), "a reload")
        assert not ended(pid)
        os.kill(pid, signal.SIGTERM)
        poll(partial(ended, pid), "its end")
