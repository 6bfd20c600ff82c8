"""One fill at a time per cold key: the first caller asks upstream, the others share what it could store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy.core.errors import UpstreamError
from proxy.core.model import Entry, Found, Reason, Ref, Ticket, Tier
from proxy.core.ports import Store
from proxy.singleflight import Flight, SingleFlight

# Above this many callers of one cold key the next one asks upstream itself: a bound on memory, not on work.
MAX_WAITERS = 1000
# How often an abandoned or outdated flight is tried again before a caller goes alone.
ATTEMPTS = 3
# Seconds for which an answer that could not be stored keeps callers of its key from queueing, and how many.
UNSTORABLE_FOR = 1.0
MAX_UNSTORABLE = 10_000

# A fill that was refused like this says nothing about the next one: the waiters try again, one of them first.
_TRY_AGAIN = (Reason.STALE_FILL, Reason.STORE_DOWN)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What a loader brought: `value` for its own caller, `entry` to store and share (None: not storable)."""

    value: T
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Shared:
    """Another caller's answer, stored a moment ago."""

    found: Found
    collapsed: bool


@dataclass(frozen=True, slots=True)
class Own(Generic[T]):
    """The caller's own answer; `refused` says why its entry, if it had one, was not stored."""

    value: T
    stored: bool
    refused: Reason | None


@dataclass(frozen=True, slots=True)
class _Alone:
    """Landed by a leader whose answer nobody may share; `error` where upstream could not be asked."""

    error: UpstreamError | None = None


class Leases:
    """The fills under way: one per key in this process, and one per key among the replicas.

    `wait_timeout` is in seconds, `now` the wall clock.
    """

    def __init__(self, store: Store, *, wait_timeout: float, now: Callable[[], float]) -> None:
        self._store = store
        self._wait_timeout = wait_timeout
        self._now = now
        self._flights: SingleFlight[Ref, Found | _Alone] = SingleFlight(MAX_WAITERS)
        self._unstorable: dict[Ref, float] = {}
        self.retired = False
        """Set where other settings are in force: what was found under these is not stored any more."""

    @property
    def landed(self) -> int:
        """Fills that have ended so far; a caller notes it before its own look-up (see `fill_once`)."""
        return self._flights.landed

    def under_way(self, ref: Ref) -> bool:
        """Is somebody filling this key now?"""
        return ref in self._flights.flights

    async def fill_once(
        self, ref: Ref, seen: int, loader: Callable[[Ticket], Awaitable[Loaded[T]]]
    ) -> Shared | Own[T]:
        """Runs `loader` once for all concurrent callers of a cold key and shares what could be stored.

        `seen` is `landed` from before the caller's own look-up. The loader gets a ticket that was
        taken before it runs. A waiter is never given an answer that an eviction has made stale meanwhile:
        such a fill is refused, and the waiter tries again. Raises what the loader raises.
        """
        for _ in range(0 if self._is_known_unstorable(ref) else ATTEMPTS):
            joined = self._flights.join(ref)
            if joined is None:
                break
            flight, leads = joined
            if leads:
                with flight:
                    return await self._lead(flight, ref, seen, loader)
            try:
                landed = await flight.wait(self._wait_timeout)
            except TimeoutError:
                break
            if isinstance(landed, Found):
                # A write may have been answered since that was read, and before this caller came.
                again = await self._store.get(ref)
                if isinstance(again, Found):
                    if again.entry.expires > self._now():
                        return Shared(again, collapsed=True)
                    # Stale as soon as it is there (RFC 9111 §5.2.2.4): waiting in line for it helps nobody.
                    break
            elif landed is not None:
                if landed.error is not None:
                    raise landed.error
                break
            else:
                # What Redis said too late it may have stored all the same: the next leader looks again.
                continue
            seen = self._flights.landed
        return await self.alone(ref, loader)

    async def _lead(
        self,
        flight: Flight[Found | _Alone],
        ref: Ref,
        seen: int,
        loader: Callable[[Ticket], Awaitable[Loaded[T]]],
    ) -> Shared | Own[T]:
        if self._flights.landed > seen:
            # A flight for this key may have landed between the look-up and the join.
            again = await self._store.get(ref)
            if isinstance(again, Found) and again.entry.expires > self._now():
                flight.land(again)
                return Shared(again, collapsed=False)
        held = await self._store.lease(ref, self._wait_timeout)
        if isinstance(held, Found):
            if held.entry.expires <= self._now():
                # Stale as soon as another replica had stored it, see `fill_once`.
                flight.land(_Alone())
                return await self.alone(ref, loader)
            flight.land(held)
            return Shared(held, collapsed=True)
        try:
            own, found = await self._load(ref, held, loader)
        except BaseException as error:
            await self._store.release(ref, held)
            if isinstance(error, UpstreamError):
                flight.land(_Alone(error))
            raise
        if found is not None:
            flight.land(found)
        elif own.refused not in _TRY_AGAIN:
            flight.land(_Alone())
        return own

    def _is_known_unstorable(self, ref: Ref) -> bool:
        until = self._unstorable.get(ref)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._unstorable[ref]
        return False

    def _remember(self, ref: Ref) -> None:
        # Queueing for an answer that nobody may share would serve its callers one after the other.
        if len(self._unstorable) >= MAX_UNSTORABLE:
            self._unstorable.clear()
        self._unstorable[ref] = self._now() + UNSTORABLE_FOR

    async def alone(self, ref: Ref, loader: Callable[[Ticket], Awaitable[Loaded[T]]]) -> Own[T]:
        """Runs `loader` for this caller only; what it brings is stored all the same."""
        own, _ = await self._load(ref, await self._store.ticket(ref), loader)
        return own

    async def _load(
        self, ref: Ref, ticket: Ticket, loader: Callable[[Ticket], Awaitable[Loaded[T]]]
    ) -> tuple[Own[T], Found | None]:
        loaded = await loader(ticket)
        if loaded.entry is None:
            self._remember(ref)
            await self._store.release(ref, ticket)
            return Own(loaded.value, stored=False, refused=None), None
        refused = await self.put(ref, loaded.entry, ticket)
        if refused is not None:
            # At an alias the mark is the lease: left there, it would keep the next reader waiting.
            await self._store.release(ref, ticket)
        own = Own(loaded.value, stored=refused is None, refused=refused)
        return own, None if refused is not None else Found(loaded.entry, Tier.MEMORY)

    async def put(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """Stores `entry`; the reason if it was not stored."""
        return Reason.STALE_FILL if self.retired else await self._store.fill(ref, entry, ticket)
