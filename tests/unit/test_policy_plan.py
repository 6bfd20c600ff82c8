"""What to do with a stored answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.cachecontrol import LARGEST, NO_DIRECTIVES, RequestDirectives
from proxy.core.model import Entry, Reason
from proxy.core.policy import CLOCK_STEP, Expired, Fresh, Plan, Stale, age_header, plan
from proxy.core.settings import View

PLAIN = View(name="users", ttl=100.0)
SWR = View(name="users", ttl=100.0, stale_while_revalidate=10.0)
SIE = View(name="users", ttl=100.0, stale_if_error=10.0)
ENTRY = Entry(user_id="1", status=200, stored=1000.0, expires=1100.0, dead=1110.0)
EXPIRED = Expired(Reason.EXPIRED, stale_if_error=False)
ON_ERROR = Expired(Reason.EXPIRED, stale_if_error=True)


@pytest.mark.parametrize("directives", [NO_DIRECTIVES, RequestDirectives(max_age=1000)])
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (1000.0, Fresh(0, 100)),
        (1000.9, Fresh(0, 99)),
        (1001.0, Fresh(1, 99)),
        (1099.9, Fresh(99, 0)),
        (1100.0, EXPIRED),
        (1110.0, EXPIRED),
    ],
)
def test_freshness(now: float, expected: Plan, directives: RequestDirectives) -> None:
    """RFC 9111 §4.2: fresh while its age is less than its lifetime, and not at the very end of it."""
    assert expected == plan(ENTRY, PLAIN, directives, now)


def test_age_counts_what_it_came_with() -> None:
    """RFC 9111 §4.2.3: the Age of upstream's answer is part of ours."""
    entry = msgspec.structs.replace(ENTRY, age=7)
    assert Fresh(8, 99) == plan(entry, PLAIN, NO_DIRECTIVES, 1001.0)
    assert Fresh(8, 99) == plan(entry, PLAIN, RequestDirectives(max_age=8), 1001.0)
    assert Expired(Reason.REQUEST_MAX_AGE, False) == plan(entry, PLAIN, RequestDirectives(max_age=7), 1001.0)
    assert (7, 8, 8) == tuple(age_header(entry, now) for now in (900.0, 1001.0, 1001.9))


@pytest.mark.parametrize(
    ("directives", "now", "expected"),
    [
        (RequestDirectives(no_cache=True), 1000.0, Expired(Reason.REQUEST_NO_CACHE, False)),
        (RequestDirectives(max_age=0), 1000.0, Fresh(0, 100)),
        (RequestDirectives(max_age=0), 1000.1, Expired(Reason.REQUEST_MAX_AGE, False)),
        (RequestDirectives(max_age=1), 1001.0, Fresh(1, 99)),
        (RequestDirectives(max_age=1), 1001.1, Expired(Reason.REQUEST_MAX_AGE, False)),
        (RequestDirectives(min_fresh=100), 1000.0, Fresh(0, 100)),
        (RequestDirectives(min_fresh=100), 1000.1, Expired(Reason.REQUEST_MIN_FRESH, False)),
        (RequestDirectives(only_if_cached=True), 1000.0, Fresh(0, 100)),
    ],
)
def test_what_the_request_asks_of_a_fresh_answer(
    directives: RequestDirectives, now: float, expected: Plan
) -> None:
    """RFC 9111 §5.2.1.1, .3, .4: max-age, min-fresh and no-cache."""
    assert expected == plan(ENTRY, SIE, directives, now)


@pytest.mark.parametrize(
    ("view", "now", "expected"),
    [
        (SWR, 1100.0, Stale(100, revalidate=True)),
        (SWR, 1109.9, Stale(109, revalidate=True)),
        (SWR, 1110.0, EXPIRED),
        (SIE, 1100.0, ON_ERROR),
        (SIE, 1109.9, ON_ERROR),
        (SIE, 1110.0, EXPIRED),
        (View(name="v", ttl=1, stale_while_revalidate=2, stale_if_error=5), 1101.9, Stale(101, True)),
        (View(name="v", ttl=1, stale_while_revalidate=2, stale_if_error=5), 1102.0, ON_ERROR),
        (View(name="v", ttl=1, stale_while_revalidate=2, stale_if_error=5), 1105.0, EXPIRED),
    ],
)
def test_stale_windows(view: View, now: float, expected: Plan) -> None:
    """RFC 5861 §3-4: first served while it is fetched anew, then only where fetching fails, then not."""
    assert expected == plan(ENTRY, view, NO_DIRECTIVES, now)


@pytest.mark.parametrize("view", [SWR, SIE])
def test_dead_ends_every_use(view: View) -> None:
    """RFC 9111 §4.2.4: where stale answers are forbidden, `dead` is `expires`, and no window opens it."""
    entry = msgspec.structs.replace(ENTRY, dead=1100.0)
    assert EXPIRED == plan(entry, view, NO_DIRECTIVES, 1100.0)
    assert EXPIRED == plan(entry, view, RequestDirectives(max_stale=LARGEST), 1100.0)


@pytest.mark.parametrize(
    ("view", "directives", "expected"),
    [
        (PLAIN, RequestDirectives(max_stale=LARGEST), Stale(105, revalidate=False)),
        (PLAIN, RequestDirectives(max_stale=5), Stale(105, revalidate=False)),
        (PLAIN, RequestDirectives(max_stale=4), EXPIRED),
        (SWR, RequestDirectives(max_stale=5), Stale(105, revalidate=True)),
        (SWR, RequestDirectives(max_stale=4), EXPIRED),
        (SIE, RequestDirectives(max_stale=4), EXPIRED),
        (SWR, RequestDirectives(max_age=1000), EXPIRED),
        (SIE, RequestDirectives(max_age=1000), EXPIRED),
        (SWR, RequestDirectives(max_age=1000, max_stale=5), Stale(105, revalidate=True)),
        (SWR, RequestDirectives(min_fresh=0), EXPIRED),
        (SWR, RequestDirectives(min_fresh=0, max_stale=5), EXPIRED),
        (SWR, RequestDirectives(no_cache=True), Expired(Reason.REQUEST_NO_CACHE, False)),
        (SWR, RequestDirectives(max_age=104), Expired(Reason.REQUEST_MAX_AGE, False)),
    ],
)
def test_what_the_request_asks_of_a_stale_answer(
    view: View, directives: RequestDirectives, expected: Plan
) -> None:
    """RFC 9111 §5.2.1.1-3: max-stale allows so much and no more; max-age and min-fresh want none."""
    assert expected == plan(ENTRY, view, directives, 1105.0)


@pytest.mark.parametrize("directives", [NO_DIRECTIVES, RequestDirectives(max_age=1000)])
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (1000.0 - CLOCK_STEP, Fresh(0, 100)),
        (1000.0 - CLOCK_STEP - 0.1, EXPIRED),
        (0.0, EXPIRED),
    ],
)
def test_a_clock_that_was_set_back(now: float, expected: Plan, directives: RequestDirectives) -> None:
    """RFC 9111 §4.2.3: an age is never negative, and an entry of the future does not live for ever."""
    assert expected == plan(ENTRY, SWR, directives, now)


times = st.one_of(st.floats(), st.floats(min_value=0, max_value=3e9), st.integers(0, 2000).map(float))


@given(
    stored=times,
    expires=times,
    dead=times,
    now=st.floats(min_value=0, max_value=3e9) | st.integers(0, 2000).map(float),
    directives=st.sampled_from([NO_DIRECTIVES, RequestDirectives(max_stale=9), RequestDirectives(max_age=9)]),
)
def test_any_stored_times(
    stored: float, expires: float, dead: float, now: float, directives: RequestDirectives
) -> None:
    """RFC 9111 §4.2: whatever times an entry holds, nothing raises, no age is negative, none is immortal."""
    entry = msgspec.structs.replace(ENTRY, stored=stored, expires=expires, dead=dead)
    decision = plan(entry, SWR, directives, now)
    if isinstance(decision, Fresh):
        assert now < expires
        assert decision.ttl <= LARGEST
    if not isinstance(decision, Expired):
        assert decision.age >= 0


@given(st.floats(min_value=990.0, max_value=1120.0), st.sampled_from([PLAIN, SWR, SIE]))
def test_the_short_way_decides_like_the_long_one(now: float, view: View) -> None:
    """RFC 9111 §4.2: the way of requests without directives is only faster."""
    assert plan(ENTRY, view, replace(NO_DIRECTIVES), now) == plan(ENTRY, view, NO_DIRECTIVES, now)
