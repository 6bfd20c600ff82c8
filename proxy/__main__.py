"""``python -m proxy``, and what the console script calls."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Runs the command line; the exit code."""
    # While modules are read there is nothing to tell of a Ctrl-C: it just ends the process, as in any shell.
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waits:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from proxy import cli

    if waits:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
