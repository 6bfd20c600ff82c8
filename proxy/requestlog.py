"""One log line a request: a consumer of Outcome values. Plain hits are sampled, as they are many."""

from __future__ import annotations

import logging
from collections.abc import Callable
from secrets import token_hex

from proxy.core.model import Outcome, XCache
from proxy.core.observing import Observing

log = logging.getLogger("proxy.request")


class RequestLog:
    """Writes `{"message": "request", "request_id", "method", "route", "kind", "status", "x_cache", "ms", …}`.

    What is not known or does not apply is left out. `make_id` names a request that its client gave no name.
    """

    def __init__(self, observing: Observing, make_id: Callable[[], str] = lambda: token_hex(8)) -> None:
        self._on = observing.log_requests
        self._share = observing.log_hits
        self._make_id = make_id
        # Begins high, so that the first hit after a start is among those that are shown.
        self._due = 1.0

    @property
    def every(self) -> int:
        """One hit of this many is to be seen here; 0: none of them."""
        return round(1 / self._share) if self._on and self._share else 0

    def observe(self, outcome: Outcome) -> None:
        """Writes the line of one finished request, if it gets one."""
        if not self._on or (outcome.x_cache is XCache.HIT and not self._sampled()):
            return
        if log.isEnabledFor(logging.INFO):
            log.info("request", extra=self._fields(outcome))

    def wants_next_hit(self) -> bool:
        """A hit is about to be answered without being seen here: whether it is to be seen instead.

        If not, it counts as one of those that the share is of.
        """
        if not self._on or not self._share:
            return False
        if self._due + self._share >= 1.0:
            return True
        self._due += self._share
        return False

    def _sampled(self) -> bool:
        # Every n-th and not at random: the same share, and no number to draw.
        self._due += self._share
        if self._due < 1.0 or not self._share:
            return False
        self._due -= 1.0
        return True

    def _fields(self, outcome: Outcome) -> dict[str, object]:
        fields: dict[str, object] = {
            "request_id": outcome.request_id or outcome.trace_id or self._make_id(),
            "method": outcome.method,
            "route": outcome.route or None,
            "kind": outcome.kind,
            "status": outcome.status,
            "x_cache": outcome.x_cache.value,
            "ms": _milliseconds(outcome.seconds),
        }
        if outcome.trace_id:
            fields["trace_id"] = outcome.trace_id
        if outcome.reason is not None:
            fields["reason"] = outcome.reason.value
        if outcome.skipped is not None:
            fields["not_stored"] = outcome.skipped.value
        if outcome.view is not None:
            fields["view"] = outcome.view
        if outcome.tier is not None:
            fields["tier"] = outcome.tier.value
        if outcome.collapsed:
            fields["collapsed"] = True
        if outcome.upstream_seconds is not None:
            fields["upstream_ms"] = _milliseconds(outcome.upstream_seconds)
        if outcome.upstream_status is not None:
            fields["upstream_status"] = outcome.upstream_status
        if outcome.upstream_failed:
            fields["upstream_failed"] = True
        if outcome.evicted is not None:
            fields["evicted_entries"] = outcome.evicted.entries
            fields["evicted_everything"] = outcome.everything
            fields["delivered"] = outcome.evicted.delivered
        return fields


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
