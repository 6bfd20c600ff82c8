"""The settings of the two HTTP edges: what a client may send, how long anybody may take, what is added.

Durations are seconds (float), sizes are bytes (int).
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

Network = IPv4Network | IPv6Network

# Where the peers of a sidecar live: this machine, and networks that the internet does not route.
PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("100.64.0.0/10", "fc00::/7", "fe80::/10"),
    )
)


class XForwarded(StrEnum):
    """APPEND adds this hop to what a trusted peer said, REPLACE says it anew, OFF leaves the lines alone."""

    APPEND = "append"
    REPLACE = "replace"
    OFF = "off"


class OverBudget(StrEnum):
    """FORWARD asks upstream, and keeps nobody; REFUSE answers 429."""

    FORWARD = "forward"
    REFUSE = "refuse"


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may take of this process. `None` and, for `body_rate`, 0 mean: no limit."""

    connections: int = 4096
    # What waits in this process for somebody to take it, of all connections together.
    memory: int = 64 * 2**20
    target: int = 8190
    field: int = 16 * 1024
    head: int = 64 * 1024
    fields: int = 128
    body: int | None = None
    # How much of a body waits here for the other side to take it; reading stops at twice this.
    buffer: int = 64 * 1024
    head_timeout: float = 15.0
    # The longest wait for the next piece of a body, and for a client that takes nothing of its answer.
    body_timeout: float = 60.0
    # Bytes a second that a body must make on the average, after the first `body_timeout`.
    body_rate: int = 240
    # Longer than the idle time of the proxies and clients in front, so that they close first and never race.
    idle_timeout: float = 75.0
    # Longer than any protocol's own sign of life: WebSocket clients ping every 20 s to some minutes.
    tunnel_timeout: float = 600.0
    # Look-ups a minute of one client that may find nobody, and what becomes of one beyond; 0: no limit.
    not_found: int = 1000
    over_not_found: OverBudget = OverBudget.FORWARD


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the client to upstream, and which clients may say something themselves."""

    trusted: tuple[Network, ...] = PRIVATE
    x_forwarded: XForwarded = XForwarded.APPEND
    forwarded: bool = False

    def trusts(self, peer: str | None) -> bool:
        """Whether the peer's own X-Forwarded-* and Forwarded are believed; one on a unix socket is."""
        if peer is None:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.trusted)
