"""How often a kind of hit was answered before the walk."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.core.model import Outcome


class Tally:
    """Hits of one kind since the counters were last read."""

    __slots__ = ("count", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.count = 0


class Tallies:
    """All kinds: plain integers, read when the counters are."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str | None, str | None], Tally] = {}

    def of(self, outcome: Outcome) -> Tally:
        """The tally of hits that are counted as that outcome."""
        name = (outcome.route, outcome.kind, outcome.view, outcome.tier)
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally(outcome)
        return tally

    def counted(self) -> Iterator[tuple[Outcome, int]]:
        """What was counted since the last call, by kind."""
        for tally in self._tallies.values():
            count, tally.count = tally.count, 0
            if count:
                yield tally.outcome, count
