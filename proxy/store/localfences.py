"""Who is being written by this process: while they are, memory neither answers nor stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from proxy.core.model import Batch, Ref
from proxy.store.slot import World


class LocalFences:
    """Counts the writes under way by user and by alias; several writers may be at one user.

    `world` is told of each fence that is raised.
    """

    __slots__ = ("_aliases", "_everybody", "_users", "_world", "standing")

    def __init__(self, world: World | None = None) -> None:
        self._world = world or World()
        self._users: Counter[str] = Counter()
        self._aliases: Counter[tuple[str, str]] = Counter()
        self._everybody = 0
        self.standing = 0
        """How many fences stand; 0 spares the hot path a look."""

    def add(self, batch: Batch) -> None:
        """Raises a fence around what `batch` names."""
        self._world.generation += 1
        self.standing += 1
        self._users.update(batch.users)
        self._aliases.update(batch.aliases)
        self._everybody += batch.everything

    def widen(self, user_ids: Iterable[str]) -> None:
        """One that stands was found to be around these as well."""
        self._users.update(user_ids)

    def remove(self, batch: Batch) -> None:
        """Takes one such fence down."""
        self.standing -= 1
        self._users -= Counter(batch.users)
        self._aliases -= Counter(batch.aliases)
        self._everybody -= batch.everything

    def hides(self, ref: Ref) -> bool:
        """Whether the key itself is fenced."""
        if self._everybody:
            return True
        return ref.value in self._users if ref.key == "id" else (ref.key, ref.value) in self._aliases

    def hides_user(self, user_id: str | None) -> bool:
        """Whether the user is fenced."""
        return bool(self._everybody) or user_id in self._users

    def __repr__(self) -> str:
        return f"LocalFences({self.standing})"
