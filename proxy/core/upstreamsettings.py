"""The settings of the way to upstream. Durations are seconds (float)."""

from __future__ import annotations

from enum import StrEnum

from proxy.core.discreet import Discreet


class HostLine(StrEnum):
    """KEEP passes the client's `Host` on, REPLACE sends host and port of upstream's URL."""

    KEEP = "keep"
    REPLACE = "replace"


class UpstreamSettings(Discreet, frozen=True, kw_only=True):
    """Where the service is, how long to wait for it, and how each side proves to the other who it is.

    `timeout` holds for a phase that has no time of its own. The files are paths of PEM files.
    """

    url: str = "http://127.0.0.1:8000"
    connect_timeout: float = 1.0
    timeout: float = 10.0
    head_timeout: float | None = None
    idle_timeout: float | None = None
    max_connections: int = 100
    host: HostLine = HostLine.KEEP
    ca_file: str | None = None
    verify: bool = True
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def until_head(self) -> float:
        """How long upstream may take from the end of a request to the head of its answer."""
        return self.timeout if self.head_timeout is None else self.head_timeout

    @property
    def until_next(self) -> float:
        """How long a body may stand still, in either direction."""
        return self.timeout if self.idle_timeout is None else self.idle_timeout
