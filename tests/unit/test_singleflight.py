"""One flight per key."""

from __future__ import annotations

import asyncio

import pytest

from proxy.singleflight import Flight, SingleFlight


async def _wait(flight: Flight[str], timeout: float = 5.0) -> asyncio.Task[str | None]:
    task = asyncio.ensure_future(flight.wait(timeout))
    await asyncio.sleep(0)
    return task


async def test_the_waiters_get_what_the_leader_landed() -> None:
    """All who joined while the flight was under way share its value."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=10)
    joined = flights.join("k")
    assert joined is not None
    flight, leads = joined
    assert leads
    waiters = []
    for _ in range(3):
        other = flights.join("k")
        assert other is not None
        assert other == (flight, False)
        waiters.append(await _wait(other[0]))

    flight.land("value")

    assert ["value"] * 3 == await asyncio.gather(*waiters)


async def test_a_leader_that_fails_frees_the_waiters() -> None:
    """An exception in the leader lets the others go on their own instead of leaving them hanging."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=10)
    joined = flights.join("k")
    assert joined is not None
    waiter = await _wait(joined[0])

    with pytest.raises(RuntimeError), joined[0]:
        raise RuntimeError

    assert await waiter is None
    assert {} == flights.flights


async def test_a_cancelled_waiter_takes_nothing_down() -> None:
    """One waiter's cancellation reaches neither the leader nor the other waiters."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=10)
    joined = flights.join("k")
    assert joined is not None
    gone, stays = await _wait(joined[0]), await _wait(joined[0])

    gone.cancel()
    await asyncio.sleep(0)
    joined[0].land("value")

    assert "value" == await stays
    assert gone.cancelled()
    assert 0 == joined[0].waiters


async def test_waiting_has_a_bound() -> None:
    """A waiter goes on its own when its time is over; the flight goes on."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=10)
    joined = flights.join("k")
    assert joined is not None

    with pytest.raises(TimeoutError):
        await joined[0].wait(0.001)

    assert "k" in flights.flights


@pytest.mark.parametrize("bound", [0, 1, 2])
async def test_the_number_of_waiters_has_a_bound(bound: int) -> None:
    """Beyond the bound a caller is told to go on its own at once."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=bound)
    joined = flights.join("k")
    assert joined is not None
    tasks = [await _wait(joined[0]) for _ in range(bound)]

    assert flights.join("k") is None

    joined[0].land(None)
    await asyncio.gather(*tasks)


async def test_landed_tells_that_a_flight_was_missed() -> None:
    """The count moves when a flight ends, so that a late leader knows to look again."""
    flights: SingleFlight[str, str] = SingleFlight(max_waiters=10)
    before = flights.landed
    joined = flights.join("k")
    assert joined is not None
    joined[0].land("value")
    again = flights.join("k")
    assert again is not None

    assert (True, before + 1) == (again[1], flights.landed)
    assert "SingleFlight(1 under way, 1 landed)" == repr(flights)
    again[0].land(None)
