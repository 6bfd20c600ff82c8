"""The dashboard's page and stream: nothing inline, nothing from elsewhere, nothing personal."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.dashboard import PAGE, POLICY
from tests.walk import Bench, bench, token_for

ROOT = Path(__file__).resolve().parent.parent.parent


async def figures(b: Bench) -> str:
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
    assert [] == re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+|<style|\son\w+=|\sstyle=|innerHTML", text)


async def test_the_stream_moves_and_names_nobody() -> None:
    """Figures that count what happened, users by id only, and no address, name or number."""
    async with bench() as b:
        user = (await b.get("/users/5")).json()
        await b.get("/users/5")
        await b.ask("PUT", "/profile", token=token_for(5), json={"bio": "new"})
        text = await figures(b)

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
