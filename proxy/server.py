"""Sockets, signals, workers, drain: the life of the processes that serve."""

from __future__ import annotations

# First, see there.
from proxy import lean  # noqa: F401

# isort: split

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from proxy import logs
from proxy.admin.modes import Note
from proxy.app import compose
from proxy.core.settings import Address, Settings
from proxy.door import Door
from proxy.reloading import Asked, Reload, changed
from proxy.sockets import CannotListen, listen, tls
from proxy.supervisor import DRAIN, Place, supervise
from proxy.systemd import notify, reloading
from proxy.terminal import Terminal

__all__ = ["CannotListen", "run", "serve"]

log = logging.getLogger("proxy")


def run(settings: Settings, reload: Reload | None = None) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP asks `reload`, which can be pickled, for other settings.

    Raises CannotListen, ConfigError.
    """
    # Found out before any worker dies of it.
    tls(settings.tls)
    if settings.workers > 1:
        supervise(settings, reload, _worker)
    else:
        _run_one(settings, None, reload)


def _run_one(settings: Settings, place: Place | None, reload: Reload | None) -> None:
    import uvloop

    terminal = Terminal() if place is None else None
    # Until the loop has its handler, a reload is not the end, and not forgotten.
    early: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, place, reload, terminal, early))


async def serve(
    settings: Settings,
    place: Place | None = None,
    reload: Reload | None = None,
    terminal: Terminal | None = None,
    early: Sequence[int] = (),
) -> None:
    """One process: both sockets, until a signal; then no new connections, and a bounded end for the rest.

    SIGHUP asks `reload` for other settings, or says that `terminal` was closed, which ends the process.
    `early` are those that came before. Connections stay as they are over a reload.
    """
    loop = asyncio.get_running_loop()
    asked = Asked(
        asyncio.Event(),
        asyncio.Event(),
        Note(None if place is None else Path(place.folder) / "mode"),
        terminal,
    )
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked.to_stop)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, asked.to_reload)
        if early:
            asked.to_reload()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(contextlib.closing(listen(settings.listen, shared=place is not None)))
        admin = None
        if place is None or place.index == 0:
            admin = stack.enter_context(contextlib.closing(listen(settings.admin, shared=False)))
        await _serve_on(settings, place, sock, admin, asked, reload)


async def _serve_on(
    settings: Settings,
    place: Place | None,
    sock: socket.socket,
    admin_sock: socket.socket | None,
    asked: Asked,
    reload: Reload | None,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(
            compose(settings, [] if place is None else place.peers, asked.mode)
        )
        runner = web.AppRunner(app.admin, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if admin_sock is not None:
            await web.SockSite(runner, admin_sock.dup()).start()
        # Code and settings live as long as the process: a full collection, during which nobody is answered,
        # need not look through them.
        gc.freeze()
        door = Door(sock, app.server)
        await door.open(tls(settings.tls))
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
        while reload is not None and not await asked.reload():
            if place is None:
                notify(reloading())
            settings = await changed(app, door, settings, reload)
            if place is None:
                notify("READY=1")
        await asked.stop.wait()
        if place is None:
            notify("STOPPING=1")
        app.operators.draining = True
        log.info("draining", extra={"connections": len(app.server.connections)})
        # Whoever routes here learns of it by and by, so connections are taken. A second signal ends that.
        asked.stop.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_delay):
                await asked.stop.wait()
        door.close()
        app.server.pre_shutdown()
        await app.server.shutdown(DRAIN)


def _named(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return str(Address(host=host, port=port))


def _worker(settings: Settings, place: Place, reload: Reload | None) -> None:
    logs.configure(settings.log_level, settings.log_format)
    # Ctrl-C reaches the whole group; the supervisor decides when the workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_one(settings, place, reload)
