"""Each reason can be told to people."""

from __future__ import annotations

from proxy.core.model import Reason
from proxy.core.why import WHY


def test_every_reason_has_a_sentence() -> None:
    """One of its own, so that no two causes are mixed up."""
    assert set(Reason) == set(WHY)
    assert len(set(WHY.values())) == len(WHY)
