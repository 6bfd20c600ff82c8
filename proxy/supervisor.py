"""Several workers on one port: started, signalled, started again when they die, and ended."""

from __future__ import annotations

import contextlib
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxy.core.settings import Settings
from proxy.crew import Crew
from proxy.reloading import Reload, reloaded
from proxy.sockets import bound, listen
from proxy.systemd import notify
from proxy.terminal import Terminal

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

# Seconds that requests in flight get to end after SIGTERM: less than Kubernetes' 30 s to SIGKILL.
DRAIN = 10.0
STOP = b"."


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker of how many this process is; the first one has the admin socket."""

    index: int
    count: int
    folder: str

    def socket_of(self, index: int) -> str:
        """The unix socket of a worker's own admin."""
        return str(Path(self.folder) / f"{index}.sock")

    @property
    def peers(self) -> list[str]:
        """The sockets of the others, for the worker that answers for all."""
        return [self.socket_of(other) for other in range(1, self.count)] if self.index == 0 else []


def supervise(
    settings: Settings, reload: Reload | None, work: Callable[[Settings, Place, Reload | None], None]
) -> None:
    """Keeps `settings.workers` processes at `work` on one port; one that dies is started again."""
    context = get_context("spawn")
    # Found out here, once, and not in each worker: a port that somebody else has.
    listen(settings.admin, shared=False).close()
    listen(settings.listen, shared=False).close()
    with (
        # Bound and not listening: it keeps the port, gets no connection, and makes 0 one number for all.
        contextlib.closing(bound(settings.listen, shared=True)) as reserved,
        tempfile.TemporaryDirectory(prefix="user-cache-proxy-") as folder,
        _signalled() as signals,
    ):
        address = msgspec.structs.replace(settings.listen, port=reserved.getsockname()[1])
        current = msgspec.structs.replace(settings, listen=address)

        def start(index: int) -> SpawnProcess:
            place = Place(index, settings.workers, folder)
            # What a worker that was killed left there would pass for the new one's.
            Path(place.socket_of(index)).unlink(missing_ok=True)
            process = context.Process(target=work, args=(current, place, reload))
            process.start()
            return process

        crew = Crew([start(index) for index in range(settings.workers)], start)
        said = False
        try:
            while True:
                if signals in wait([signals, *crew.sentinels], crew.pause(watching=not said)):
                    if signals.recv(1) == STOP or reload is None:
                        return
                    found = reloaded(current, reload)
                    if found is not None:
                        current = found
                        crew.signal(signal.SIGHUP)
                crew.mend(time.monotonic())
                if not said and all(
                    Path(folder, f"{index}.sock").exists() for index in range(settings.workers)
                ):
                    said = True
                    notify("READY=1")
        finally:
            notify("STOPPING=1")
            _end(crew.workers, settings.drain_delay)


def _end(workers: list[SpawnProcess], delay: float) -> None:
    for process in workers:
        process.terminate()
    for process in workers:
        process.join(delay + DRAIN + 5)
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def _signalled() -> Iterator[socket.socket]:
    """A socket that holds a byte for each signal: STOP for those that end it, another one for SIGHUP."""
    reader, writer = socket.socketpair()
    terminal = Terminal()

    def noted(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            writer.send(b"h" if number == signal.SIGHUP and not terminal.gone else STOP)

    with reader, writer:
        names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {name: signal.signal(name, noted) for name in names}
        try:
            yield reader
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
