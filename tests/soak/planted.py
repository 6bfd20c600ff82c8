"""`python -m tests.soak.planted BUG serve …`: the proxy with one of the simulator's mistakes put in.

A run that judges such a replica and finds nothing would have found nothing in a real one either.
"""

from __future__ import annotations

import gc
import hashlib
import sys

from proxy.cli import main
from proxy.store import scripts
from tests.simulator.bugs import BUGS as SIMULATED
from tests.simulator.bugs import Bug

# Those that this load and these faults can show within a minute, by what the command line calls them.
BUGS = {
    "fence": "a write has no fence",
    "floor": "a fill's ticket is not checked against the floor",
    "lease": "the clock is not read on the hit",
    "acknowledgement": "an announcement waits for nobody",
    "outage": "evictions are forgotten in an outage",
}


def plant(bug: Bug) -> None:
    """Makes the mistake in this process, for good."""
    bug.patching().__enter__()
    for script in gc.get_objects():
        if isinstance(script, scripts.Script):
            script.text = bug.mutate(script.text)
            script.digest = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
            scripts.TEXTS[script.digest] = script.text


if __name__ == "__main__":
    plant(next(bug for bug in SIMULATED if bug.name == BUGS[sys.argv[1]]))
    sys.argv[1:2] = []
    sys.exit(main())
