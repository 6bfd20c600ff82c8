"""What was wanted of each figure, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass

from bench import peers

# The proxy's CPU time per request in parts of the peer's, by row.
RATIOS: dict[str, dict[str, float]] = {
    "token": {peers.NGINX_LUA.name: 1.0, peers.NGINX.name: 0.75, peers.VARNISH.name: 0.55},
    "unique": {peers.NGINX_LUA.name: 1.2, peers.VARNISH.name: 0.8},
    "redis-id": {peers.NGINX_REDIS.name: 1.0},
    "redis-email": {peers.NGINX_REDIS.name: 1.0},
    "introspect": {peers.ENVOY.name: 0.3},
    "forward-get": {peers.NGINX_PASS.name: 2.0},
    "forward-put": {peers.NGINX_PASS.name: 2.0},
    "batch": {"one user": 3.0},
}


@dataclass(frozen=True)
class Goal:
    """A bound on a figure; `most` is False where more is better."""

    figure: str
    bound: float
    unit: str
    most: bool = True

    def line(self, found: float) -> str:
        """The goal beside the figure, and the verdict."""
        sign = "≤" if self.most else "≥"
        return f"{self.figure}: {found:.2f} {self.unit} (goal {sign} {self.bound:g}: {self.verdict(found)})"

    def verdict(self, found: float) -> str:
        """In a word."""
        reached = found <= self.bound if self.most else found >= self.bound
        return "met" if reached else "NOT met"


FIRST_CHECK = Goal("first check of a token", 60, "µs of CPU")
TAIL = Goal("p99 against nginx's at the same rate", 1.5, "times")
START = Goal("start to ready", 0.5, "s")
IDLE = Goal("idle memory of a worker", 45, "MB")
USERS = Goal("10,000 users in memory", 15, "MB more")
REDIS = Goal("Redis memory of a user with three aliases", 1100, "bytes")
WORKERS = Goal("2 workers against 1", 1.8, "times requests/s", most=False)


def ratio(row: str, peer: str, found: float) -> str:
    """The verdict on a ratio, or nothing where none was asked for."""
    bound = RATIOS.get(row, {}).get(peer)
    return "" if bound is None else f"≤ {bound:g}: {Goal(row, bound, '').verdict(found)}"
