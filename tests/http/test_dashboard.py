"""The dashboard's page and stream: nothing inline, nothing from elsewhere, nothing personal."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin import dashboard
from proxy.admin.dashboard import PAGE, POLICY, Dashboard, figures
from proxy.core.model import Outcome, Reason, XCache
from proxy.histogram import Histogram
from proxy.telemetry import Telemetry
from tests.clock import forward
from tests.contract.kit import until
from tests.walk import Bench, bench, token_for

ROOT = Path(__file__).resolve().parent.parent.parent


async def streamed(b: Bench) -> str:
    """The first event of the stream."""
    async with TestClient(TestServer(b.app.admin)) as admin, admin.get("/events") as answer:
        assert "text/event-stream" == answer.content_type
        return (await answer.content.readuntil(b"\n\n")).decode().removeprefix("data: ")


@pytest.mark.parametrize("path", PAGE)
async def test_the_page_brings_all_it_needs(path: str) -> None:
    """Each part comes with the policy, and asks nothing of other hosts."""
    async with bench() as b, TestClient(TestServer(b.app.admin)) as admin:
        answer = await admin.get(path)
        text = await answer.text()

    assert (200, POLICY) == (answer.status, answer.headers["Content-Security-Policy"])
    assert ("nosniff", "no-referrer", "no-cache") == tuple(
        answer.headers[name] for name in ("X-Content-Type-Options", "Referrer-Policy", "Cache-Control")
    )
    assert [] == re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+|<style|\son\w+=|\sstyle=|innerHTML", text)


async def test_the_stream_moves_and_names_nobody() -> None:
    """Figures that count what happened, users by id only, and no address, name or number."""
    async with bench() as b:
        user = (await b.get("/users/5")).json()
        await b.get("/users/5")
        await b.ask("PUT", "/profile", token=token_for(5), json={"bio": "new"})
        text = await streamed(b)

    told = orjson.loads(text)
    assert (1, 2, ["5"]) == (told["hits"], told["lookups"], told["recent_evictions"][0]["ids"])
    assert [] == [one for one in ("email", "username", "phone") if str(user[one]) in text]


async def test_metrics_hold_what_the_alerts_read() -> None:
    """Each name in the rules is exported, but for those that the rules make."""
    rules = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
    async with bench() as b, TestClient(TestServer(b.app.admin)) as admin:
        await b.get("/users/5")
        text = await (await admin.get("/metrics")).text()

    exported = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert set() == set(re.findall(r"user_cache_proxy_\w+", rules)) - exported
    assert (
        'user_cache_proxy_requests_total{outcome="MISS",reason="absent",route="GET /users/{id:int}"} 1.0'
        in text
    )
    assert 'user_cache_proxy_request_duration_seconds_count{outcome="MISS"} 1.0' in text


def test_the_policy_lets_nothing_in() -> None:
    """Scripts, styles, pictures and figures from here alone, no inline code, and no page around it."""
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))

    assert {"'none'", "'self'"} == set(rules.values())
    assert {"script-src", "style-src", "img-src", "connect-src"} == {
        name for name, value in rules.items() if value == "'self'"
    }
    assert {"default-src", "base-uri", "form-action", "frame-ancestors"} <= set(rules)


def counters(**changes: Any) -> dict[str, Any]:
    """What a worker that has done nothing says at `/stats`."""
    extra = {
        "uptime_seconds": 1.0,
        "store": {},
        "workers": 1,
        "gauges": {},
        "replicas": None,
        "mode": "serve",
        "connections": {},
    }
    return Telemetry().stats() | extra | changes


def test_the_figures_are_those_of_the_counters() -> None:
    """Hits beside upstream, most frequent reasons first, agreement by route."""
    telemetry = Telemetry()
    for reason, times in ((Reason.ABSENT, 2), (Reason.FENCED, 3)):
        for _ in range(times):
            telemetry.observe(
                Outcome(kind="lookup", view="v", x_cache=XCache.MISS, reason=reason, upstream_seconds=0.04)
            )
    telemetry.observe(Outcome(kind="lookup", view="v", x_cache=XCache.HIT, seconds=0.002))
    told = figures(counters(**telemetry.stats()), [(1.0, 2, 3)], 9.0)

    assert (9.0, 6, 6, 1) == (told["now"], told["requests"], told["lookups"], told["hits"])
    assert [("fenced", 3), ("absent", 2)] == [(name, count) for name, (count, _) in told["reasons"].items()]
    assert "nothing is stored for this key" == told["reasons"]["absent"][1]
    assert ((1, 2.0), (5, 40.0)) == (
        (told["hit_latency"]["count"], told["hit_latency"]["mean_ms"]),
        (told["upstream_latency"]["count"], told["upstream_latency"]["mean_ms"]),
    )
    assert ([(1.0, 2, 3)], 0, {}, {}) == (told["history"], told["held_back"], told["truth"], told["shadow"])


def test_held_back_hits_are_what_hits_are_compared_with() -> None:
    """Where there are some: misses take longer for reasons of their own."""
    held = Histogram()
    held.observe(0.01, times=4)
    checks = {"truth": {"r": {"agree": 99, "disagree": 1}}, "shadow": {"s": {"agree": 5}}}
    told = figures(counters(latency={"HOLDBACK": held.stats()}, checks=checks), [], 0.0)

    assert (4, 4, 10.0) == (
        told["held_back"],
        told["upstream_latency"]["count"],
        told["upstream_latency"]["mean_ms"],
    )
    assert (99.0, 100.0) == (told["truth"]["r"]["percent"], told["shadow"]["s"]["percent"])


class Asked:
    """Counters that say how often they were asked for."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> dict[str, Any]:
        self.times += 1
        await asyncio.sleep(0)
        return counters(hits=self.times)


async def test_viewers_look_once_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, workers are asked once a second; the next second, again."""
    stats = Asked()
    one = Dashboard(stats)
    assert [1] * 5 == [told["hits"] for told in await asyncio.gather(*(one._figures() for _ in range(5)))]
    monkeypatch.setattr("proxy.admin.dashboard.time", SimpleNamespace(monotonic=lambda: 1e9, time=lambda: 0))
    assert 2 == (await one._figures())["hits"]


async def test_the_last_hour_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point as soon as the app lives, and one every ten seconds; the oldest ones go."""
    assert 3600 == dashboard._STEP * (dashboard._STEPS - 1)
    monkeypatch.setattr(dashboard, "_STEPS", 5)
    stats = Asked()
    one = Dashboard(stats)
    living = one.ticking(web.Application())
    await anext(living)
    for number in range(1, 9):
        await until(lambda number=number: stats.times == number)
        forward(9.0)
        await asyncio.sleep(0)
        assert number == stats.times
        forward(1.0)
    await until(lambda: stats.times == 9)
    assert await anext(living, None) is None
    assert [5, 6, 7, 8, 9] == [hits for _, hits, _ in one._history]


async def test_viewers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so, and has a place when another one has left."""
    monkeypatch.setattr("proxy.admin.dashboard._EVERY", 0.01)
    monkeypatch.setattr("proxy.admin.dashboard.MAX_VIEWERS", 2)
    one = Dashboard(Asked())
    app = web.Application()
    app.add_routes(one.routes(lambda handler: handler))
    async with TestClient(TestServer(app)) as client:
        first, second = [await client.get("/events") for _ in range(2)]
        third = await client.get("/events")
        assert [200, 200, 503] == [answer.status for answer in (first, second, third)]
        first.close()
        await until(lambda: one._viewers == 1)
        fourth = await client.get("/events")
        assert 200 == fourth.status
        for answer in (second, fourth):
            answer.close()
        await until(lambda: one._viewers == 0)
