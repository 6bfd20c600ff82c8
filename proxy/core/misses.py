"""How many look-ups of nobody a client may make: whoever tries out ids, addresses or numbers is noticed.

Each client has a budget that fills again with time. Look-ups that find somebody, and hits, cost nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address, ip_network

from proxy.core.edgesettings import EdgeSettings
from proxy.core.model import Request

MINUTE = 60.0
MOST = 10_000
# What one subscriber has of IPv6.
_PREFIX = 64


class Misses:
    """What is left of their budgets, of `limit` clients at most: who was seen last has none forgotten.

    In this process alone. Times are wall-clock seconds.
    """

    def __init__(self, limit: int = MOST) -> None:
        self._limit = limit
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Misses({len(self._left)})"

    def wait(self, client: str, budget: int, now: float) -> float:
        """Seconds until the client may miss again; 0 where it may now."""
        left = self._of(client, budget, now)
        return 0.0 if left >= 1 else (1 - left) * MINUTE / budget

    def count(self, client: str, budget: int, now: float) -> None:
        """The client asked for nobody; `budget` is how often a minute it may."""
        self._left[client] = (self._of(client, budget, now) - 1, now)
        self._left.move_to_end(client)
        if len(self._left) > self._limit:
            self._left.popitem(last=False)

    def _of(self, client: str, budget: int, now: float) -> float:
        left, then = self._left.get(client, (float(budget), now))
        return min(float(budget), left + max(0.0, now - then) * budget / MINUTE)


def client_of(request: Request, edge: EdgeSettings) -> str:
    """Who the request is from: the peer, or what trusted peers say of whom they have it from.

    Of X-Forwarded-For the last address counts that no trusted peer has; what stands before it anybody can
    write. A token says nothing here: whoever tries out ids may try them with tokens of their own making.
    """
    address = request.peer or ""
    if request.trusted:
        for text in reversed((request.headers.joined("x-forwarded-for") or "").split(",")):
            named = _network(text.strip())
            if not named:
                break
            address = text.strip()
            if not edge.trusts(address):
                break
    return _network(address) or address


def _network(address: str) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(ip_network(f"{found}/{_PREFIX}", strict=False)) if found.version == 6 else str(found)
