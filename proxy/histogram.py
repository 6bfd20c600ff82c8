"""How long things take: counts by bounds that suit a hit in memory as well as a slow service."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

# Seconds; the upper end of each bucket. A last one without an end follows.
BOUNDS: Final = (
    *(0.000005, 0.00001, 0.00002, 0.00005),
    *(0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
ENDLESS: Final = "+Inf"
_NAMES: Final = (*(repr(bound) for bound in BOUNDS), ENDLESS)


class Histogram:
    """Observed durations in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Counts one, or several that took the same."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times

    def stats(self) -> dict[str, Any]:
        """`{"buckets": {end: count}, "seconds"}` with empty buckets left out: these can be added up."""
        buckets = {name: n for name, n in zip(_NAMES, self.counts, strict=True) if n}
        return {"buckets": buckets, "seconds": self.total}


def count(stats: Mapping[str, Any]) -> int:
    """How many were observed."""
    return sum(stats["buckets"].values())


def cumulative(stats: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The buckets as Prometheus counts them: each holds all that took at most its end."""
    buckets, running, found = stats["buckets"], 0, []
    for name in _NAMES:
        running += buckets.get(name, 0)
        found.append((name, running))
    return found


def quantile(stats: Mapping[str, Any], share: float) -> float | None:
    """The seconds that this share took at most, drawn straight within a bucket; None where there are none."""
    wanted = share * count(stats)
    if not wanted:
        return None
    below, start = 0, 0.0
    for name, running in cumulative(stats):
        if running >= wanted:
            if name == ENDLESS:
                return BOUNDS[-1]
            end = float(name)
            return start + (end - start) * (wanted - below) / (running - below)
        below, start = running, start if name == ENDLESS else float(name)
    return BOUNDS[-1]


def summary(stats: Mapping[str, Any]) -> dict[str, Any]:
    """`{"count", "mean_ms", "p50_ms", "p99_ms"}`; None where nothing was observed."""
    number = count(stats)

    def milliseconds(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds * 1000, 3)

    return {
        "count": number,
        "mean_ms": milliseconds(stats["seconds"] / number if number else None),
        "p50_ms": milliseconds(quantile(stats, 0.5)),
        "p99_ms": milliseconds(quantile(stats, 0.99)),
    }
