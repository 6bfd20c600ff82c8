"""How often the service was asked, and for what."""

from __future__ import annotations

from collections import Counter

from upstream_stub.kinds import Kind

_MOST_PATHS = 1000


class Stats:
    """Counts requests as they arrive, before any fault strikes them."""

    def __init__(self) -> None:
        self.by_kind: Counter[Kind] = Counter()
        self.hits_by_path: dict[str, int] = {}
        self.paths_not_recorded = 0

    def __repr__(self) -> str:
        return f"<Stats {self.by_kind.total()} requests>"

    def count(self, kind: Kind, method: str, raw_path: str) -> None:
        """One request; the path is as it was sent, with its query."""
        self.by_kind[kind] += 1
        path = f"{method} {raw_path}"
        hits = self.hits_by_path.get(path, 0)
        # The first thousand stay: a test that asks about its own paths must not lose them to later traffic.
        if hits or len(self.hits_by_path) < _MOST_PATHS:
            self.hits_by_path[path] = hits + 1
        else:
            self.paths_not_recorded += 1

    def reset(self) -> None:
        """Start again from nothing."""
        self.by_kind.clear()
        self.hits_by_path.clear()
        self.paths_not_recorded = 0
