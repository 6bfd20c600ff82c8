"""Users and resources in memory, each least recently used first, and the bytes of both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from proxy.core.resourcekeys import is_resource
from proxy.store.slot import HeldUser, World


class Tables:
    """`users` are bounded by their number, `resources` by their bytes (`full`)."""

    def __init__(self, max_resource_bytes: int, world: World) -> None:
        self._world = world
        self.users: OrderedDict[str, HeldUser] = OrderedDict()
        self.resources: OrderedDict[str, HeldUser] = OrderedDict()
        self.bytes = 0
        self._resource_bytes = 0
        self.most = max_resource_bytes

    def of(self, name: str) -> OrderedDict[str, HeldUser]:
        """Where what has this id is held."""
        return self.resources if is_resource(name) else self.users

    def used(self, name: str) -> None:
        """It was read: what is read least goes first."""
        self.of(name).move_to_end(name)

    def account(self, user: HeldUser, size: int) -> None:
        """`size` more bytes are held of it, or fewer."""
        self.bytes += size
        if is_resource(user.id):
            self._resource_bytes += size

    @property
    def full(self) -> bool:
        """Whether a resource must go."""
        return self._resource_bytes > self.most

    def __iter__(self) -> Iterator[HeldUser]:
        yield from self.users.values()
        yield from self.resources.values()

    def cap(self, until: float) -> None:
        """Ends all that is held at that monotonic second at the latest."""
        for user in self:
            self._world.changed(user)
            user.earliest = 0.0
            for slot in user.slots.values():
                slot.until = until if slot.until is None else min(slot.until, until)

    def clear(self) -> None:
        """Nothing is held any more."""
        for user in self:
            self._world.changed(user)
        self.users.clear()
        self.resources.clear()
        self.bytes = self._resource_bytes = 0
