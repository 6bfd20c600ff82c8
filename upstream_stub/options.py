"""What the service is started with."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["HS256", "RS256"]

DEFAULT_SECRET = "dev-secret-change-me-please-32-bytes!"

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h)?")
_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port (0 for a free one), or a Unix socket's path."""

    host: str = "127.0.0.1"
    port: int = 8000
    path: str | None = None

    @property
    def url(self) -> str:
        """The address as a client would write it."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Options:
    """Fixed for the life of the process; `faults.Faults` starts from these and may be changed at run time."""

    listen: Address = Address()
    database: str = ":memory:"
    users: int = 1000
    seed: int = 7
    latency: float = 0.010
    latency_jitter: float = 0.002
    error_rate: float = 0.0
    drop_after_commit_rate: float = 0.0
    leak_hash: bool = False
    etag: bool = False
    open_writes: bool = True
    algorithm: Algorithm = "HS256"
    jwt_secret: str = DEFAULT_SECRET
    token_ttl: float = 3600.0
    access_log: bool = False


def parse_duration(text: str) -> float:
    """Seconds from ``10ms``, ``0.01s``, ``1s``, ``5m``, ``1h`` or a plain number of seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration such as 10ms, 0.5s or 2")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is too long")
    return seconds


def parse_rate(text: str) -> float:
    """A probability, 0 to 1."""
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"{text!r} is not a rate from 0 to 1")
    return rate


def parse_address(text: str) -> Address:
    """An address from ``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` or ``unix:/path``."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("unix: needs a path")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address belongs in brackets")
    return Address(host=host or "0.0.0.0", port=int(port))
