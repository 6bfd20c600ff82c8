"""What outlives one version of the settings: whatever was opened for those that are still the same.

A reload with another route must not begin with an empty memory, without token keys, or with cold connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Part:
    """Something open, the settings it was opened for, and how many versions use it."""

    made_from: object
    value: Any
    stack: AsyncExitStack
    users: int = 0


class Kept:
    """Parts by name, shared by the versions of the settings that ask for the same."""

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    @asynccontextmanager
    async def part(
        self, name: str, made_from: object, make: Callable[[], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        """The part of that name: the one there is, if it was made from the same, else what `make` opens.

        It is closed when nobody is within this any more.
        """
        part = self._parts.get(name)
        if part is None or part.made_from != made_from:
            stack = AsyncExitStack()
            part = _Part(made_from, await stack.enter_async_context(make()), stack)
            self._parts[name] = part
        part.users += 1
        try:
            yield part.value
        finally:
            part.users -= 1
            if not part.users:
                if self._parts.get(name) is part:
                    del self._parts[name]
                await part.stack.aclose()
