"""How long an answer is fresh, and how old it came (RFC 9111 §4.2). Seconds; `now` is the wall clock."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.core.cachecontrol import LARGEST, delta_seconds, http_date
from proxy.core.headers import Headers

Directives = Mapping[str, str | None]

# RFC 9110 §15.1: the final statuses that are fresh by guess. 206 is never kept.
HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})


def age_of(reply: Headers) -> int:
    """The Age of an answer as it came: the first value; an invalid one is ignored (RFC 9111 §5.1)."""
    return delta_seconds((reply.get("age") or "").split(",")[0].strip(" \t")) or 0


def initial_age(reply: Headers, asked: float, answered: float) -> float:
    """The age of an answer that was asked for and arrived at these times (RFC 9111 §4.2.3)."""
    generated = http_date(reply.get("date"))
    apparent = 0.0 if generated is None else max(0.0, answered - generated)
    # Dates are whole seconds: a fraction of one is no age.
    apparent = float(int(apparent))
    return max(apparent, age_of(reply) + max(0.0, answered - asked))


def stated_lifetime(
    directives: Directives, reply: Headers, now: float, *, expires: bool = True
) -> float | None:
    """Upstream's own freshness in seconds, None where it states none; invalid is stale (RFC 9111 §4.2.1).

    Without `expires` that field does not count: a targeted field stands in for it too (RFC 9213 §2.2).
    """
    for name in ("s-maxage", "max-age"):
        if name in directives:
            return delta_seconds(directives[name]) or 0
    lines = reply.get_all("expires") if expires else []
    if not lines:
        return None
    dates = [http_date(line) for line in lines]
    known = [date for date in dates if date is not None]
    if len(known) < len(dates):
        return 0
    generated = http_date(reply.get("date"))
    return min(min(known) - (now if generated is None else generated), LARGEST)


def guessed_lifetime(reply: Headers, now: float, *, part: float, most: float) -> float:
    """`part` of the time since Last-Modified (RFC 9111 §4.2.2), `most` seconds at most; 0 without one."""
    modified = http_date(reply.get("last-modified"))
    if modified is None:
        return 0.0
    generated = http_date(reply.get("date"))
    since = (now if generated is None else generated) - modified
    return max(0.0, min(part * since, most))
