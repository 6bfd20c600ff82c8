"""The mode, switched while the proxy runs: here, in the other workers, and in those started after them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from proxy.core.rolloutsettings import Mode
from proxy.rollout import Rollout


class Modes:
    """Switches this worker's mode; `note` is the file that tells it to a worker that is started again."""

    def __init__(self, rollout: Rollout, note: Path | None = None) -> None:
        self._rollout = rollout
        self._note = note
        if note is not None:
            with suppress(OSError, ValueError):
                rollout.switch(Mode(note.read_text(encoding="ascii")))

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
        if self._note is not None:
            # Put in place whole: a worker that starts meanwhile must not read half a word.
            part = self._note.with_suffix(".part")
            part.write_text(mode.value, encoding="ascii")
            part.replace(self._note)
        return mode
