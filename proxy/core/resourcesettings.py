"""What a route of plain RFC 9111 caching says."""

from __future__ import annotations

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Plain RFC 9111 shared caching of a URL.

    `heuristic` is the part of its age that an answer with Last-Modified alone stays fresh (0: none), for
    `heuristic_max` at most. The stale windows hold where the answer states none of its own. `keep` is how
    long a stale copy with a validator waits to be revalidated. `max_size` bounds a stored body. `targeted`
    names the fields that override Cache-Control for this cache (RFC 9213); the first that is there counts.
    """

    heuristic: float = 0.1
    heuristic_max: float = 86400.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 60.0
    keep: float = 3600.0
    max_size: int = 1024 * 1024
    targeted: tuple[str, ...] = ("cdn-cache-control",)
