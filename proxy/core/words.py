"""Small sets of words that answers, counters and log lines share."""

from __future__ import annotations

from enum import StrEnum


class XCache(StrEnum):
    """The value of `X-Cache`."""

    HIT = "HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"
    STALE = "STALE"
    REVALIDATED = "REVALIDATED"


class Tier(StrEnum):
    """Where a hit came from."""

    MEMORY = "memory"
    REDIS = "redis"
