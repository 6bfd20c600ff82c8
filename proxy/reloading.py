"""Other settings while the process runs: what is asked for, and what comes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from proxy import logs
from proxy.admin.modes import Note
from proxy.app import App
from proxy.core.errors import ConfigError
from proxy.core.settings import Settings
from proxy.door import Door
from proxy.sockets import tls
from proxy.terminal import Terminal

log = logging.getLogger("proxy")

Reload = Callable[[], Settings]


@dataclass(frozen=True, slots=True)
class Asked:
    """What signals have asked for (`any` is set with both), and the mode that an operator has."""

    stop: asyncio.Event
    any: asyncio.Event
    mode: Note
    terminal: Terminal | None

    def to_stop(self) -> None:
        """SIGTERM, SIGINT."""
        self.stop.set()
        self.any.set()

    def to_reload(self) -> None:
        """SIGHUP."""
        if self.terminal is not None and self.terminal.gone:
            self.stop.set()
        self.any.set()

    async def reload(self) -> bool:
        """Waits for a signal; whether it asks to stop."""
        await self.any.wait()
        self.any.clear()
        return self.stop.is_set()


async def changed(app: App, door: Door, settings: Settings, reload: Reload) -> Settings:
    """The settings in force after a reload: the old ones where anything is wrong with the new ones."""
    # In a thread, as requests go on meanwhile.
    found = await asyncio.to_thread(reloaded, settings, reload)
    if found is None:
        return settings
    try:
        context = tls(found.tls)
        await app.change(found)
    except Exception as error:  # noqa: BLE001 - whatever it was, the old settings go on
        mistakes = error.mistakes if isinstance(error, ConfigError) else (logs.place_of(error),)
        _untold(mistakes)
        return settings
    if context is not None or settings.tls is not None:
        # Certificates are replaced in their files.
        await door.open(context)
    return found


def reloaded(settings: Settings, reload: Reload) -> Settings | None:
    """The settings as they are written now, but for what can't change while sockets and workers live; None,
    and a line in the log for each, where there are mistakes in them."""
    try:
        found = reload()
        tls(found.tls)
    except ConfigError as error:
        _untold(error.mistakes)
        return None
    log.info("settings reloaded", extra={"routes": len(found.routes)})
    return msgspec.structs.replace(
        found, listen=settings.listen, admin=settings.admin, workers=settings.workers
    )


def _untold(mistakes: Sequence[str]) -> None:
    for mistake in mistakes:
        log.error("settings not reloaded", extra={"mistake": mistake})
