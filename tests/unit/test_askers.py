"""Who was allowed to ask, and for how long that counts."""

from __future__ import annotations

from proxy.askers import Askers


def test_an_acceptance_ends_by_itself() -> None:
    """Counted from when upstream was asked; asking here renews nothing."""
    askers = Askers()
    askers.accept("a", 100.0, 60.0)

    assert [True, True, False] == [askers.accepted("a", now) for now in (100.0, 159.9, 160.0)]
    assert not askers.accepted("b", 100.0)


def test_no_time_is_no_acceptance() -> None:
    """`caller_ttl: 0s`."""
    askers = Askers()
    askers.refuse("a", 99.0)
    askers.accept("a", 100.0, 0.0)

    assert not askers.accepted("a", 100.0)
    assert not askers.refused("a")


def test_a_refusal_ends_it() -> None:
    """And a new acceptance ends the refusal."""
    askers = Askers()
    askers.accept("a", 100.0, 60.0)
    askers.refuse("a", 110.0)
    assert (False, True) == (askers.accepted("a", 111.0), askers.refused("a"))

    askers.accept("a", 120.0, 60.0)
    assert (True, False) == (askers.accepted("a", 121.0), askers.refused("a"))


def test_the_later_question_has_the_last_word() -> None:
    """A slow answer to an earlier one does not bring a caller back, nor does it take them away."""
    askers = Askers()
    askers.refuse("a", 110.0)
    askers.accept("a", 109.0, 60.0)
    assert not askers.accepted("a", 111.0)

    askers.accept("a", 112.0, 60.0)
    askers.refuse("a", 111.0)
    assert askers.accepted("a", 113.0)


def test_a_clock_that_is_set_back() -> None:
    """What was heard in the future counts for nothing, and does not stand in the way."""
    askers = Askers()
    askers.accept("a", 1000.0, 60.0)
    assert not askers.accepted("a", 100.0)

    askers.accept("a", 100.0, 60.0)
    assert askers.accepted("a", 100.0)


def test_they_are_bounded() -> None:
    """The longest silent goes first."""
    askers = Askers(limit=2)
    for name in ("a", "b", "a", "c"):
        askers.accept(name, 100.0, 60.0)

    assert [True, False, True] == [askers.accepted(name, 101.0) for name in ("a", "b", "c")]
    for name in ("d", "e", "f"):
        askers.refuse(name, 100.0)
    assert [False, True, True] == [askers.refused(name) for name in ("d", "e", "f")]
    # Strangers push nobody out, nor do acceptances of no time.
    askers.accept("g", 100.0, 0.0)
    assert [True, True] == [askers.accepted(name, 101.0) for name in ("a", "c")]
    assert "Askers(2 accepted, 2 refused)" == repr(askers)
