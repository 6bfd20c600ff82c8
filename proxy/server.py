"""Sockets, signals, workers, drain: the life of the processes that serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
from aiohttp import web

from proxy import logs
from proxy.admin.modes import Note
from proxy.app import compose
from proxy.configprivacy import kept_otherwise
from proxy.core.errors import ConfigError
from proxy.core.settings import Address, Settings
from proxy.crew import Crew
from proxy.sockets import BACKLOG, CannotListen, bound, listen, tls
from proxy.systemd import notify, reloading

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["CannotListen", "run", "serve"]

log = logging.getLogger("proxy")

# Seconds that requests in flight get to end after SIGTERM: less than Kubernetes' 30 s to SIGKILL.
DRAIN = 10.0
STOP = b"."

Reload = Callable[[], Settings]


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


def run(settings: Settings, reload: Reload | None = None) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP asks `reload`, which can be pickled, for other settings.

    Raises CannotListen, ConfigError.
    """
    # Found out before any worker dies of it.
    tls(settings.tls)
    if settings.workers > 1:
        _supervise(settings, reload)
    else:
        _run_one(settings, None, reload)


def _run_one(settings: Settings, place: Place | None, reload: Reload | None) -> None:
    import uvloop

    # Until the loop has its handler, a reload is not the end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, place, reload))


async def serve(settings: Settings, place: Place | None = None, reload: Reload | None = None) -> None:
    """One process: both sockets, until a signal; then no new connections, and a bounded end for the rest.

    SIGHUP asks `reload` for other settings. Sockets stay open meanwhile, so nobody is refused.
    """
    loop = asyncio.get_running_loop()
    asked = Asked(
        asyncio.Event(), asyncio.Event(), Note(None if place is None else Path(place.folder) / "mode")
    )
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked.to_stop)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, asked.to_reload)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(contextlib.closing(listen(settings.listen, shared=place is not None)))
        admin = None
        if place is None or place.index == 0:
            admin = stack.enter_context(contextlib.closing(listen(settings.admin, shared=False)))
        before, current = settings, await _serve_with(settings, place, sock, admin, asked, reload)
        while current is not None:
            cold = kept_otherwise(before, current)
            before, current = (
                current,
                await _serve_with(current, place, sock, admin, asked, reload, cold=cold),
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """What signals have asked for (`any` is set with both), and the mode that an operator has."""

    stop: asyncio.Event
    any: asyncio.Event
    mode: Note

    def to_stop(self) -> None:
        """SIGTERM, SIGINT."""
        self.stop.set()
        self.any.set()

    def to_reload(self) -> None:
        """SIGHUP."""
        self.any.set()


async def _serve_with(
    settings: Settings,
    place: Place | None,
    sock: socket.socket,
    admin_sock: socket.socket | None,
    asked: Asked,
    reload: Reload | None,
    *,
    cold: bool = False,
) -> Settings | None:
    """Serves until a signal; the settings to go on with, or None. `cold`: drops everything first."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(
            compose(settings, [] if place is None else place.peers, asked.mode)
        )
        if cold:
            await app.cache.evict(everything=True)
        runner = web.AppRunner(app.admin, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if admin_sock is not None:
            await web.SockSite(runner, admin_sock.dup()).start()
        server = await loop.create_server(app.server, sock=sock.dup(), backlog=BACKLOG, ssl=tls(settings.tls))
        log.info(
            "listening",
            extra={
                "listen": _named(sock),
                "admin": "none" if admin_sock is None else _named(admin_sock),
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
        following = await _following(settings, asked, reload)
        if place is None:
            notify("STOPPING=1" if following is None else reloading())
        if following is None:
            app.operators.draining = True
            log.info("draining", extra={"connections": len(app.server.connections)})
            # Whoever routes here learns of it by and by, so connections are taken. A second signal ends that.
            asked.stop.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.drain_delay):
                    await asked.stop.wait()
        # Who comes while a reload ends what is in flight waits in the socket's queue.
        server.close()
        app.server.pre_shutdown()
        await app.server.shutdown(DRAIN)
    return following


async def _following(settings: Settings, asked: Asked, reload: Reload | None) -> Settings | None:
    """Waits for a signal. Settings with mistakes are told of, and the old ones stay."""
    while True:
        await asked.any.wait()
        if asked.stop.is_set() or reload is None:
            return None
        asked.any.clear()
        found = reloaded(settings, reload)
        if found is not None:
            return found


def reloaded(settings: Settings, reload: Reload) -> Settings | None:
    """The settings as they are written now, but for what can't change while sockets and workers live; None,
    and a line in the log for each, where there are mistakes in them."""
    try:
        found = reload()
        tls(found.tls)
    except ConfigError as error:
        for mistake in error.mistakes:
            log.error("settings not reloaded", extra={"mistake": mistake})  # noqa: TRY400 - no bug of ours
        return None
    log.info("settings reloaded", extra={"routes": len(found.routes)})
    return msgspec.structs.replace(
        found, listen=settings.listen, admin=settings.admin, workers=settings.workers
    )


def _named(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return str(Address(host=host, port=port))


def _worker(settings: Settings, place: Place, reload: Reload | None) -> None:
    logs.configure(settings.log_level, settings.log_format)
    # Ctrl-C reaches the whole group; the supervisor decides when the workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_one(settings, place, reload)


def _supervise(settings: Settings, reload: Reload | None) -> None:
    """Keeps `settings.workers` processes on one port; one that dies is started again."""
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
            process = context.Process(target=_worker, args=(current, place, reload))
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
    """A socket that holds a byte for each signal: STOP for SIGTERM and SIGINT, another one for SIGHUP."""
    reader, writer = socket.socketpair()

    def noted(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            writer.send(b"h" if number == signal.SIGHUP else STOP)

    with reader, writer:
        names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {name: signal.signal(name, noted) for name in names}
        try:
            yield reader
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
