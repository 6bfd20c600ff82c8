"""Which user an alias leads to, in memory, and what answers have in common: small, as there are many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from proxy.core.headers import RawHeaders
from proxy.core.model import Entry
from proxy.store.nobodies import Alias

# Lines of answers, and lists of them, that are held once for all.
_MOST: Final = 4096


class Links:
    """alias → id. The value is the one that the answer holds, so that a link costs no object of its own."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, str]] = {}

    def get(self, alias: Alias) -> str | None:
        """The id, unproven."""
        by_value = self._by_name.get(alias[0])
        return None if by_value is None else by_value.get(alias[1])

    def put(self, alias: Alias, user_id: str) -> None:
        """From now on it leads there."""
        self._by_name.setdefault(alias[0], {})[alias[1]] = user_id

    def drop(self, alias: Alias) -> None:
        """It leads nowhere; it led somewhere."""
        del self._by_name[alias[0]][alias[1]]

    def clear(self) -> None:
        """None leads anywhere."""
        self._by_name.clear()

    def __iter__(self) -> Iterator[tuple[Alias, str]]:
        for name, by_value in self._by_name.items():
            for value, user_id in by_value.items():
                yield (name, value), user_id

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))


class Common:
    """Lines that many answers have, as one object for all of them."""

    __slots__ = ("_lines", "_lists")

    def __init__(self) -> None:
        self._lines: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        self._lists: dict[RawHeaders, RawHeaders] = {}

    def slim(self, entry: Entry) -> Entry:
        """The same answer, in less memory."""
        lines, lists = self._lines, self._lists
        if max(len(lines), len(lists)) > _MOST:
            lines.clear()
            lists.clear()
        headers = lists.get(entry.headers)
        if headers is None:
            headers = tuple([lines.setdefault(line, line) for line in entry.headers])
            lists[headers] = headers
        dead = entry.expires if entry.dead == entry.expires else entry.dead
        return replace(entry, headers=headers, dead=dead)
