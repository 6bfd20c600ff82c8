"""The names that clients give their requests: kept where they are fit for a log."""

from __future__ import annotations

import pytest

from proxy.core.headers import Headers
from proxy.core.observing import request_id, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([b"9f0c2d1e-77aa-4b1d-9b7e-0a1b2c3d4e5f"], "9f0c2d1e-77aa-4b1d-9b7e-0a1b2c3d4e5f"),
        ([b"Root=1-67891233-abcdef012345678912345678"], "Root=1-67891233-abcdef012345678912345678"),
        ([], ""),
        ([b""], ""),
        ([b"one", b"two"], ""),
        ([b"ada@example.com"], ""),
        ([b"+4930123456"], ""),
        ([b"a b"], ""),
        ([b'x","level":"error'], ""),
        ([b"x" * 64], "x" * 64),
        ([b"x" * 65], ""),
        (["ü".encode()], ""),
    ],
)
def test_a_request_id_is_kept_if_it_can_be_logged(lines: list[bytes], name: str) -> None:
    """One line of ordinary characters; an address, a phone number or a token is none."""
    assert name == request_id(Headers((b"x-request-id", line) for line in lines))


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([f"00-{TRACE}-00f067aa0ba902b7-01"], TRACE),
        ([f"cc-{TRACE}-00f067aa0ba902b7-01-what-will-come"], TRACE),
        ([f"ff-{TRACE}-00f067aa0ba902b7-01"], ""),
        ([f"00-{'0' * 32}-00f067aa0ba902b7-01"], ""),
        ([f"00-{TRACE}-{'0' * 16}-01"], ""),
        ([f"00-{TRACE.upper()}-00f067aa0ba902b7-01"], ""),
        ([f"00-{TRACE}-00f067aa0ba902b7"], ""),
        ([f"00-{TRACE}-00f067aa0ba902b7-01"] * 2, ""),
        ([], ""),
    ],
)
def test_a_trace_id_is_what_traceparent_names(lines: list[str], name: str) -> None:
    """As the W3C's Trace Context has it; what is no traceparent names no trace."""
    assert name == trace_id(Headers((b"Traceparent", line.encode()) for line in lines))
