"""How many hops an OPTIONS may still take (RFC 9110 §7.6.2)."""

from __future__ import annotations

import pytest

from proxy.core.headers import Headers
from proxy.core.maxforwards import onward
from proxy.core.model import Request


def asked(method: str, *values: bytes) -> Request:
    """A request with these lines."""
    return Request(method, "*", Headers((b"Max-forwards", value) for value in values))


@pytest.mark.parametrize(("said", "left"), [(b"1", b"0"), (b"10", b"9"), (b"007", b"6")])
def test_each_hop_counts(said: bytes, left: bytes) -> None:
    """Its line stays where and as it is, but for the number."""
    passed = onward(asked("OPTIONS", said))
    assert passed is not None
    assert ((b"Max-forwards", left),) == passed.headers.raw


@pytest.mark.parametrize("said", [b"0", b"000"])
def test_the_last_hop_answers(said: bytes) -> None:
    """It must not forward."""
    assert onward(asked("OPTIONS", said)) is None


@pytest.mark.parametrize(
    "request_",
    [
        asked("GET", b"0"),
        asked("OPTIONS"),
        asked("OPTIONS", b""),
        asked("OPTIONS", b"-1"),
        asked("OPTIONS", b"1.5"),
        asked("OPTIONS", b"9" * 10),
        asked("OPTIONS", b"0", b"1"),
    ],
)
def test_what_is_no_count_goes_on_as_it_came(request_: Request) -> None:
    """Other methods are not counted, and neither is what two could read differently."""
    assert onward(request_) is request_
