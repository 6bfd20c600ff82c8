"""What is told of single requests: log lines, ids, traces."""

from __future__ import annotations

from proxy.configgiven import Given
from proxy.core.observing import Observing


def observing(given: Given) -> Observing:
    """What the environment asks for."""
    return Observing(
        log_requests=given.value("LOG_REQUESTS"),
        log_hits=given.value("LOG_HITS"),
        send_request_id=given.value("SEND_REQUEST_ID"),
        traces=given.value("OTEL_TRACES_EXPORTER") == "otlp",
    )
