"""Do two answers say the same? Named are the members that differ, never what is in them. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

MAX_FIELDS: Final = 10
_MAX_DEPTH: Final = 12
# A member's name may be data (a map by e-mail address), and then it is not told.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def difference(
    ours: tuple[int, bytes], theirs: tuple[int, bytes], ignore: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Dotted names of what differs between two (status, body); nothing where they agree.

    `status` and `body` stand for what is no JSON. JSON is compared by value: spaces and the order of members
    do not count, nor do members called as `ignore` lists.
    """
    if ours[0] != theirs[0]:
        return ("status",)
    if ours[1] == theirs[1]:
        return ()
    try:
        mine, other = orjson.loads(ours[1]), orjson.loads(theirs[1])
    except ValueError:
        return ("body",)
    found: dict[str, None] = {}
    _compare(mine, other, "", ignore, found, 0)
    return tuple(found)[:MAX_FIELDS]


def _compare(
    mine: Any, other: Any, path: str, ignore: frozenset[str], found: dict[str, None], depth: int
) -> None:
    if isinstance(mine, dict) and isinstance(other, dict) and depth < _MAX_DEPTH:
        for name in sorted({*mine, *other} - ignore):
            shown = name if _NAME.fullmatch(name) else "?"
            place = f"{path}.{shown}" if path else shown
            if name in mine and name in other:
                _compare(mine[name], other[name], place, ignore, found, depth + 1)
            else:
                found[place] = None
    elif (
        isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other) and depth < _MAX_DEPTH
    ):
        for one, two in zip(mine, other, strict=True):
            _compare(one, two, path, ignore, found, depth + 1)
    elif type(mine) is not type(other) or mine != other:
        # By type as well: to Python, true equals 1.
        found[path or "body"] = None
