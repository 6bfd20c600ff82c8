"""The counters as Prometheus reads them. The client library is imported at the first scrape, not at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from proxy import __version__
from proxy.histogram import cumulative

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "user_cache_proxy"

# name → (help, label, where it is in /stats): plain counts by one label of a bounded set.
_COUNTERS = {
    "requests_by_kind": ("Requests by kind of route.", "kind", "requests"),
    "responses": ("Responses by X-Cache.", "x_cache", "x_cache"),
    "hits": ("Hits by the tier that answered.", "tier", "tiers"),
    "misses_by_reason": ("Requests that were not hits, by reason.", "reason", "reasons"),
    "not_stored": ("Upstream answers that were not stored, by reason.", "reason", "not_stored"),
    "key_fetches": ("Fetches of the token keys, by result.", "result", "key_fetches"),
    "evictions": ("Evictions by cause: write, operator, truth.", "cause", "evictions"),
    "upstream_errors": ("Requests that upstream did not answer, by problem.", "problem", "upstream_errors"),
    "refused": ("Requests refused at the edge, before the walk, by problem.", "problem", "refused"),
    "upstream_responses": ("Upstream answers by status class, or failed.", "status", "upstream"),
}
# From 0 on, before there is one: Prometheus sees no increase in a count that begins at 1.
_FROM_ZERO: dict[str, dict[str, int]] = {
    "evictions": dict.fromkeys(("write", "operator", "truth"), 0),
    "refused": dict.fromkeys(("bad-request", "request-timeout", "overloaded", "tls-handshake"), 0),
    "upstream_errors": dict.fromkeys(
        ("upstream-busy", "upstream-failed", "upstream-timeout", "upstream-unreachable"), 0
    ),
}
_TOTALS = {
    "invalidations": "Evictions, by writes and by operators.",
    "evicted_entries": "Stored answers that evictions removed.",
    "evicted_aliases": "Aliases that evictions removed.",
    "epochs_raised": "Evictions that dropped everything.",
    "saved": "Requests that were answered without asking upstream.",
    "collapsed": "Look-ups that waited for another request's answer.",
}


# name → (help, unit's suffix is in the name): what workers add up.
_GAUGES = {
    "memory_users": "Users held in memory.",
    "memory_bytes": "Bytes held in memory, approximately.",
    "pending_evictions": "Evictions that Redis is still to be told of.",
    "redis_breaker_open": "Workers that do not ask Redis at present.",
    "feed_alive": "Workers whose lease on the feed is alive.",
}
_FEED = {
    "lapses": "Times that a lease on the feed was not proven in time.",
    "announced": "Announcements made on the feed.",
    "waited_out": "Announcements that a replica did not acknowledge before its lease was over.",
}

# Of each kind of connection: name → (help, what /stats calls it).
_CONNECTIONS = {
    "client": {
        "connection_limit": ("Connections that clients may have open.", "limit"),
        "waiting_bytes": ("Bytes that wait for a slow client, or a slow service.", "waiting_bytes"),
        "waiting_bytes_limit": ("Bytes that may wait before requests get 503.", "waiting_bytes_limit"),
    },
    "upstream": {
        "connection_limit": ("Connections to upstream that there may be.", "limit"),
        "waiting_requests": ("Requests that wait for a connection to upstream.", "waiting"),
    },
    "redis": {
        "connection_limit": ("Connections to the servers of a Cluster that there may be.", "limit"),
        "waiting_calls": ("Calls to Redis without a reply, or without a connection.", "waiting"),
    },
}
_STATES = ("busy", "in_use", "idle", "opening")

_UNTOLD = {"agree": 0, "disagree": 0}


def gauges(store: Any, health: Mapping[str, Any]) -> dict[str, float]:
    """What one worker holds at present, as numbers that can be added up over workers."""
    stats = getattr(store, "stats", None)
    memory = getattr(stats, "memory", stats)
    feed = health.get("feed", {})
    return {
        "memory_users": getattr(memory, "users", 0),
        "memory_bytes": getattr(memory, "bytes", 0),
        "pending_evictions": health.get("pending_evictions", 0),
        "redis_breaker_open": int(health.get("breaker") == "open"),
        "feed_alive": int(feed.get("alive", False)),
        **{f"feed_{name}": feed.get(name, 0) for name in _FEED},
    }


def exposition(stats: Mapping[str, Any], accept: str) -> tuple[bytes, str]:
    """The text for one scrape and its content type, in the format that `accept` asks for."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    class Stats:
        """A collector over one snapshot."""

        def collect(self) -> list[Metric]:
            families: list[Metric] = []
            for name, (told, label, place) in _COUNTERS.items():
                family = CounterMetricFamily(f"{PREFIX}_{name}", told, labels=[label])
                for value, count in (_FROM_ZERO.get(name, {}) | stats.get(place, {})).items():
                    family.add_metric([value], count)
                families.append(family)
            lookups = CounterMetricFamily(f"{PREFIX}_lookups", "Look-ups by view.", labels=["view", "result"])
            for view, counts in stats["views"].items():
                for result in ("hits", "misses"):
                    lookups.add_metric([view, result], counts.get(result, 0))
            families.append(lookups)
            for name, told in _TOTALS.items():
                families.append(CounterMetricFamily(f"{PREFIX}_{name}", told, value=stats[name]))
            families += [*_by_route(stats), *_durations(stats), *_connections(stats), *_states(stats)]
            info = GaugeMetricFamily(f"{PREFIX}_build_info", "The version that runs.", labels=["version"])
            info.add_metric([__version__], 1)
            return [*families, info]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Stats())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _by_route(stats: Mapping[str, Any]) -> list[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily

    labels = ["route", "outcome", "reason"]
    requests = CounterMetricFamily(f"{PREFIX}_requests", "Requests by route and outcome.", labels=labels)
    for route, outcomes in stats["routes"].items():
        for outcome, reasons in outcomes.items():
            for reason, count in reasons.items():
                requests.add_metric([route or "none", outcome, reason or "none"], count)
    found: list[Metric] = [requests]
    for kind, told in (
        ("shadow", "Requests in shadow mode, by what the comparison showed."),
        ("truth", "Hits that upstream was asked about, by what it said."),
    ):
        family = CounterMetricFamily(f"{PREFIX}_{kind}_checks", told, labels=["route", "verdict"])
        found_out = {route: _UNTOLD for route in stats["routes"] if route} | stats["checks"][kind]
        for route, verdicts in found_out.items():
            for verdict, count in (_UNTOLD | verdicts).items():
                family.add_metric([route, verdict], count)
        found.append(family)
    return found


def _durations(stats: Mapping[str, Any]) -> list[Metric]:
    from prometheus_client.metrics_core import HistogramMetricFamily

    told = "Time up to the head of the answer, by outcome; of hits before the walk a share is timed."
    requests = HistogramMetricFamily(f"{PREFIX}_request_duration_seconds", told, labels=["outcome"])
    for outcome, one in stats["latency"].items():
        requests.add_metric([outcome], cumulative(one), one["seconds"])
    found: list[Metric] = [requests]
    for name, told, place in (
        ("upstream_duration_seconds", "Time that requests waited for upstream.", "upstream_latency"),
        ("fence_wait_seconds", "Time until no replica could answer from memory.", "fence_wait"),
        ("redis_duration_seconds", "Round trips to Redis that were answered.", "redis_latency"),
    ):
        if place not in stats:
            continue
        family = HistogramMetricFamily(f"{PREFIX}_{name}", told)
        family.add_metric([], cumulative(stats[place]), stats[place]["seconds"])
        found.append(family)
    return found


def _connections(stats: Mapping[str, Any]) -> list[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    found: list[Metric] = []
    for kind, gauges_of in _CONNECTIONS.items():
        held = stats["connections"][kind]
        family = GaugeMetricFamily(f"{PREFIX}_{kind}_connections", "Open connections.", labels=["state"])
        for state in _STATES:
            if state in held:
                family.add_metric([state], held[state])
        found.append(family)
        for name, (told, place) in gauges_of.items():
            if place in held:
                found.append(GaugeMetricFamily(f"{PREFIX}_{kind}_{name}", told, held[place]))
        if "opened" in held:
            told = "Connections that were opened."
            found.append(CounterMetricFamily(f"{PREFIX}_{kind}_connections_opened", told, held["opened"]))
    return found


def _states(stats: Mapping[str, Any]) -> list[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    held = stats["gauges"]
    found: list[Metric] = [GaugeMetricFamily(f"{PREFIX}_{n}", told, held[n]) for n, told in _GAUGES.items()]
    found += [CounterMetricFamily(f"{PREFIX}_feed_{n}", told, held[f"feed_{n}"]) for n, told in _FEED.items()]
    found.append(GaugeMetricFamily(f"{PREFIX}_workers", "Workers that answered.", stats["workers"]))
    latency = stats["store"].get("latency_ms")
    if latency is not None:
        told = "Round trip to the cache's backend."
        found.append(GaugeMetricFamily(f"{PREFIX}_redis_latency_seconds", told, latency / 1000))
    age = stats["token_keys_age_seconds"]
    if age is not None:
        told = "Age of the token keys, in the worker that was asked."
        found.append(GaugeMetricFamily(f"{PREFIX}_token_keys_age_seconds", told, age))
    mode = GaugeMetricFamily(f"{PREFIX}_mode", "The mode in force.", labels=["mode"])
    mode.add_metric([stats["mode"]], 1)
    return [*found, mode]
