"""Hits before the walk are timed now and then, and count as many as they are."""

from __future__ import annotations

import pytest

from proxy import stopwatch
from proxy.core.model import XCache
from proxy.fastpath import Replays
from proxy.histogram import count
from tests.http.test_fastpath import client as talking
from tests.http.test_fastpath import get, replays
from tests.walk import bench


async def test_every_hit_is_in_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there were hits, walked or not, though few of them were timed."""
    monkeypatch.setattr(stopwatch, "PAUSE", 0.01)
    async with bench() as at, talking(at) as client:
        for _ in range(50):
            await client.ask(get("/users/1"))
        found = replays(at)
        told = at.app.telemetry.stats()
    assert 49 == told["x_cache"]["HIT"] == count(told["latency"]["HIT"])
    # One of them was walked, and made the others ready; they took their time, and less than it.
    assert 0 < told["latency"]["HIT"]["seconds"] < 49 * 0.01
    assert isinstance(found, Replays)


async def test_a_timed_hit_costs_the_next_ones_nothing() -> None:
    """What times is gone after one hit, until the pause is over; what is no hit leaves it in place."""
    async with bench() as at, talking(at) as client:
        found = replays(at)
        assert "answer" in vars(found)
        await client.ask(get("/users/1"))
        await client.ask(get("/users/1"))
        assert "answer" in vars(found)
        await client.ask(get("/users/1"))
        assert "answer" not in vars(found)


async def test_hits_between_two_looks_stand_on_the_last_times() -> None:
    """None of them was timed: those before say what they took."""
    async with bench() as at, talking(at) as client:
        for _ in range(4):
            await client.ask(get("/users/1"))
        before = at.app.telemetry.stats()["latency"]["HIT"]
        await client.ask(get("/users/1"))
        after = at.app.telemetry.stats()
    assert count(before) + 1 == count(after["latency"]["HIT"]) == after["x_cache"][XCache.HIT.value]
