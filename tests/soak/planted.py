"""`python -m tests.soak.planted BUG serve …`: the proxy with a mistake put in, most of them the simulator's.

A run that judges such a replica and finds nothing would have found nothing in a real one either.
"""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from proxy.cli import main
from proxy.steps import changed, write
from proxy.store import codec, scripts
from proxy.store.tiered import TieredStore
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


def _memory_lasts() -> Any:
    return patch.object(TieredStore, "_went_down", lambda _: None)


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
    # Memory without Redis is as good as with it.
    "memory": _memory_lasts,
}


def plant(bug: Bug | Patching, stack: ExitStack) -> None:
    """Makes the mistake in this process, until the stack is closed; in the scripts for good."""
    if not isinstance(bug, Bug):
        stack.enter_context(bug())
        return
    stack.enter_context(bug.patching())
    for script in gc.get_objects():
        if isinstance(script, scripts.Script):
            script.text = bug.mutate(script.text)
            script.digest = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
            scripts.TEXTS[script.digest] = script.text


def wanted(name: str) -> Bug | Patching:
    """The mistake that the command line calls so."""
    mistake = BUGS[name]
    return next(bug for bug in SIMULATED if bug.name == mistake) if isinstance(mistake, str) else mistake


if __name__ == "__main__":
    with ExitStack() as stack:
        plant(wanted(sys.argv[1]), stack)
        sys.argv[1:2] = []
        sys.exit(main())
