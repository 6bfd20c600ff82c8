"""The ports: what the upper layers ask of stores and of upstream. Fakes and real parts answer alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from proxy.core.model import Batch, Entry, Evicted, Fence, Found, Looked, Reason, Ref, Reply, Request, Ticket
from proxy.core.offers import HeldEntry
from proxy.core.packed import Packed


class NotAtHandError(Exception):
    """Only another process can tell; `reason` is why this one can't."""

    def __init__(self, reason: Reason = Reason.ABSENT) -> None:
        super().__init__(reason)
        self.reason = reason


class Glance(Protocol):
    """A look that is under way."""

    def cancel(self) -> None:
        """Its caller has gone, and is not to be called."""
        ...


class Store(Protocol):
    """Keeps answers by user."""

    async def get(self, ref: Ref) -> Looked:
        """The stored answer for `ref`, proven to be that user's (design §7.2); stale ones until `dead`."""
        ...

    def peek(self, ref: Ref) -> Looked:
        """What `get` finds without asking another process. Raises NotAtHandError where it would ask one."""
        ...

    def hold(self, ref: Ref) -> HeldEntry | None:
        """What `get` would find in this process's memory now, to be asked later whether it still would."""
        ...

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """A point in the order of events; taken before upstream is asked (design §7.1).

        With an alias `ref`, a mark is left at the alias, without which "nobody" is not stored.
        """
        ...

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """Stores `entry`, or says why not. `entry.user_id` names the user; None stores "nobody has this key".

        Also sets an alias for each of `entry.keys` and, for a lookup by alias, for `ref` itself.
        """
        ...

    async def lease(self, ref: Ref, seconds: float) -> Ticket | Found:
        """A ticket with the right to fill `ref`, once among all replicas (design §7.4).

        Waits, `seconds` at most, for a replica that is filling it now; Found is what that one stored. Give
        the right back with `release` where nothing is filled.
        """
        ...

    async def release(self, ref: Ref, ticket: Ticket) -> None:
        """The fill has ended with an answer that can't be stored: whoever waits for it is freed."""
        ...

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[tuple[str, str]] = (), *, everything: bool = False
    ) -> Evicted:
        """Removes users and raises their floors; frees the aliases' "nobody" records and raises theirs.

        An alias that leads to a user evicts that user as well. `everything` raises the epoch.
        """
        ...

    async def resolve(self, key: str, value: str) -> str | None:
        """The id that an alias leads to, unproven, or None where nobody knows; an id leads to itself."""
        ...

    def glance(self, ref: Ref, done: Callable[[Packed | None], None]) -> Glance | None:
        """Looks where `get` would have to ask another process: `done` gets what it would find, or None where
        only `get` can tell. Returns None, and calls nobody, where nothing is to be had in this way.
        """
        ...

    async def fence(self, batch: Batch) -> Fence:
        """Before a write: what `batch` names is neither answered nor stored until `settle` (design §7.3).

        Raises StoreError only where the settings say that writes must not go on without the shared store.
        """
        ...

    async def settle(self, fence: Fence, batch: Batch | None, *, linger: float = 0.0) -> Evicted:
        """After a write: evicts `batch` (None: the write changed nothing) and takes the fence down.

        With `linger` (seconds) the fence stands that much longer and evicts once more at its end: upstream
        may still be at work.
        """
        ...

    async def token_state(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """None: nobody has revoked that token (its hash), which was made at `issued` and is good by itself
        until `until`. TOKEN_REVOKED: somebody has. TOKEN_OUTDATED: somebody may have, ask upstream.

        FENCED or STORE_DOWN: nobody can tell now. What is known is forgotten with the user's eviction.
        """
        ...

    def peek_token(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """What `token_state` knows without asking another process; nothing is noted of it.

        Raises NotAtHandError where it would ask one.
        """
        ...

    async def revoke(self, user_id: str, token: str, until: float, name: str = "") -> None:
        """That token of the user is good no more: provisionally, under the fence of that `name`, or for good.

        Other replicas learn of it by the user's eviction, which is to follow.
        """
        ...

    async def restore(self, token: str, name: str) -> None:
        """Takes a provisional revocation back."""
        ...

    async def revoke_user(self, user_id: str, before: float, until: float, name: str, *, sure: bool) -> None:
        """The user's tokens that were made up to `before` are not good by themselves; "": everybody's.

        Nobody need know it after `until`. Provisionally, under the fence `name`, or `sure`ly; as `revoke`.
        """
        ...

    async def restore_user(self, user_id: str, name: str) -> None:
        """Takes such a provisional word back."""
        ...

    async def health(self) -> Mapping[str, Any]:
        """`{"backend", "status": "ok"|"degraded", "latency_ms", …}`; never raises."""
        ...

    async def close(self) -> None:
        """Gives back connections; idempotent."""
        ...


class Announcement(Protocol):
    """One message to all replicas: `command` sends it, `heard` waits until they have done what it says."""

    @property
    def command(self) -> tuple[str | bytes, ...]:
        """The Redis command."""
        ...

    async def heard(self, reply: Any) -> None:
        """Given the reply to `command`; returns when no replica can answer otherwise from memory."""
        ...


class Memory(Protocol):
    """This process's memory, as the feed sees it. It keeps the fences of others, which Redis may lose."""

    def drop_batch(self, batch: Batch) -> object:
        """Drops all that `batch` names."""
        ...

    def stand(self, fence: Fence, seconds: float, writer: str) -> None:
        """What it names is not stored here, for so long or until `lift`; `writer` is whose it is."""
        ...

    def lift(self, name: str) -> None:
        """That fence is down."""
        ...

    def told(self) -> Mapping[str, str]:
        """The fences of others that stand here, by name, with their writers."""
        ...

    def stands(self, name: str) -> bool:
        """Whether that is a fence of this process, and still stands."""
        ...

    def learn(self, tokens: Iterable[tuple[str, float]], cutoffs: Iterable[tuple[str, float, float]]) -> None:
        """Tokens (their hashes) are good no more until they end; tokens of users are from before some moment,
        which is to be known until another. Redis knows it too."""
        ...


class Membership(Protocol):
    """This replica's end of the feed (design §7.5).

    `orphaned` is told of writes of unnamed users whose proxy has died, by their notes and what these hold
    now: everybody is to be evicted, and they removed. Of none where such notes may have been lost.
    """

    orphaned: Callable[[Mapping[bytes, bytes]], object]
    forgotten: Callable[[], object]
    """Is told where Redis may have lost everything."""
    newcomer: Callable[[], object]
    """Is told where a replica begins, which was told of no fence that stands."""

    @property
    def alive(self) -> bool:
        """May memory be used now? To be asked on each use."""
        ...

    @property
    def behind(self) -> float:
        """For so many seconds writes of others may have gone unheard; 0 while memory may be used."""
        ...

    def start(self) -> None:
        """Joins in the background; once."""
        ...

    def announcement(self, batch: Batch, fence: str = "", seconds: float = 0.0) -> Announcement:
        """Tells the replicas to drop `batch` from memory, and of the fence that stands around it."""
        ...

    def standing(self, fence: Fence, seconds: float) -> tuple[str | bytes, ...]:
        """The Redis command that tells the replicas how long a fence goes on standing; 0: it is down."""
        ...

    def word(
        self, tokens: Sequence[tuple[str, float]] = (), cutoffs: Sequence[tuple[str, float, float]] = ()
    ) -> tuple[str | bytes, ...]:
        """The Redis command that tells the replicas of tokens that are good no more, see Memory.learn."""
        ...

    @property
    def listed(self) -> tuple[str | bytes, ...] | None:
        """The Redis command that says (1) that nothing was lost since this replica joined; None before."""
        ...

    def wake(self, ref: Ref, *, storable: bool) -> bytes:
        """The message that tells replicas that a fill of `ref` has ended."""
        ...

    def health(self) -> Mapping[str, Any]:
        """For people."""
        ...

    async def close(self) -> None:
        """Leaves."""
        ...


class Upstream(Protocol):
    """Forwards one request. Raises UpstreamError."""

    async def send(self, request: Request) -> Reply:
        """The answer's head has arrived; its body is an iterator to be read to its end or closed."""
        ...


class TokenKeys(Protocol):
    """Where the keys of tokens come from, as operators see it."""

    @property
    def ready(self) -> bool:
        """Whether there was ever a key."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Fetches of the keys, by result."""
        ...

    def health(self) -> Mapping[str, Any]:
        """For people."""
        ...
