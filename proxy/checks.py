"""What comparing with upstream has shown, by route: agreement in shadow mode, and how true hits are."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from proxy.core.model import Evicted

log = logging.getLogger("proxy.checks")

# Field names come from upstream, so what is remembered of them is bounded.
_MAX_TOLD = 1000


class Verdict(StrEnum):
    """AGREE and DISAGREE were compared. EXPLAINED: a write was on its way, so that both may be right.
    UNCOMPARED: upstream failed, or its answer could not be looked into. MISS: nothing to compare with."""

    AGREE = "agree"
    DISAGREE = "disagree"
    EXPLAINED = "explained"
    UNCOMPARED = "uncompared"
    MISS = "miss"


class Checks:
    """Verdicts by route. `shadow`: of answers that would have been served; `truth`: of hits that were."""

    def __init__(self, evicted: Callable[[str, Evicted, tuple[str, ...]], None] | None = None) -> None:
        self.evicted = evicted or _nobody_asks
        """Told of the route, what was removed, and a few of the users, after a stale hit."""
        self.shadow: dict[str, Counter[str]] = {}
        self.truth: dict[str, Counter[str]] = {}
        self._told: Counter[tuple[str, str, tuple[str, ...]]] = Counter()

    def shadowed(self, route: str, verdict: Verdict, fields: tuple[str, ...] = ()) -> None:
        """One request in shadow mode."""
        self.shadow.setdefault(route, Counter())[verdict.value] += 1
        if verdict is Verdict.DISAGREE:
            self._tell("shadow: the cache would have answered otherwise", "shadow", route, fields)

    def checked(self, route: str, verdict: Verdict, fields: tuple[str, ...] = ()) -> None:
        """One hit that upstream was asked about."""
        self.truth.setdefault(route, Counter())[verdict.value] += 1
        if verdict is Verdict.DISAGREE:
            self._tell("a stale answer was served", "truth", route, fields)

    def _tell(self, message: str, kind: str, route: str, fields: tuple[str, ...]) -> None:
        """A line for the first, the tenth, the hundredth … of a kind: it must not fill a disk."""
        key = (kind, route, fields)
        if key not in self._told and len(self._told) >= _MAX_TOLD:
            return
        self._told[key] += 1
        if str(self._told[key]).strip("0") == "1":
            extra = {"route": route, "fields": list(fields), "times": self._told[key]}
            log.warning(message, extra=extra)

    def stats(self) -> dict[str, Any]:
        """The counts as `/stats` adds them up over workers; see `rates`."""
        return {
            "shadow": {route: dict(counts) for route, counts in sorted(self.shadow.items())},
            "truth": {route: dict(counts) for route, counts in sorted(self.truth.items())},
        }


def _nobody_asks(route: str, evicted: Evicted, ids: tuple[str, ...]) -> None:
    """Nobody wants to know."""


def rates(counts: Mapping[str, int]) -> dict[str, Any]:
    """Agreement of one route in percent and in nines, None where nothing was compared.

    Without any disagreement the nines are those that so many comparisons can show.
    """
    agree, disagree = counts.get("agree", 0), counts.get("disagree", 0)
    compared = agree + disagree
    if not compared:
        return {"compared": 0, "percent": None, "nines": None}
    nines = math.log10(compared / max(disagree, 1)) if agree else 0.0
    return {
        "compared": compared,
        "percent": math.floor(1e6 * agree / compared) / 1e4,
        "nines": round(nines, 2),
    }
