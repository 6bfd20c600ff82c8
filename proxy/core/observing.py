"""What is told of single requests: settings, and the names that clients give their requests."""

from __future__ import annotations

import re

import msgspec

from proxy.core.headers import Headers

REQUEST_ID = "X-Request-Id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What request ids are made of in practice. An e-mail address does not fit, and a token is longer.
_LOGGABLE = re.compile(r"[A-Za-z0-9._:=-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class Observing(msgspec.Struct, frozen=True, kw_only=True):
    """`log_requests`: a log line for each request that is not a plain hit, and for a share of the hits
    (`log_hits`, 0 to 1). `send_request_id`: a request without an X-Request-Id gets one on its way upstream.
    `traces`: spans are sent to an OpenTelemetry collector.
    """

    log_requests: bool = True
    log_hits: float = 0.0
    send_request_id: bool = False
    traces: bool = False


def method_name(method: str) -> str:
    """What a method is called in logs and traces: others are text of the client, so `_OTHER`."""
    return method if method in _METHODS else "_OTHER"


def request_id(headers: Headers) -> str:
    """The client's `X-Request-Id`; empty where there is none, several, or one that is not fit for a log."""
    lines = headers.get_all(REQUEST_ID)
    return lines[0] if len(lines) == 1 and _LOGGABLE.fullmatch(lines[0]) else ""


def trace_id(headers: Headers) -> str:
    """The trace that the client's `traceparent` names (W3C Trace Context), or nothing."""
    lines = headers.get_all("traceparent")
    found = _TRACEPARENT.fullmatch(lines[0]) if len(lines) == 1 else None
    return found[1] if found else ""
