"""`python -m tests.simulator [seeds] [first]`: a longer search, and the table of mistakes."""

from __future__ import annotations

import logging
import sys

from tests.simulator.bugs import BUGS
from tests.simulator.scenarios import ALL
from tests.simulator.search import from_seeds


def main(seeds: int, first: int) -> None:
    """Prints each world that breaks its promise, with the schedule, and each mistake with its seed."""
    logging.disable(logging.CRITICAL)
    say = sys.stdout.write
    tried = range(first, first + seeds)
    for name, scenario in ALL.items():
        broken, count = from_seeds(scenario, tried)
        say(f"{name}: {count} schedules, {'kept' if broken is None else broken}\n")
    for bug in BUGS:
        with bug.patching():
            broken, count = from_seeds(ALL[bug.scenario], tried, bug.mutate)
        found = "not found" if broken is None else broken.schedule
        say(f"| {bug.name} | {bug.scenario} | {found} | {count} |\n")


if __name__ == "__main__":
    main(*([int(word) for word in sys.argv[1:]] + [300, 0][len(sys.argv) - 1 :]))
