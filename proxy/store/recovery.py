"""The way down and back up: is the shared store trusted, and what must it learn before it is again?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from proxy.core.errors import StoreError
from proxy.core.model import Batch
from proxy.store.breaker import Breaker
from proxy.store.pending import Pending

_log = logging.getLogger("proxy.store")

# Small enough for one deadline.
_REPLAY = 256


class Recovery:
    """Distrusts the shared store from a failed eviction, a lost server, or `failures` others in a row.

    Every `probe_interval` seconds it is asked for its run id. It is trusted again once no fence is `owed` to
    a write under way and all evictions of the outage are delivered by `deliver`; one whose run id has changed
    gets all users evicted first, as it may have started from an older copy (design §7.6). `meet` sees to that
    where this process is the new one. `opened` and `returned` are told when trust goes and comes.
    """

    def __init__(
        self,
        *,
        run_id: Callable[[], Awaitable[str]],
        meet: Callable[[str], Awaitable[object]],
        deliver: Callable[[Batch], Awaitable[object]],
        owed: Callable[[], Awaitable[bool]],
        opened: Callable[[], None],
        returned: Callable[[], None],
        probe_interval: float,
        failures: int,
        pending_limit: int,
    ) -> None:
        self._ask = run_id
        self._meet = meet
        self._deliver = deliver
        self._owed = owed
        self._opened = opened
        self._back = returned
        self._probe_interval = probe_interval
        self.breaker = Breaker(failures)
        self.pending = Pending(pending_limit)
        self.run_id = ""
        self.restarts = 0
        """Times that another server process answered."""
        self.watcher: asyncio.Task[None] | None = None
        self.met = asyncio.Event()
        """Set once the shared store has been asked for the first time, and is trusted or known to be away."""
        self._closed = False
        self._returning = False

    @property
    def down(self) -> bool:
        """The shared store is not to be asked."""
        return self.breaker.open

    @property
    def deaf(self) -> bool:
        """The shared store is not to be told of writes, but after its return.

        During that it is told at once, or those who never stop writing would keep it away.
        """
        return self.breaker.open and not self._returning

    def failed(self, error: StoreError, *, write: bool = False) -> None:
        """Counts a failure of the shared store."""
        if self.breaker.failed(at_once=write or error.gone):
            self._opened()
            _log.warning("the shared store is not used until it is back: %s", error)

    def replaced(self) -> None:
        """Another server process answers: whatever it holds is void before it is trusted."""
        self.restarts += 1
        self.run_id = ""
        self.pending.add(Batch(everything=True))
        self.failed(StoreError("another server process answers"), write=True)

    def watch(self) -> None:
        """Starts the probe, once, and again where it died."""
        if self.watcher is None and not self._closed:
            self.watcher = asyncio.create_task(self._probe_for_ever())
            self.watcher.add_done_callback(self._watcher_died)

    async def begun(self) -> None:
        """Starts the probe, and waits until `met`: before, nothing that the shared store holds is read."""
        self.watch()
        if not self.met.is_set() and self.watcher is not None:
            await self.met.wait()

    def _watcher_died(self, task: asyncio.Task[None]) -> None:
        if self._closed:
            return
        error = None if task.cancelled() else task.exception()
        _log.error("the watch over the shared store died: %s", type(error).__name__ if error else "cancelled")
        # The next operation starts another, and so does the timer where there is none.
        self.watcher = None
        task.get_loop().call_later(self._probe_interval, self.watch)

    async def _probe_for_ever(self) -> None:
        while True:
            with suppress(StoreError):
                await self.probe()
            await asyncio.sleep(self._probe_interval)

    async def probe(self) -> None:
        """Raises StoreError where the shared store is not back yet, or away again."""
        try:
            run_id = await self._ask()
            if self.run_id and run_id and run_id != self.run_id:
                self.replaced()
            if run_id and not self.run_id:
                await self._meet(run_id)
            elif not (run_id or self.met.is_set()):
                _log.warning(
                    "Redis may not be asked INFO here: that it came back with old data goes unnoticed"
                )
            self.run_id = run_id or self.run_id
            self.met.set()
            if self.breaker.open:
                await self._return()
        except StoreError as error:
            self.failed(error, write=not self.met.is_set())
            raise
        finally:
            self.met.set()

    async def _return(self) -> None:
        self._returning = True
        try:
            delivered = await self._catch_up()
        finally:
            self._returning = False
        # Nothing awaits from here on, so no eviction can slip in between.
        self._back()
        self.breaker.close()
        _log.info("the shared store is back, %d evictions were delivered late", delivered)

    async def _catch_up(self) -> int:
        delivered = 0
        # Writes under way are fenced first: what others store from then on is not older than these writes.
        while await self._owed() or len(self.pending):
            if not len(self.pending):
                continue
            batch = self.pending.take(_REPLAY)
            try:
                await self._deliver(batch)
            except BaseException:
                self.pending.add(batch)
                raise
            delivered += len(batch.users) + len(batch.aliases) + batch.everything
        return delivered

    async def close(self) -> None:
        """Ends the probe; evictions that are still to be delivered get a last try."""
        self._closed = True
        if self.watcher is not None:
            self.watcher.cancel()
            await asyncio.gather(self.watcher, return_exceptions=True)
        if len(self.pending):
            with suppress(StoreError):
                await self.probe()
        if len(self.pending):
            _log.error("%d evictions could not be delivered", len(self.pending))
