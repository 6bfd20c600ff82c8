"""What the commands print: lines for people, aligned, or JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def say(*lines: str) -> None:
    """Each line on standard output."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def complain(*lines: str) -> None:
    """Each line on standard error."""
    sys.stderr.write("".join(f"user-cache-proxy: {line}\n" for line in lines))


def say_json(value: Any) -> None:
    """The value as indented JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say_json_line(value: Any) -> None:
    """The value as JSON on one line, for what goes on."""
    say(json.dumps(value, ensure_ascii=False))


def forgive_encodings() -> None:
    """Lets a terminal that can't show a character show its number instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def table(rows: Iterable[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """The rows as lines with columns of one width each; the last column is as long as it is."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def fields(values: Mapping[str, Any]) -> list[str]:
    """`field  value` lines; what is None or empty is left out."""
    shown = [(name, text(value)) for name, value in values.items()]
    return table([pair for pair in shown if pair[1]]) if any(value for _, value in shown) else []


def text(value: Any) -> str:
    """A JSON value as a person would write it; None and empty lists are empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
