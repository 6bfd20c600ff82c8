"""`python -m tests.soak.planted BUG serve …`: the proxy with a mistake put in, most of them the simulator's.

A run that judges such a replica and finds nothing would have found nothing in a real one either.
"""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from proxy.cli import main
from proxy.steps import changed, write
from proxy.store import codec, scripts
from tests.simulator.bugs import BUGS as SIMULATED
from tests.simulator.bugs import Bug, Patching


@contextmanager
def _floor_of_a_delete_lost() -> Iterator[None]:
    end = write._end

    async def ended(x: Any, action: Any, change: changed.Changed, *others: Any, **more: Any) -> None:
        await end(x, action, change, *others, **more)
        if x.request.method == "DELETE":
            link = x.services.cache.store.redis.link
            await link.run(*(("HDEL", codec.user_key(user_id), "floor") for user_id in change.ids))

    with patch.object(write, "_end", ended):
        yield


@contextmanager
def _names_not_freed() -> Iterator[None]:
    with patch.object(changed, "aliases_in", lambda *_: ()):
        yield


# Those that this load and these faults can show within a minute, by what the command line calls them.
BUGS: dict[str, str | Patching] = {
    "fence": "a write has no fence",
    "floor": "a fill's ticket is not checked against the floor",
    "lease": "the clock is not read on the hit",
    "acknowledgement": "an announcement waits for nobody",
    "outage": "evictions are forgotten in an outage",
    "mark": "nobody is stored without a mark",
    # A DELETE leaves no floor: what was read before it is stored after it.
    "delete": _floor_of_a_delete_lost,
    # The keys that a create or a rename gives stay "nobody's".
    "create": _names_not_freed,
}


def plant(bug: Bug | Patching) -> None:
    """Makes the mistake in this process, for good."""
    if not isinstance(bug, Bug):
        bug().__enter__()
        return
    bug.patching().__enter__()
    for script in gc.get_objects():
        if isinstance(script, scripts.Script):
            script.text = bug.mutate(script.text)
            script.digest = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
            scripts.TEXTS[script.digest] = script.text


if __name__ == "__main__":
    wanted = BUGS[sys.argv[1]]
    plant(next(bug for bug in SIMULATED if bug.name == wanted) if isinstance(wanted, str) else wanted)
    sys.argv[1:2] = []
    sys.exit(main())
