"""Counters: a consumer of Outcome values. Plain integers, no label holds anything of a person."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from proxy.core.model import Outcome, XCache

log = logging.getLogger("proxy")

HITS = frozenset({XCache.HIT, XCache.STALE, XCache.REVALIDATED})


class Telemetry:
    """What this process has done since it started. Each request is observed once, at its end."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """Requests by kind of route (`lookup`, `batch`, `introspect`, `write`, `pass`)."""
        self.outcomes: Counter[str] = Counter()
        """Requests by `X-Cache`."""
        self.views: dict[str, Counter[str]] = {}
        """Look-ups by view, as `hits` and `misses`."""
        self.tiers: Counter[str] = Counter()
        """Hits by the tier that answered."""
        self.reasons: Counter[str] = Counter()
        """Why requests were not hits."""
        self.skipped: Counter[str] = Counter()
        """Why upstream's answers were not stored."""
        self.upstream: Counter[str] = Counter()
        """Requests to upstream, by status class (`2xx`) or `failed`."""
        self.collapsed = 0
        """Look-ups that waited for another request's answer instead of asking upstream."""
        self.invalidations = 0
        """Evictions: writes that removed users, and those asked for by an operator."""
        self.evicted_entries = 0
        """Stored answers that evictions removed."""
        self.evicted_aliases = 0
        """Aliases that evictions removed."""
        self.epochs = 0
        """Evictions that dropped everything: asked for, or a write whose user could not be found out."""
        self.elsewhere: list[Callable[[], Iterable[tuple[Outcome, int]]]] = []
        """Who counts hits by themselves; asked before the counters are read."""
        self._told: set[tuple[str, str]] = set()

    def observe(self, outcome: Outcome) -> None:
        """Counts one finished request."""
        self.requests[outcome.kind] += 1
        self.outcomes[outcome.x_cache.value] += 1
        hit = outcome.x_cache in HITS
        if outcome.view is not None and (hit or outcome.x_cache is XCache.MISS):
            view = self.views.setdefault(outcome.view, Counter())
            view["hits" if hit else "misses"] += 1
        if hit and outcome.tier is not None:
            self.tiers[outcome.tier.value] += 1
        if outcome.reason is not None:
            self.reasons[outcome.reason.value] += 1
        if outcome.skipped is not None:
            self.skipped[outcome.skipped.value] += 1
        if outcome.upstream_failed:
            self.upstream["failed"] += 1
        if outcome.upstream_status is not None:
            self.upstream[f"{outcome.upstream_status // 100}xx"] += 1
        self.collapsed += outcome.collapsed
        if outcome.evicted is not None:
            self.invalidated(outcome.evicted.entries, outcome.evicted.aliases, everything=outcome.everything)
        for path in outcome.taken:
            self._taken_out(outcome.route, path)

    def gather(self) -> None:
        """Takes over what was counted elsewhere."""
        for source in self.elsewhere:
            for outcome, count in source():
                self.requests[outcome.kind] += count
                self.outcomes[outcome.x_cache.value] += count
                if outcome.view is not None:
                    self.views.setdefault(outcome.view, Counter())["hits"] += count
                if outcome.tier is not None:
                    self.tiers[outcome.tier.value] += count

    def invalidated(self, entries: int, aliases: int, *, everything: bool) -> None:
        """Counts one eviction."""
        self.invalidations += 1
        self.evicted_entries += entries
        self.evicted_aliases += aliases
        self.epochs += everything

    def _taken_out(self, route: str, path: str) -> None:
        # Once per route and field; the set is bounded because field names come from upstream.
        if (route, path) not in self._told and len(self._told) < 1000:
            self._told.add((route, path))
            log.warning("secret-looking field taken out of answers", extra={"route": route, "field": path})

    def stats(self) -> dict[str, Any]:
        """The counters as `/stats` shows them; rates in percent."""
        self.gather()
        hits = sum(view["hits"] for view in self.views.values())
        misses = sum(view["misses"] for view in self.views.values())
        total = hits + misses
        return {
            "hits": hits,
            "misses": misses,
            "invalidations": self.invalidations,
            "hit_rate_percent": round(100 * hits / total, 2) if total else 0.0,
            "total_lookups": total,
            "collapsed": self.collapsed,
            "evicted_entries": self.evicted_entries,
            "evicted_aliases": self.evicted_aliases,
            "epochs_raised": self.epochs,
            "views": {name: dict(view) for name, view in sorted(self.views.items())},
            "tiers": dict(self.tiers),
            "requests": dict(self.requests),
            "x_cache": dict(self.outcomes),
            "reasons": dict(self.reasons.most_common()),
            "not_stored": dict(self.skipped.most_common()),
            "upstream": dict(self.upstream),
        }
