"""Goes through schedules: all of a small world up to a number of switches, or those of seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tests.simulator.actors import compares
from tests.simulator.scheduler import Chooser, Scripted, Seeded, Stuck
from tests.simulator.world import Scenario, World

Mutate = Callable[[str], str]


def _same(text: str) -> str:
    return text


@dataclass(frozen=True)
class Broken:
    """A schedule that broke its promise: the seed (or prefix) that leads to it, and its story."""

    schedule: str
    what: str
    story: str

    def __str__(self) -> str:
        return f"{self.what} (schedule {self.schedule})\n{self.story}"


def _world(scenario: Scenario, chooser: Chooser, mutate: Mutate = _same) -> World:
    return World(scenario, chooser, compares, mutate)


def _play(world: World, schedule: str) -> Broken | None:
    try:
        what = world.run()
    except Stuck as stuck:
        what = str(stuck)
    return None if what is None else Broken(schedule, what, world.story())


def from_seed(scenario: Scenario, seed: int, mutate: Mutate = _same) -> Broken | None:
    """One schedule. Every third lets others in between the commands of a pipeline."""
    return _play(_world(replace(scenario, split=seed % 3 == 2), Seeded(seed), mutate), f"seed {seed}")


def from_seeds(scenario: Scenario, seeds: Iterable[int], mutate: Mutate = _same) -> tuple[Broken | None, int]:
    """The first schedule that breaks the promise, and how many were tried."""
    tried = 0
    for seed in seeds:
        tried += 1
        if (broken := from_seed(scenario, seed, mutate)) is not None:
            return broken, tried
    return None, tried


def exhaustively(scenario: Scenario, switches: int, limit: int) -> tuple[Broken | None, int]:
    """All schedules, or the first `limit`, with at most `switches` switches of an actor that could go on."""
    prefixes: list[list[int]] = [[]]
    tried = 0
    while prefixes and tried < limit:
        chooser = Scripted(prefixes.pop())
        tried += 1
        if (broken := _play(_world(scenario, chooser), f"prefix {chooser.prefix}")) is not None:
            return broken, tried
        prefixes += chooser.branches(switches)
    return None, tried
