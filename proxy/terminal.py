"""Whether the terminal that a process was started on is still there: closing it sends SIGHUP as well."""

from __future__ import annotations

import os
import signal


class Terminal:
    """The controlling terminal as it was at the start; under nohup nobody cares."""

    def __init__(self) -> None:
        self._had = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _there()

    @property
    def gone(self) -> bool:
        """Whether a SIGHUP means that it was closed, and not that somebody asks for a reload."""
        return self._had and not _there()


def _there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
