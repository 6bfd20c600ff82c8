"""The mode, switched while the proxy runs: here, in the other workers, and in those started after them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from proxy.core.rolloutsettings import Mode
from proxy.rollout import Rollout


class Note:
    """Keeps a mode that an operator chose, over a reload, and in a file also for other and later workers."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._text = ""

    def read(self) -> str:
        """What was written last; empty where nothing was."""
        with suppress(OSError, ValueError):
            return self._text if self._path is None else self._path.read_text(encoding="ascii")
        return ""

    def write(self, text: str) -> None:
        """Put in place whole: a worker that starts meanwhile must not read half a word."""
        self._text = text
        if self._path is not None:
            part = self._path.with_suffix(".part")
            part.write_text(text, encoding="ascii")
            part.replace(self._path)


class Modes:
    """Switches this worker's mode. A choice holds until the settings ask for another mode than they did."""

    def __init__(self, rollout: Rollout, note: Note | None = None) -> None:
        self._rollout = rollout
        self._note = note or Note()
        before, _, chosen = self._note.read().partition(" ")
        if before == rollout.configured.value and chosen in list(Mode):
            rollout.switch(Mode(chosen))

    @property
    def told(self) -> dict[str, str]:
        """`{"mode", "configured"}`."""
        return {"mode": self._rollout.mode.value, "configured": self._rollout.configured.value}

    def switch(self, asked: object) -> Mode:
        """Raises ValueError for what is not `{"mode": "serve" | "shadow" | "off"}`."""
        wanted = asked.get("mode") if isinstance(asked, dict) and len(asked) == 1 else None
        if wanted not in list(Mode):
            raise ValueError(f'give {{"mode": …}} with one of {", ".join(Mode)}')
        mode = Mode(wanted)
        self._rollout.switch(mode)
        self._note.write(f"{self._rollout.configured.value} {mode.value}")
        return mode
