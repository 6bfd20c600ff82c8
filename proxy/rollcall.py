"""Who may have a lease on the feed, by a replica's own account: for when the table of members is lost."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.announcement import Announcement


class RollCall:
    """What one connection of the feed has told: whoever takes a lease and is in no table says so there."""

    def __init__(self) -> None:
        self._listed: frozenset[str] | None = None
        self._joined: dict[str, float] = {}

    async def at(self, announcement: Announcement, own: str, seconds: float) -> frozenset[str] | None:
        """All who may have had a lease when that announcement was made, whatever has become of the table.

        None where that is not known: no complete table was seen over this connection, or the announcement
        did not come down it within `seconds`. Once it has, so has the word of all who joined before.
        """
        if self._listed is None or await announcement.acked_by((own,), seconds):
            return None
        return None if self._listed is None else self._listed.union(self._joined)

    def joined(self, replica: str, now: float) -> None:
        """That one said that it takes a lease."""
        self._joined[replica] = now

    def listed(self, replicas: Iterable[str], sent: float) -> None:
        """A complete table, asked for at `sent`: who joined before is in it, or has left."""
        self._listed = frozenset(replicas)
        self._joined = {one: at for one, at in self._joined.items() if at >= sent}

    def lost(self) -> None:
        """The connection is lost, and what it would have told."""
        self._listed = None
        self._joined.clear()
