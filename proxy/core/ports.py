"""The ports: what the upper layers ask of stores and of upstream. Fakes and real parts answer alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from proxy.core.model import Entry, Evicted, Looked, Reason, Ref, Reply, Request, Ticket


class Store(Protocol):
    """Keeps answers by user."""

    async def get(self, ref: Ref) -> Looked:
        """The stored answer for `ref`, proven to be that user's (design §7.2); stale ones until `dead`."""
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

    async def health(self) -> Mapping[str, Any]:
        """`{"backend", "status": "ok"|"degraded", "latency_ms", …}`; never raises."""
        ...

    async def close(self) -> None:
        """Gives back connections; idempotent."""
        ...


class Upstream(Protocol):
    """Forwards one request. Raises UpstreamError."""

    async def send(self, request: Request) -> Reply:
        """The answer's head has arrived; its body is an iterator to be read to its end or closed."""
        ...
