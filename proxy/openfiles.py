"""How many files this process may have open: raised to what is needed, or fewer clients are taken."""

from __future__ import annotations

import logging
import resource
from typing import Final

from msgspec.structs import replace

from proxy.core.settings import Settings

log = logging.getLogger("proxy")

# Besides connections: the sockets that listen, Redis and the feed, DNS, certificates, the log, Python itself.
OTHERS: Final = 64
# A few connections are better than none: whoever is allowed no more sees the operating system's error.
LEAST: Final = 16


def fitted(settings: Settings) -> Settings:
    """The settings, with fewer connections where the operating system allows no more.

    Reaching its limit would not refuse a client but stop taking any, and fail what needs a socket upstream.
    """
    others = settings.upstream.max_connections + settings.redis.pool_size + OTHERS
    wanted = settings.limits.connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _covers(soft, wanted):
        return settings
    allowed = wanted if _covers(hard, wanted) else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    if allowed >= wanted:
        return settings
    connections = max(allowed - others, LEAST)
    log.warning(
        "too few open files allowed",
        extra={"allowed": allowed, "wanted": wanted, "connections": connections},
    )
    return replace(settings, limits=replace(settings.limits, connections=connections))


def _covers(limit: int, wanted: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= wanted
