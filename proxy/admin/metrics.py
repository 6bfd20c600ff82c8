"""The counters as Prometheus reads them. The client library is imported at the first scrape, not at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy import __version__

PREFIX = "user_cache_proxy"

# name → (help, label, where it is in /stats): plain counts by one label of a bounded set.
_COUNTERS = {
    "requests": ("Requests by kind of route.", "kind", "requests"),
    "responses": ("Responses by X-Cache.", "x_cache", "x_cache"),
    "hits": ("Hits by the tier that answered.", "tier", "tiers"),
    "misses_by_reason": ("Requests that were not hits, by reason.", "reason", "reasons"),
    "not_stored": ("Upstream answers that were not stored, by reason.", "reason", "not_stored"),
    "key_fetches": ("Fetches of the token keys, by result.", "result", "key_fetches"),
    "upstream_responses": ("Upstream answers by status class, or failed.", "status", "upstream"),
}
_TOTALS = {
    "invalidations": "Evictions, by writes and by operators.",
    "evicted_entries": "Stored answers that evictions removed.",
    "evicted_aliases": "Aliases that evictions removed.",
    "epochs_raised": "Evictions that dropped everything.",
    "collapsed": "Look-ups that waited for another request's answer.",
}


def exposition(stats: Mapping[str, Any], accept: str) -> tuple[bytes, str]:
    """The text for one scrape and its content type, in the format that `accept` asks for."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

    class Stats:
        """A collector over one snapshot."""

        def collect(self) -> list[Metric]:
            families: list[Metric] = []
            for name, (told, label, place) in _COUNTERS.items():
                family = CounterMetricFamily(f"{PREFIX}_{name}", told, labels=[label])
                for value, count in stats.get(place, {}).items():
                    family.add_metric([value], count)
                families.append(family)
            lookups = CounterMetricFamily(f"{PREFIX}_lookups", "Look-ups by view.", labels=["view", "result"])
            for view, counts in stats["views"].items():
                for result in ("hits", "misses"):
                    lookups.add_metric([view, result], counts.get(result, 0))
            families.append(lookups)
            for name, told in _TOTALS.items():
                families.append(CounterMetricFamily(f"{PREFIX}_{name}", told, value=stats[name]))
            info = GaugeMetricFamily(f"{PREFIX}_build_info", "The version that runs.", labels=["version"])
            info.add_metric([__version__], 1)
            return [*families, info]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Stats())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
