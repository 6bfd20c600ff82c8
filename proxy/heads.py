"""Whole answers of stored copies, of which most have the same lines as others before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Kind:
    """What many answers say alike, as a text with places for the values of their own.

    `starts` is what stands around the values that move, up to the Age; `moving` says in which lines of a copy
    these are. `after` comes behind the ttl, in two pieces around a Date that the copy has not.
    """

    __slots__ = ("_dated", "_moving", "_text")

    def __init__(self, starts: Sequence[bytes], moving: Sequence[int], after: Sequence[bytes]) -> None:
        first, last = (b"%b".join(one.replace(b"%", b"%%") for one in each) for each in (starts, after))
        self._text = b"%b%%d%b%%d%b%%b" % (first, BETWEEN, last)
        self._moving = tuple(moving)
        self._dated = len(after) > 1

    def text(self, copy: Entry | Packed, now: float, date: Callable[[], bytes]) -> bytes:
        """The whole answer at `now`; `date` gives the text of this second's Date."""
        age, ttl, lines = copy.age + int(now - copy.stored), int(copy.expires - now), copy.headers
        moving = self._moving
        # Most have a Date, and nothing else that moves.
        if len(moving) == 1 and not self._dated:
            return self._text % (lines[moving[0]][1], age, ttl, copy.body)  # type: ignore[index]
        dates = (date(),) if self._dated else ()
        return self._text % (*[lines[at][1] for at in moving], age, ttl, *dates, copy.body)  # type: ignore[index]


class Heads:
    """The kinds of heads that came before, by lines of which some are masked and the length of the body."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[tuple[Line, ...], int], Kind | None] = {}

    def kind(self, copy: Entry | Packed) -> Kind | None:
        """That of a fresh copy; None where its head is none that hits have here."""
        lines: tuple[Line, ...] = copy.headers
        masked: list[Line] | None = None
        for at, line in enumerate(lines):
            if isinstance(line, tuple) and line[0] in _MOVING:
                if masked is None:
                    masked = list(lines)
                masked[at] = (line[0], HOLE)
        key = (lines if masked is None else tuple(masked), len(copy.body))
        try:
            return self._kinds[key]
        except KeyError:
            moving = [] if masked is None else [at for at, line in enumerate(lines) if masked[at] is not line]
            kind = _made(replace(copy, headers=key[0]), moving)
        if len(self._kinds) >= MOST:
            self._kinds.clear()
        self._kinds[key] = kind
        return kind


def _made(copy: Entry | Packed, moving: list[int]) -> Kind | None:
    made = replace(copy, stored=0.0, expires=1.0, dead=1.0, age=0)
    entry = made if isinstance(made, Entry) else made.entry()
    if entry is None:
        return None
    parts = parts_of(finished(from_entry(_PLAIN, entry, 0.0), Outcome(x_cache=XCache.HIT, ttl=1)))
    if parts is None:
        return None
    starts = parts[0].split(HOLE)
    return Kind(starts, moving, parts[1]) if len(starts) == len(moving) + 1 else None
