"""Whole answers of stored copies, of which most have the same lines as others before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from proxy.core.headers import Headers
from proxy.core.model import Entry, Outcome, Request, XCache
from proxy.core.packed import Line, Packed, spelled
from proxy.core.replies import finished, from_entry
from proxy.readytext import BETWEEN, HOLE, parts_of

# Kinds of heads that are remembered; when there are more, all are forgotten.
MOST: Final = 1024
# Lines whose values differ from copy to copy where the others are the same, as they are spelled mostly. One
# that is spelled otherwise only makes a kind of its own.
_MOVING: Final = frozenset(
    one
    for name in (b"Date", b"ETag", b"Etag", b"Last-Modified", b"Expires")
    for line in (name, name.lower())
    for one in (line, spelled(line))
)
_PLAIN: Final = Request("GET", "/", Headers(()))

_Kind = tuple[tuple[Line, ...], int]


class Heads:
    """Makes answers; `date` gives the text of this second's Date, for copies without one."""

    def __init__(self, date: Callable[[], bytes]) -> None:
        self._date = date
        # Around the values that move: before the Age, and behind the ttl.
        self._kinds: dict[_Kind, tuple[list[bytes], list[bytes]] | None] = {}

    def answer(self, copy: Entry | Packed, now: float) -> bytes | None:
        """A fresh copy as a hit at `now`; None where its head is none that hits have here."""
        lines: tuple[Line, ...] = copy.headers
        body = copy.body
        moving: list[bytes] = []
        masked: list[Line] | None = None
        for at, line in enumerate(lines):
            if isinstance(line, tuple) and line[0] in _MOVING:
                if masked is None:
                    masked = list(lines)
                masked[at] = (line[0], HOLE)
                moving.append(line[1])
        kind = (lines if masked is None else tuple(masked), len(body))
        try:
            pieces = self._kinds[kind]
        except KeyError:
            pieces = self._made(kind, copy, len(moving))
        if pieces is None:
            return None
        before, after = pieces
        start = before[0]
        for number, value in enumerate(moving, 1):
            start += value + before[number]
        age, ttl = copy.age + int(now - copy.stored), int(copy.expires - now)
        if len(after) == 1:
            return b"%b%d%b%d%b%b" % (start, age, BETWEEN, ttl, after[0], body)
        return b"%b%d%b%d%b%b%b%b" % (
            start,
            age,
            BETWEEN,
            ttl,
            after[0],
            self._date(),
            after[1],
            body,
        )

    def _made(self, kind: _Kind, copy: Entry | Packed, holes: int) -> tuple[list[bytes], list[bytes]] | None:
        made = replace(copy, headers=kind[0], stored=0.0, expires=1.0, dead=1.0, age=0)
        entry = made if isinstance(made, Entry) else made.entry()
        pieces = None
        if entry is not None:
            hit = Outcome(x_cache=XCache.HIT, ttl=1)
            parts = parts_of(finished(from_entry(_PLAIN, entry, 0.0), hit))
            if parts is not None:
                before = parts[0].split(HOLE)
                pieces = (before, parts[1]) if len(before) == holes + 1 else None
        if len(self._kinds) >= MOST:
            self._kinds.clear()
        self._kinds[kind] = pieces
        return pieces
