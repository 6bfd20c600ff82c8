"""HTTP field lines as they came: order, case and duplicates kept (RFC 9110 §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

RawHeaders = tuple[tuple[bytes, bytes], ...]

# RFC 9110 §7.6.1, and the field names that are hop-by-hop in practice.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)


_NONE: Final = ()


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    # The same few dozen names are asked for with each request.
    return name.lower().encode("latin-1")


class Headers:
    """An immutable list of field lines; names compare without case, values are latin-1 text.

    `raw` is a tuple of (name, value) byte pairs exactly as received.
    """

    __slots__ = ("_index", "raw")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.raw: RawHeaders = tuple(raw)
        self._index: dict[bytes, list[bytes]] | None = None

    def _lines(self, name: str) -> Sequence[bytes]:
        index = self._index
        if index is None:
            index = self._index = {}
            for key, value in self.raw:
                lower = key.lower()
                if lower in index:
                    index[lower].append(value)
                else:
                    index[lower] = [value]
        return index.get(_key(name), _NONE)

    def get(self, name: str) -> str | None:
        """The first line of that name, or None."""
        lines = self._lines(name)
        return lines[0].decode("latin-1") if lines else None

    def get_all(self, name: str) -> list[str]:
        """Every line of that name, in order."""
        lines = self._lines(name)
        return [line.decode("latin-1") for line in lines] if lines else []

    def joined(self, name: str) -> str | None:
        """All lines of that name as one comma separated value (RFC 9110 §5.3), or None."""
        lines = self._lines(name)
        return b", ".join(lines).decode("latin-1") if lines else None

    def without(self, names: Iterable[bytes]) -> Headers:
        """A copy without the lines of those (lower-case) names."""
        drop = frozenset(names)
        return Headers(pair for pair in self.raw if pair[0].lower() not in drop)

    def __contains__(self, name: str) -> bool:
        return bool(self._lines(name))

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        # Names only: values may be credentials.
        return f"Headers({', '.join(name.decode('latin-1') for name, _ in self.raw)})"


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The field lines that a proxy passes on: hop-by-hop and Connection-nominated ones are gone."""
    drop: set[bytes] | frozenset[bytes] = HOP_BY_HOP
    nominated = headers.joined("connection")
    if nominated:
        drop = HOP_BY_HOP | {token.strip().lower().encode("latin-1") for token in nominated.split(",")}
    return [pair for pair in headers.raw if pair[0].lower() not in drop]
