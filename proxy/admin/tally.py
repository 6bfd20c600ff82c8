"""What workers had counted that are gone. Without it a sum falls when one dies, and a scraper takes all that
is left for new: counters may only grow, or begin again together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

# In /stats, and no count: what is so now, and what is worked out from the counts.
_NOT_COUNTED: Final = frozenset(
    {
        *("gauges", "connections", "store", "recent_evictions", "agreement", "mode", "replicas", "workers"),
        *("uptime_seconds", "token_keys_age_seconds", "hit_rate_percent", "born"),
    }
)
_COUNTED_GAUGES: Final = ("feed_lapses", "feed_announced", "feed_waited_out")
_COUNTED_CONNECTIONS: Final = ("opened", "given_up")


class Tally:
    """The last counts of each worker, by name, also in a file: for when this one is the one that dies."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._gone: dict[str, Any] = {}
        self._last: dict[str, dict[str, Any]] = {}
        if file is not None:
            with suppress(OSError, ValueError, KeyError, TypeError):
                told = orjson.loads(file.read_bytes())
                self._gone, self._last = told["gone"], told["last"]

    def lost(self, workers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
        """What is to be added to the counts of those that answered; None stands for one that did not."""
        silent: dict[str, Any] = {}
        for name, stats in workers.items():
            before = self._last.get(name)
            if stats is None:
                silent = added(silent, before["counts"]) if before is not None else silent
                continue
            if before is not None and before["born"] != stats["born"]:
                self._gone = added(self._gone, before["counts"])
            self._last[name] = {"born": stats["born"], "counts": counts(stats)}
        if self._file is not None:
            # In place at once: who reads it must not find half of it.
            part = self._file.with_suffix(".part")
            with suppress(OSError):
                part.write_bytes(orjson.dumps({"gone": self._gone, "last": self._last}))
                part.replace(self._file)
        found: dict[str, Any] = added(self._gone, silent)
        return found


def counts(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What of a worker's /stats only grows."""
    found = {name: value for name, value in stats.items() if name not in _NOT_COUNTED and value is not None}
    gauges, connections = stats.get("gauges", {}), stats.get("connections", {})
    found["gauges"] = {name: gauges[name] for name in _COUNTED_GAUGES if name in gauges}
    found["connections"] = {
        kind: {name: held[name] for name in _COUNTED_CONNECTIONS if name in held}
        for kind, held in connections.items()
    }
    return found


def added(one: Any, other: Any) -> Any:
    """The sum of two numbers, or of all numbers in two mappings; of two lists of events, the latest."""
    if other is None:
        return one
    if one is None:
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: added(one.get(key), other.get(key)) for key in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        return sorted([*one, *other], key=lambda event: -event["time"])[: max(len(one), len(other))]
    return one + other
