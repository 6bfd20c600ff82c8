"""How much is done with requests, as frozen settings."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Mode(StrEnum):
    """SERVE answers from cache. SHADOW forwards everything, keeps the cache as if it served, and compares.
    OFF forwards everything and stores nothing; writes still evict, as other replicas may serve."""

    SERVE = "serve"
    SHADOW = "shadow"
    OFF = "off"


class TruthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The share of hits (0 to 1) that upstream is asked about behind the answer, `concurrency` at a time.

    `ignore` names the JSON members that may differ. It also holds for the comparison in shadow mode.
    """

    sample: float = 0.0
    concurrency: int = 2
    ignore: frozenset[str] = frozenset()
