"""Evictions that could not be delivered yet."""

from __future__ import annotations

from proxy.core.model import Batch

Alias = tuple[str, str]


class Pending:
    """A bounded set of users and aliases to evict; beyond `limit` of them it is everything."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._users: dict[str, None] = {}
        self._aliases: dict[Alias, None] = {}
        self._everything = False

    def __len__(self) -> int:
        return len(self._users) + len(self._aliases) + self._everything

    def add(self, batch: Batch) -> None:
        """Keeps an eviction."""
        if not self._everything:
            self._users.update(dict.fromkeys(batch.users))
            self._aliases.update(dict.fromkeys(batch.aliases))
            self._everything = batch.everything or len(self) > self._limit
        if self._everything:
            self._users.clear()
            self._aliases.clear()

    def take(self, size: int) -> Batch:
        """Takes out what is to be delivered next, `size` users and aliases at most.

        It is out before it is delivered, so that the same user can be added meanwhile: that write came
        later and needs a floor of its own. Add the batch again where the delivery fails.
        """
        if self._everything:
            self._everything = False
            return Batch(everything=True)
        users = tuple(self._users)[:size]
        aliases = tuple(self._aliases)[: size - len(users)]
        for user_id in users:
            del self._users[user_id]
        for alias in aliases:
            del self._aliases[alias]
        return Batch(users, aliases)

    def __repr__(self) -> str:
        return f"Pending({len(self)}, everything={self._everything})"
