"""Hits before the walk are timed now and then, and count as many as they are."""

from __future__ import annotations

from typing import Any

import pytest

from proxy import stopwatch
from proxy.core.model import Outcome, Tier, XCache
from proxy.fastpath import Replays
from proxy.histogram import count
from proxy.telemetry import Telemetry
from tests.http.test_fastpath import client as talking
from tests.http.test_fastpath import get, replays
from tests.valkey import Valkey
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


async def test_hits_out_of_redis_are_timed_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes a round trip for a look into memory: each tier's times stand for its own hits."""
    monkeypatch.setattr(stopwatch, "PAUSE", 0.0)
    with Valkey() as server:
        async with bench(redis=server.url, env={"MEMORY_CACHE_ENTRIES": "1"}) as at, talking(at) as client:
            for _ in range(4):
                for user in range(1, 7):
                    await client.ask(get(f"/users/{user}"))
            watch: Any = at.app.telemetry.elsewhere[0]
            timed = {tier: len(seconds) for tier, seconds in watch._seconds.items()}
            told = at.app.telemetry.stats()
    assert timed[Tier.REDIS] > 0
    assert told["x_cache"]["HIT"] == count(told["latency"]["HIT"])


def test_what_nobody_has_timed_waits_for_the_first_time() -> None:
    """And is then counted; the times of one tier are never another's."""
    telemetry = Telemetry()

    class Source:
        def __init__(self) -> None:
            self.hits: list[tuple[Outcome, int]] = []
            self.taken: dict[Tier | None, list[float]] = {}

        def counted(self) -> list[tuple[Outcome, int]]:
            return self.hits

        def times(self) -> dict[Tier | None, list[float]]:
            return self.taken

    source = Source()
    telemetry.elsewhere.append(source)
    hits = {tier: Outcome(kind="lookup", x_cache=XCache.HIT, tier=tier) for tier in Tier}
    source.hits, source.taken = [(hits[Tier.MEMORY], 5), (hits[Tier.REDIS], 3)], {Tier.MEMORY: [0.001]}
    assert {"0.001": 5} == telemetry.stats()["latency"]["HIT"]["buckets"]
    source.hits, source.taken = [], {Tier.REDIS: [0.01]}
    assert {"0.001": 5, "0.01": 3} == telemetry.stats()["latency"]["HIT"]["buckets"]
