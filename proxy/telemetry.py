"""Counters: a consumer of Outcome values. Plain integers, no label holds anything of a person."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from proxy.checks import Checks
from proxy.core.model import Evicted, Outcome, Reason, Tier, XCache
from proxy.histogram import Histogram

log = logging.getLogger("proxy")

HITS = frozenset({XCache.HIT, XCache.STALE, XCache.REVALIDATED})


# How many of the last evictions are remembered.
RECENT = 30


class Elsewhere(Protocol):
    """Who counts hits by itself, and times some of them."""

    def counted(self) -> Iterable[tuple[Outcome, int]]:
        """What was answered since the last call, by kind."""
        ...

    def times(self) -> Mapping[Tier | None, list[float]]:
        """The seconds that some of those took, by who answered."""
        ...


# Kinds of outcomes that are counted apart before they are summed up.
_KINDS = 4096


class _Alike:
    """Requests of which all that is counted is the same, but for their times."""

    __slots__ = ("count", "latency", "outcome")

    def __init__(self, outcome: Outcome, latency: Histogram) -> None:
        self.outcome = outcome
        self.latency = latency
        self.count = 0


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
        self.elsewhere: list[Elsewhere] = []
        """Asked before the counters are read."""
        self.refused: Counter[str] = Counter()
        """What was no request, or one too many, by problem."""
        self.routes: dict[str, dict[str, Counter[str]]] = {}
        """Requests by route, outcome (as `X-Cache`) and reason; an empty reason is a plain hit."""
        self.latency: dict[str, Histogram] = {}
        """Seconds up to the head of the answer, by outcome; `HOLDBACK` are hits that upstream answered. Of
        the hits before the walk some are timed, and stand for the others."""
        self.upstream_latency = Histogram()
        """Seconds that requests waited for upstream."""
        self.fence_wait = Histogram()
        """Seconds that writes waited until no replica could answer from memory."""
        self.upstream_errors: Counter[str] = Counter()
        """Requests that upstream did not answer, by what went wrong."""
        self.evictions: Counter[str] = Counter()
        """Evictions by cause: `write`, `operator`, `truth` (a stale hit was found)."""
        self.saved = 0
        """Requests that were answered without asking upstream."""
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        """The last evictions; users by id only."""
        self.checks = Checks(self._disproved)
        self._told: set[tuple[str, str]] = set()
        self._alike: dict[tuple[object, ...], _Alike] = {}
        self._last_times: dict[Tier | None, list[float]] = {}
        self._untimed: dict[Tier | None, int] = {}

    def observe(self, outcome: Outcome) -> None:
        """Counts one finished request."""
        # Members of enumerations are hashed in Python; each of them is one object.
        reason, skipped, tier = id(outcome.reason), id(outcome.skipped), id(outcome.tier)
        marks = (outcome.collapsed, outcome.refused, outcome.upstream_failed, outcome.upstream_status)
        key = (outcome.kind, outcome.route, outcome.view, id(outcome.x_cache), reason, skipped, tier, marks)
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = self._first(outcome)
        alike.count += 1
        alike.latency.observe(outcome.seconds)
        if outcome.upstream_seconds is not None:
            self.upstream_latency.observe(outcome.upstream_seconds)
        if outcome.upstream_failed:
            self.upstream_errors[outcome.upstream_error or "unknown"] += 1
        if outcome.fence_seconds is not None:
            self.fence_wait.observe(outcome.fence_seconds)
        if outcome.evicted is not None:
            self.invalidated(
                outcome.evicted.entries,
                outcome.evicted.aliases,
                everything=outcome.everything,
                route=outcome.route,
                ids=outcome.evicted_ids,
            )
        for path in outcome.taken:
            self._taken_out(outcome.route, path)

    def _first(self, outcome: Outcome) -> _Alike:
        if len(self._alike) >= _KINDS:
            self._sum_up()
            self._alike.clear()
        group = "HOLDBACK" if outcome.reason is Reason.HOLDBACK else outcome.x_cache.value
        # Nothing of the one request that happened to be the first is kept.
        plain = replace(outcome, request_id="", trace_id="", evicted=None, evicted_ids=(), taken=())
        return _Alike(plain, self.latency.setdefault(group, Histogram()))

    def _sum_up(self) -> None:
        """Counts by everything that is asked for what was counted by kind of outcome."""
        for alike in self._alike.values():
            outcome, count, alike.count = alike.outcome, alike.count, 0
            if not count:
                continue
            named, hit = outcome.x_cache.value, outcome.x_cache in HITS
            self.requests[outcome.kind] += count
            self.outcomes[named] += count
            if outcome.view is not None and (hit or outcome.x_cache is XCache.MISS):
                self.views.setdefault(outcome.view, Counter())["hits" if hit else "misses"] += count
            if hit and outcome.tier is not None:
                self.tiers[outcome.tier.value] += count
            reason = "" if outcome.reason is None else outcome.reason.value
            if reason:
                self.reasons[reason] += count
            if outcome.skipped is not None:
                self.skipped[outcome.skipped.value] += count
            if outcome.upstream_failed:
                self.upstream["failed"] += count
            if outcome.upstream_status is not None:
                self.upstream[f"{outcome.upstream_status // 100}xx"] += count
            self.collapsed += outcome.collapsed * count
            self.saved += ((hit and not outcome.collapsed) or outcome.refused) * count
            self.routes.setdefault(outcome.route, {}).setdefault(named, Counter())[reason] += count

    def gather(self) -> None:
        """Takes over what was counted by kind, and elsewhere."""
        self._sum_up()
        for source in self.elsewhere:
            totals: Counter[Tier | None] = Counter()
            for outcome, count in source.counted():
                totals[outcome.tier or Tier.MEMORY] += count
                self.requests[outcome.kind] += count
                self.outcomes[outcome.x_cache.value] += count
                route = self.routes.setdefault(outcome.route, {})
                route.setdefault(outcome.x_cache.value, Counter())[""] += count
                self.saved += count
                if outcome.view is not None:
                    self.views.setdefault(outcome.view, Counter())["hits"] += count
                if outcome.tier is not None:
                    self.tiers[outcome.tier.value] += count
            times = source.times()
            for tier in {*totals, *times}:
                self._estimate(tier, totals[tier], times.get(tier, []))

    def _estimate(self, tier: Tier | None, count: int, times: list[float]) -> None:
        """Each time that was taken stands for as many hits of its tier; without one they wait."""
        times = self._last_times[tier] = times or self._last_times.get(tier, [])
        count += self._untimed.pop(tier, 0)
        if not times:
            self._untimed[tier] = count
            return
        hits = self.latency.setdefault(XCache.HIT.value, Histogram())
        each, more = divmod(count, len(times))
        for at, seconds in enumerate(times):
            hits.observe(seconds, each + (at < more))

    def forget(self, source: Elsewhere) -> None:
        """Takes over the last of what was counted there, and asks no more."""
        self.gather()
        self.elsewhere.remove(source)

    def _disproved(self, route: str, evicted: Evicted, ids: tuple[str, ...]) -> None:
        self.invalidated(
            evicted.entries, evicted.aliases, everything=False, cause="truth", route=route, ids=ids
        )

    def invalidated(
        self,
        entries: int,
        aliases: int,
        *,
        everything: bool,
        cause: str = "write",
        route: str = "",
        ids: tuple[str, ...] = (),
    ) -> None:
        """Counts one eviction."""
        self.evictions[cause] += 1
        # An id that looks like an address or a number to call is nobody's to read.
        shown = ["(hidden)" if "@" in one or one.startswith("+") else one for one in ids]
        told = {"cause": cause, "route": route, "ids": shown, "entries": entries, "everything": everything}
        self.recent.appendleft({"time": round(time.time(), 1), **told})
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
            "saved": self.saved,
            "routes": {
                route: {outcome: dict(reasons) for outcome, reasons in found.items()}
                for route, found in sorted(self.routes.items())
            },
            "evictions": dict(self.evictions),
            "upstream_errors": dict(self.upstream_errors),
            "refused": dict(self.refused),
            "latency": {name: one.stats() for name, one in sorted(self.latency.items())},
            "upstream_latency": self.upstream_latency.stats(),
            "fence_wait": self.fence_wait.stats(),
            "checks": self.checks.stats(),
            "recent_evictions": list(self.recent),
        }
