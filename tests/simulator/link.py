"""The line to the server in this process: the scheduler says when a command arrives, and when its reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from proxy.core.errors import StoreError
from proxy.store import link, scripts
from tests.simulator.scheduler import ACTOR, REPLICA, Scheduler
from tests.simulator.server import BROKEN, Server, Subscription

# Longer than any delay that a schedule makes by itself: a reply that is late is not yet an outage.
DEADLINE = 10_000.0


@cache
def _scripts() -> dict[str, str]:
    """Digest → name, for people."""
    files = Path(scripts.__file__).with_name("lua").glob("[a-z]*.lua")
    texts = {path.stem: path.read_text("utf-8") for path in files}
    ends = sorted(texts.items(), key=lambda item: -len(item[1]))
    return {
        digest: next((name for name, end in ends if text.endswith(end)), "script")
        for digest, text in scripts.TEXTS.items()
    }


def _name(command: scripts.Command) -> str:
    if command[0] == "EVALSHA":
        return f"{_scripts()[str(command[1])]} {command[3]!s}"
    return " ".join(str(word) for word in command[:2])


class SimLink(link.Link):
    """A Link to a Server. `split`: others may come in between the commands of one pipeline."""

    def __init__(self, scheduler: Scheduler, server: Server, *, split: bool) -> None:
        super().__init__(cast("Any", SimpleNamespace(connection_pool=None)), deadline=DEADLINE)
        self._scheduler = scheduler
        self._server = server
        self._split = split

    async def _send(self, commands: Sequence[scripts.Command]) -> list[Any]:
        if not commands:
            return []
        replies: list[Any] = []
        for index, command in enumerate(commands):
            if index == 0 or self._split:
                rest = [command] if self._split else commands
                await self._scheduler.point(f"Redis gets {', '.join(_name(each) for each in rest)}")
            self._check()
            replies.append(self._server.execute(command))
        await self._scheduler.point("the reply comes")
        self._check()
        return replies

    def _check(self) -> None:
        if self._server.away:
            raise RedisConnectionError("away")

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Link."""
        ACTOR.set(f"{REPLICA.get()}.feed")
        async with self.bounded():
            await self._scheduler.point("subscribes")
            self._check()
            subscription = self._server.subscribe(channels)
        try:
            yield self._heard(subscription)
        finally:
            if subscription in self._server.subscriptions:
                self._server.subscriptions.remove(subscription)

    async def _heard(self, subscription: Subscription) -> AsyncIterator[bytes]:
        ACTOR.set(f"{REPLICA.get()}.ear")
        while True:
            while not subscription.queue:
                subscription.changed.clear()
                await subscription.changed.wait()
            message = subscription.queue[0]
            await self._scheduler.point(f"hears {message[:60].decode() if message else 'the end'}")
            subscription.queue.popleft()
            if message == BROKEN:
                raise StoreError("the feed was lost")
            yield message
