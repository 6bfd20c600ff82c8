"""The counters as a person reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy import clitext as out
from proxy.histogram import summary

# What is shown as a table, as milliseconds, or not at all: the other forms of it are there.
_TABLES = ("views", "routes", "recent_evictions", "connections", "agreement", "checks", "gauges")
# Tells one start of the process from the next, for the other workers.
_INTERNAL = ("born",)
_TIMED = {"fence_wait": "fence", "redis_latency": "redis", "upstream_latency": "upstream"}


def lines(told: Mapping[str, Any], now: float | None = None) -> Iterator[str]:
    """The page; `now` is wall-clock seconds. Groups that are empty are left out."""
    plain = {
        name.replace("_", " "): value
        for name, value in told.items()
        if not isinstance(value, dict | list) and name not in _INTERNAL
    }
    yield from out.fields(plain)
    views = [
        (name, str(view.get("hits", 0)), str(view.get("misses", 0)))
        for name, view in told.get("views", {}).items()
    ]
    yield from _table(("VIEW", "HITS", "MISSES"), views)
    yield from _table(("LATENCY", "COUNT", "MEAN", "MEDIAN", "99 %"), list(_durations(told)))
    yield from _table(
        ("ROUTE", "OUTCOMES"), [(route, _outcomes(each)) for route, each in _dict(told, "routes")]
    )
    for kind, title in (("truth", "CHECKED HITS"), ("shadow", "SHADOW")):
        rows = [
            (route, f"{one['percent']:g} %", str(one["compared"]))
            for route, one in told.get("agreement", {}).get(kind, {}).items()
            if one["percent"] is not None
        ]
        yield from _table((title, "AGREE", "COMPARED"), rows)
    yield from _table(
        ("EVICTED", "BY", "WHO", "ENTRIES"),
        [
            _eviction(one, time.time() if now is None else now)
            for one in told.get("recent_evictions", [])[:10]
        ],
    )
    yield from _table(
        ("CONNECTIONS", "NOW"), [(kind, out.text(each)) for kind, each in _dict(told, "connections") if each]
    )
    for name, group in told.items():
        if isinstance(group, dict) and group and name not in (*_TABLES, *_TIMED, "latency"):
            yield ""
            yield name.replace("_", " ").upper()
            yield from (f"  {line}" for line in out.fields(group))


def _dict(told: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    return list(told.get(name, {}).items())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield ""
        yield from out.table([head, *rows])


def _durations(told: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    each = dict(told.get("latency", {})) | {
        shown: told[name] for name, shown in _TIMED.items() if told.get(name)
    }
    for name, one in each.items():
        found = summary(one)
        if found["count"]:
            times = (f"{found[part]:.3g} ms" for part in ("mean_ms", "p50_ms", "p99_ms"))
            yield (name, str(found["count"]), *times)


def _outcomes(outcomes: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{outcome}{f' {reason}' if reason else ''} {count}"
        for outcome, reasons in outcomes.items()
        for reason, count in reasons.items()
    )


def _eviction(one: Mapping[str, Any], now: float) -> tuple[str, ...]:
    who = "everybody" if one["everything"] else ", ".join(one["ids"]) or "-"
    ago = max(0.0, now - one["time"])
    shown = (
        f"{ago:.0f} s ago"
        if ago < 120
        else f"{ago / 60:.0f} min ago"
        if ago < 7200
        else f"{ago / 3600:.0f} h ago"
    )
    return (shown, one["cause"], who, str(one["entries"]))
