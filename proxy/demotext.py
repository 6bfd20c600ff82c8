"""How the demo looks: columns, marks, and colours where there is a terminal that wants them."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

_COLOURS = {
    "bold": "1",
    "dim": "2",
    "HIT": "32",
    "MISS": "33",
    "BYPASS": "36",
    "good": "32",
    "bad": "31;1",
}
WIDTHS = (47, 7, 23, 6, 8)
HEAD = ("request", "X-Cache", "why", "status", "    time", "service asked")


class Screen:
    """Writes lines to `stream`; colours only on a terminal, unless NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        dumb = os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR"))
        self._coloured = stream.isatty() and not dumb
        self._fancy = _can_show(stream, "✓✗…")

    def line(self, text: str = "") -> None:
        """One line, at once."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def paint(self, text: str, style: str) -> str:
        """The text in a colour, if there are colours."""
        code = _COLOURS.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and code else text

    def mark(self, ok: bool) -> str:
        """Right or wrong."""
        sign = ("✓" if ok else "✗") if self._fancy else ("ok" if ok else "NO")
        return self.paint(sign, "good" if ok else "bad")

    def heading(self, text: str) -> None:
        """A line of its own above a group of rows."""
        self.line()
        self.line(self.paint(text, "bold"))

    def head(self) -> None:
        """The names of the columns."""
        self.line()
        cells = [name.ljust(width) for name, width in zip(HEAD, (*WIDTHS, 0), strict=True)]
        self.line(self.paint("     " + "  ".join(cells).rstrip(), "dim"))

    def row(self, ok: bool, number: int, cells: tuple[str, str, str, str, str, str]) -> None:
        """One step: its mark, its number, and one cell a column."""
        request, x_cache, why, status, took, asked = cells
        first = self._fit(request, WIDTHS[0]).ljust(WIDTHS[0])
        second = self.paint(x_cache.ljust(WIDTHS[1]), x_cache)
        rest = "  ".join(
            (
                self._fit(why, WIDTHS[2]).ljust(WIDTHS[2]),
                status.ljust(WIDTHS[3]),
                took.rjust(WIDTHS[4]),
                asked,
            )
        )
        self.line(f"{self.mark(ok)} {number:>2} {first}  {second}  {rest}".rstrip())

    def _fit(self, text: str, width: int) -> str:
        if len(text) <= width:
            return text
        return text[: width - 1] + "…" if self._fancy else text[: width - 2] + ".."

    def rule(self) -> None:
        """A line across."""
        columns = min(shutil.get_terminal_size().columns, sum(WIDTHS) + 30)
        self.line(self.paint("-" * columns, "dim"))


def milliseconds(seconds: float) -> str:
    """`0.43 ms`, `11.2 ms`."""
    figure = seconds * 1000
    return f"{figure:.2f} ms" if figure < 10 else f"{figure:.1f} ms"


def _can_show(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
