"""Sockets, signals, workers, drain: the life of the processes that serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from proxy import logs
from proxy.app import compose
from proxy.core.errors import ConfigError
from proxy.core.settings import Address, Settings, TlsSettings
from proxy.systemd import notify

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

log = logging.getLogger("proxy")

# Seconds that requests in flight get to end after SIGTERM: less than Kubernetes' 30 s to SIGKILL.
DRAIN = 10.0
# A worker that died is started again after this many seconds, and after twice as many each time it dies
# young, so that it can't take the machine.
RESTART_DELAY, LONGEST_DELAY = 1.0, 30.0
YOUNG = 10.0
BACKLOG = 1024


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


class CannotListen(Exception):
    """An address can't be had; the text names it and the cause."""


def listen(address: Address, *, shared: bool) -> socket.socket:
    """A listening TCP socket; `shared` lets several processes have the port (SO_REUSEPORT).

    Raises CannotListen.
    """
    sock = _bound(address, shared=shared)
    sock.listen(BACKLOG)
    return sock


def _bound(address: Address, *, shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(place)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CannotListen(f"can't listen on {address}: {error.strerror or error}") from error
    sock.setblocking(False)
    return sock


def tls(files: TlsSettings | None) -> ssl.SSLContext | None:
    """The server's side of TLS 1.2 and 1.3, where the settings ask for it. Raises ConfigError."""
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:
        told = "not a PEM certificate with its key"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            told = error.strerror or "no file"
        raise ConfigError((f"LISTEN_TLS_CERT, LISTEN_TLS_KEY: cannot be read ({told})",)) from None
    return context


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises CannotListen, ConfigError."""
    # Found out before any worker dies of it.
    tls(settings.tls)
    if settings.workers > 1:
        _supervise(settings)
    else:
        _run_one(settings, None)


def _run_one(settings: Settings, place: Place | None) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, place))


async def serve(settings: Settings, place: Place | None = None) -> None:
    """One process: both sockets, until a signal; then no new connections, and a bounded end for the rest."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        sock = stack.enter_context(contextlib.closing(listen(settings.listen, shared=place is not None)))
        app = await stack.enter_async_context(
            compose(settings)
            if place is None
            else compose(settings, place.peers, Path(place.folder) / "mode")
        )
        runner = web.AppRunner(app.admin, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        admin = "none"
        if place is None or place.index == 0:
            admin_sock = stack.enter_context(contextlib.closing(listen(settings.admin, shared=False)))
            await web.SockSite(runner, admin_sock).start()
            admin = _named(admin_sock)
        server = await loop.create_server(app.server, sock=sock, backlog=BACKLOG, ssl=tls(settings.tls))
        log.info(
            "listening",
            extra={
                "listen": _named(sock),
                "admin": admin,
                "upstream": settings.upstream.url,
                "cache": "memory" if settings.redis.url is None else "redis",
                "mode": settings.mode.value,
            },
        )
        if place is not None:
            # Last: it tells the supervisor that this worker serves.
            await web.UnixSite(runner, place.socket_of(place.index)).start()
        else:
            notify("READY=1")
        await stop.wait()
        if place is None:
            notify("STOPPING=1")
        app.operators.draining = True
        log.info("draining", extra={"connections": len(app.server.connections)})
        # Whoever routes here learns of it by and by: connections are still taken. A second signal ends that.
        stop.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_delay):
                await stop.wait()
        server.close()
        app.server.pre_shutdown()
        await app.server.shutdown(DRAIN)


def _named(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return str(Address(host=host, port=port))


def _worker(settings: Settings, place: Place) -> None:
    logs.configure(settings.log_level, settings.log_format)
    # Ctrl-C reaches the whole group; the supervisor decides when the workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_one(settings, place)


def _supervise(settings: Settings) -> None:
    """Keeps `settings.workers` processes on one port; one that dies is started again."""
    context = get_context("spawn")
    # Found out here, once, and not in each worker: a port that somebody else has.
    listen(settings.admin, shared=False).close()
    listen(settings.listen, shared=False).close()
    with (
        # Bound and not listening: it keeps the port, gets no connection, and makes 0 one number for all.
        contextlib.closing(_bound(settings.listen, shared=True)) as reserved,
        tempfile.TemporaryDirectory(prefix="user-cache-proxy-") as folder,
        _signalled() as stopping,
    ):
        address = msgspec.structs.replace(settings.listen, port=reserved.getsockname()[1])
        shared = msgspec.structs.replace(settings, listen=address)

        def start(index: int) -> SpawnProcess:
            place = Place(index, settings.workers, folder)
            # What a worker that was killed left there would pass for the new one's.
            Path(place.socket_of(index)).unlink(missing_ok=True)
            process = context.Process(target=_worker, args=(shared, place))
            process.start()
            return process

        crew = Crew([start(index) for index in range(settings.workers)], start)
        said = False
        try:
            while stopping not in wait([stopping, *crew.sentinels], crew.pause(watching=not said)):
                crew.mend(time.monotonic())
                if not said and all(
                    Path(folder, f"{index}.sock").exists() for index in range(settings.workers)
                ):
                    said = True
                    notify("READY=1")
        finally:
            notify("STOPPING=1")
            _end(crew.workers, settings.drain_delay)


class Crew:
    """The workers, and when those that died are started again. Times are monotonic seconds."""

    def __init__(self, workers: list[SpawnProcess], start: Callable[[int], SpawnProcess]) -> None:
        self.workers = workers
        self._start = start
        self._born = dict.fromkeys(range(len(workers)), time.monotonic())
        self._delay = dict.fromkeys(range(len(workers)), RESTART_DELAY)
        self._due: dict[int, float] = {}

    @property
    def sentinels(self) -> list[int]:
        """What becomes ready when a living worker dies."""
        return [process.sentinel for at, process in enumerate(self.workers) if at not in self._due]

    def pause(self, *, watching: bool) -> float | None:
        """How long to wait for the next event; None for as long as it takes."""
        if watching:
            return 0.05
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def mend(self, now: float) -> None:
        """Notes who has died, and starts those whose time has come."""
        for index, process in enumerate(self.workers):
            if index in self._due:
                if self._due[index] <= now:
                    del self._due[index]
                    self._born[index] = now
                    self.workers[index] = self._start(index)
            elif not process.is_alive():
                if now - self._born[index] >= YOUNG:
                    self._delay[index] = RESTART_DELAY
                self._due[index] = now + self._delay[index]
                log.error(
                    "worker died",
                    extra={
                        "worker": index,
                        "exit_code": process.exitcode,
                        "again_in_seconds": self._delay[index],
                    },
                )
                self._delay[index] = min(self._delay[index] * 2, LONGEST_DELAY)


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
    """A socket that becomes readable on SIGTERM or SIGINT."""
    reader, writer = socket.socketpair()

    def stop(*_: object) -> None:
        with contextlib.suppress(OSError):
            writer.send(b".")

    with reader, writer:
        before = {name: signal.signal(name, stop) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield reader
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
