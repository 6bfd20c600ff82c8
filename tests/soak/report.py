"""What a run found, for people and for programs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.soak.checker import DIRECT, Verdict, Window
from tests.soak.faults import KINDS, Fault
from tests.soak.record import Record

# Only this fault may break a connection of a client.
BREAKS = "kill replica"


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one run. `failed`: what no fault explains, by what it was."""

    seconds: float
    reads: int
    given_up: int
    hit_rate_percent: float
    writes: Mapping[str, int]
    unanswered: Mapping[str, int]
    faults: Mapping[str, int]
    slowest_recovery: float
    violations: int
    excused: Mapping[str, int]
    seconds_without_redis: float
    failed: Mapping[str, int]
    upstream_calls: int
    write_ms: Mapping[str, float]
    direct_write_ms: Mapping[str, float]
    added_ms: Mapping[str, float]

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return not (self.violations or self.failed)

    def __str__(self) -> str:
        total = sum(self.writes.values())
        kinds = ", ".join(f"{count:,} {method}" for method, count in sorted(self.writes.items()))
        each = f"{self.reads / self.seconds:,.0f} a second"
        added = ", ".join(f"{name} {value:.1f}" for name, value in self.added_ms.items())
        taken = f"{self.write_ms['p50']:.1f} through a proxy, {self.direct_write_ms['p50']:.1f} without"
        rows = {
            "seconds": f"{self.seconds:.1f}",
            "reads": f"{self.reads:,} ({each}, {self.hit_rate_percent} % hits)",
            "given up": f"{self.given_up:,} reads",
            "writes": f"{total:,} ({total / self.seconds:,.0f} a second): {kinds}",
            "unanswered": _listed(self.unanswered),
            "faults": f"{_listed(self.faults)}; slowest recovery {self.slowest_recovery:.1f} s",
            "violations": f"{self.violations:,}",
            "excused": _listed(self.excused),
            "failed": _listed(self.failed),
            "added to a write": f"{added} ms (p50: {taken})",
        }
        return "\n".join(f"{name:<17} {text}" for name, text in rows.items())


def report(
    record: Record,
    verdict: Verdict,
    faults: Sequence[Fault],
    windows: Sequence[Window],
    upstream: Mapping[str, int],
    spent: float,
) -> Report:
    """`upstream` has the service's own counts: `calls`, and `drops` of answers."""
    slow = [Window(*times, "the service was slow", DIRECT) for times in record.slow]
    harmed = [*windows, *slow, *(Window(one.begun, one.recovered, one.kind, DIRECT) for one in faults)]
    through, direct = (
        _figures([spent for begun, spent in some if not _any(harmed, begun, begun + spent)])
        for some in (record.latencies, record.direct)
    )
    return Report(
        seconds=round(spent, 1),
        reads=len(record.reads),
        given_up=record.given_up,
        hit_rate_percent=round(100 * record.hits / max(1, record.answers), 1),
        writes=dict(record.writes),
        unanswered=dict(record.unanswered),
        faults={kind: sum(one.kind == kind for one in faults) for kind in KINDS},
        slowest_recovery=round(max((one.recovered - one.ended for one in faults), default=0.0), 1),
        violations=len(verdict.violations),
        excused=dict(verdict.excused),
        seconds_without_redis=round(_covered(windows), 1),
        failed=dict(failures(record, faults, upstream["drops"])),
        upstream_calls=upstream["calls"],
        write_ms=through,
        direct_write_ms=direct,
        added_ms={name: round(through[name] - direct[name], 1) for name in through},
    )


def failures(record: Record, faults: Iterable[Fault], drops: int) -> Counter[str]:
    """What no fault explains. A connection may break where a replica is killed, a writer get no answer where
    the service dropped it; nothing else may go wrong.
    """
    killed = [Window(one.begun, one.recovered, one.kind, DIRECT) for one in faults if one.kind == BREAKS]
    broken = (what for moment, what in record.lost if not _any(killed, moment, moment))
    ill = (f"{one.kind}: not all were well again" for one in faults if not one.well)
    failed = record.refused + Counter(broken) + Counter(ill)
    failed["502 that was not dropped"] = max(0, record.unanswered["answer dropped"] - drops)
    return +failed


def _any(windows: Iterable[Window], begun: float, ended: float) -> bool:
    return any(window.holds(begun, ended) for window in windows)


def _covered(windows: Iterable[Window]) -> float:
    """Seconds in at least one of them."""
    total, until = 0.0, 0.0
    for window in sorted(windows, key=lambda one: one.begun):
        total += max(0.0, window.ended - max(window.begun, until))
        until = max(until, window.ended)
    return total


def _figures(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {"p50": 0.0, "p99": 0.0}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "none"
