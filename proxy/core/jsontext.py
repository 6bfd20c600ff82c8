"""Cutting members out of a JSON text without touching any other byte of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

_LEXEME = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],:"]+')

Path = tuple["Path", str] | None
"""Where a member is: its parent's path and its name (`[]` for "in an array"); None is the document."""


@dataclass(slots=True)
class _Object:
    """An object or (`names` False) array that is being read; positions are offsets in the text."""

    path: Path
    names: bool
    kept_to: int
    name: str | None = None
    start: int = 0
    cut_from: int | None = None
    cut_to: int = 0


def without_members(text: bytes, unwanted: Callable[[Path, str, object], bool]) -> bytes:
    """`text` without the members that are `unwanted(path, name, value)`; all else stays byte for byte.

    `value` is the scalar, or an empty list in place of any object or array. `text` must be valid JSON (one
    that orjson has read). Nothing here recurses, so depth costs no stack.
    """
    cuts: list[tuple[int, int]] = []
    open_: list[_Object] = []
    skipped = 0  # depth inside a container that is being cut out
    for lexeme in _LEXEME.finditer(text):
        token, start, end = lexeme[0], lexeme.start(), lexeme.end()
        here = open_[-1] if open_ else None
        if skipped:
            skipped += (token in b"{[") - (token in b"}]")
            if not skipped and here is not None:
                _cut(here, end)
        elif token == b",":
            pass
        elif token in b"}]":
            _closed(cuts, open_.pop())
            if open_:
                _kept(open_[-1], end)
        elif here is not None and here.names and here.name is None:
            here.name, here.start = orjson.loads(token), start
        else:
            container = token in b"{["
            if here is not None and here.name is not None:
                value = [] if container else orjson.loads(token)
                if unwanted(here.path, here.name, value):
                    if container:
                        skipped = 1
                    else:
                        _cut(here, end)
                    continue
                _resumed(cuts, here)
            if container:
                path = None if here is None else (here.path, "[]" if here.name is None else here.name)
                open_.append(_Object(path, token == b"{", end))
            elif here is not None:
                _kept(here, end)
    return _joined(text, cuts)


def _cut(here: _Object, end: int) -> None:
    if here.cut_from is None:
        here.cut_from = here.start
    here.cut_to, here.name = end, None


def _kept(here: _Object, end: int) -> None:
    here.kept_to, here.name = end, None


def _resumed(cuts: list[tuple[int, int]], here: _Object) -> None:
    """A wanted member begins: what was cut before it goes with the comma that followed."""
    if here.cut_from is not None:
        cuts.append((here.cut_from, here.start))
        here.cut_from = None


def _closed(cuts: list[tuple[int, int]], here: _Object) -> None:
    """No wanted member came after the cut ones: they go with the comma before them."""
    if here.cut_from is not None:
        cuts.append((here.kept_to, here.cut_to))


def _joined(text: bytes, cuts: list[tuple[int, int]]) -> bytes:
    pieces = []
    at = 0
    for start, end in cuts:
        pieces.append(text[at:start])
        at = end
    return b"".join((*pieces, text[at:]))
