"""The proxy and the sample service as real processes, on free ports of loopback, stopped by their ids."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from proxy.config import SETTINGS
from tests.answer import Answer

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a-secret-of-tests-that-is-long-enough-0"
COMMAND = (sys.executable, "-m", "proxy")
PATIENCE = 15.0


def ask(
    url: str,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
    finally:
        connection.close()


def poll(found: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
    """Asks until there is something; for what happens in another process and says nothing."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = found()
        if value is not None and value is not False:
            return value
        time.sleep(0.01)
    raise TimeoutError(what)


def environment(**given: str) -> dict[str, str]:
    """This process's environment without any setting of a proxy, and what is given."""
    ours = {setting.env for setting in SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in ours} | given


def run(*arguments: str, environ: Mapping[str, str] | None = None, given: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command of the proxy."""
    done = subprocess.run(
        (*COMMAND, *arguments),
        capture_output=True,
        text=True,
        input=given,
        env=environment() if environ is None else environ,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """A started process whose output goes to a file. Use `running` of Stub or Proxy."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "log"
        self.url = ""
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environ, cwd=ROOT)

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    def lines(self) -> list[str]:
        """What it said so far."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A GET on a connection of its own."""
        return ask(self.url, "GET", path, headers)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
    ) -> Answer:
        """Any request on a connection of its own."""
        return ask(self.url, method, path, headers, body)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone; nothing happens if it has ended."""
        self.process.kill()
        self.process.wait()

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def until(self, what: str, found: Callable[[], T | None]) -> T:
        """Polls as long as it lives."""

        def look() -> T | None:
            assert self.alive(), f"ended: {self.lines()}"
            return found()

        try:
            return poll(look, what)
        except TimeoutError:
            raise TimeoutError(f"{what}, but: {self.lines()[-20:]}") from None

    @classmethod
    @contextmanager
    def _running(cls, command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Self]:
        with tempfile.TemporaryDirectory(prefix="process-") as folder:
            one = cls(command, environ, Path(folder))
            try:
                yield one
            finally:
                # A supervisor must get the chance to end its workers.
                one.process.terminate()
                try:
                    one.wait()
                except subprocess.TimeoutExpired:
                    one.kill()


class Stub(Running):
    """The sample service."""

    @classmethod
    @contextmanager
    def start(cls, **options: str | int | bool) -> Iterator[Self]:
        """Starts it: `latency="5ms"`, `leak_hash=True`, … are its flags. No latency unless asked for."""
        given = {"listen": "127.0.0.1:0", "users": 50, "latency": "0", "latency_jitter": "0"} | options
        words = [sys.executable, "-m", "upstream_stub"]
        for name, value in given.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
        with cls._running(words, environment(JWT_SECRET=SECRET)) as stub:
            stub.url = stub.until("the service's first line", stub._said)
            yield stub

    def _said(self) -> str | None:
        return next(
            (word for line in self.lines() for word in line.split() if word.startswith("http://")), None
        )

    def requests(self, kind: str | None = None) -> int:
        """How many it has got, of that kind or in all."""
        told = self.get("/__stats").json()["requests"]
        return int(told["total"] if kind is None else told["by_kind"][kind])

    def control(self, **settings: Any) -> None:
        """Changes latency, faults, holds: `hold="user_by_id"`, `release="all"`, …"""
        assert self.ask("POST", "/__control", body=json.dumps(settings)).status == 200

    def until_held(self, kind: str, count: int = 1) -> None:
        """Returns once so many requests of that kind are held."""
        assert self.get(f"/__control?held={kind}&count={count}").status == 200

    def token(self, user_id: int, username: str) -> str:
        """A new token of a user."""
        login = json.dumps({"username": username, "password": f"password-{user_id}"})
        return str(self.ask("POST", "/auth/login", body=login).json()["access_token"])


class Proxy(Running):
    """The proxy; `url` is for clients, `admin` for operators."""

    admin: str

    @classmethod
    @contextmanager
    def starting(
        cls, upstream: str, redis: str | None = None, *, command: Sequence[str] = COMMAND, **env: str
    ) -> Iterator[Self]:
        """Starts it and waits for nothing; where it listens is not known yet."""
        given = {
            "UPSTREAM_URL": upstream,
            "LISTEN": "127.0.0.1:0",
            "ADMIN_LISTEN": "127.0.0.1:0",
            "JWT_SECRET": SECRET,
            "LOG_FORMAT": "json",
        }
        if redis is not None:
            given["REDIS_URL"] = redis
        with cls._running((*command, "serve"), environment(**given | env)) as proxy:
            yield proxy

    @classmethod
    @contextmanager
    def start(
        cls, upstream: str, redis: str | None = None, *, command: Sequence[str] = COMMAND, **env: str
    ) -> Iterator[Self]:
        """Starts it and waits until each worker serves. `env` are settings by their environment names."""
        workers = int(env.get("WORKERS", "1"))
        with cls.starting(upstream, redis, command=command, **env) as proxy:
            started = proxy.until(
                "listening", lambda: found if len(found := proxy.told("listening")) == workers else None
            )
            proxy.url = f"http://{started[0]['listen']}"
            proxy.admin = "http://" + next(line["admin"] for line in started if line["admin"] != "none")
            yield proxy

    def told(self, message: str | None = None) -> list[dict[str, Any]]:
        """Its log lines, of that message or all."""
        lines = [json.loads(line) for line in self.lines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if message in (None, line["message"])]

    def workers(self) -> list[int]:
        """The ids of the worker processes of a supervisor of two, oldest first."""

        def found() -> list[int] | None:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
            mine = [
                int(child)
                for child in children
                if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text(encoding="ascii")
            ]
            return mine if len(mine) == 2 else None

        return self.until("two workers", found)

    def stats(self) -> dict[str, Any]:
        """`/stats`."""
        told: dict[str, Any] = ask(self.admin, "GET", "/stats").json()
        return told

    def ask_admin(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
    ) -> Answer:
        """Any request to the admin socket."""
        return ask(self.admin, method, path, headers, body)
