"""Shadow, off, holdback and the check of hits: what the client gets, what upstream hears, what is counted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.config import PACKAGED
from proxy.core.comparing import difference
from proxy.rollout import Look, Rollout
from proxy.steps import samples
from proxy.steps.exchange import Exchange
from proxy.steps.rehearsal import Walk, Would, rehearse
from tests.walk import Bench, bench, token_for


def routes(**lines: str) -> str:
    """The packaged routes with other values on these lines."""
    text = PACKAGED.read_text()
    for name, value in lines.items():
        text = re.sub(rf"(?m)^{name}: .*$", f"{name}: {value}", text)
    return text


def checks(b: Bench, kind: str) -> dict[str, Any]:
    """The verdicts on look-ups by id."""
    found: dict[str, Any] = b.app.telemetry.stats()["checks"][kind]
    return found.get("GET /users/{id:int}", {})


async def until(found: Callable[[], object]) -> None:
    """Polls for what happens behind an answer and tells nobody."""
    for _ in range(1000):
        if found():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def settled(b: Bench, kind: str, verdict: str, count: int = 1) -> None:
    """Waits until so many verdicts were given behind the answers."""
    await until(lambda: checks(b, kind).get(verdict, 0) >= count)


async def behind_its_back(b: Bench, user: int) -> None:
    """A write that does not pass through the proxy."""
    token = token_for(user)
    answer = await b.ask("PUT", "/profile", token=token, json={"bio": "written past the proxy"}, base=b.stub)
    assert 200 == answer.status, answer.body


async def test_shadow_forwards_each_request_once_and_agrees() -> None:
    """The same bytes as upstream gives, one call for each request, the cache filled and right."""
    async with bench(env={"MODE": "shadow"}) as b:
        direct = await b.get("/users/5", base=b.stub)
        answers = [await b.get("/users/5") for _ in range(3)]
        calls = await b.calls()

    assert [direct.body] * 3 == [one.body for one in answers]
    assert ["BYPASS"] * 3 == [one.x_cache for one in answers]
    assert 4 == sum(calls.values()), calls
    assert {"miss": 1, "agree": 2} == checks(b, "shadow")


async def test_shadow_leaves_a_secret_in_and_agrees_without_it() -> None:
    """Upstream's answer is untouched; what the cache would have said lacks the secret, which is no fault."""
    async with bench(env={"MODE": "shadow"}, leak_hash=True) as b:
        answers = [await b.get("/users/5") for _ in range(2)]

    assert [True, True] == ["hashed_password" in one.json() for one in answers]
    assert {"miss": 1, "agree": 1} == checks(b, "shadow")


async def test_shadow_finds_what_would_have_been_stale(caplog: pytest.LogCaptureFixture) -> None:
    """A write past the proxy is a disagreement, told by the names of fields and not by what is in them."""
    async with bench(env={"MODE": "shadow"}) as b:
        await b.get("/users/5")
        await behind_its_back(b, 5)
        await b.get("/users/5")
        await settled(b, "shadow", "disagree")

    line = next(one for one in caplog.records if one.name == "proxy.checks")
    assert "bio" in line.__dict__["fields"]
    assert "written past" not in caplog.text


async def test_shadow_evicts_by_writes_that_pass_through() -> None:
    """A write through the proxy leaves nothing to disagree about."""
    async with bench(env={"MODE": "shadow"}) as b:
        await b.get("/users/5")
        await b.ask("PUT", "/profile", token=token_for(5), json={"bio": "new"})
        answer = await b.get("/users/5")
        await b.get("/users/5")

    assert "new" == answer.json()["bio"]
    assert {"miss": 2, "agree": 1} == checks(b, "shadow")


async def test_a_shadow_answers_a_condition_as_upstream_does() -> None:
    """A client that has the answer is not sent it again, on the fill and after it."""
    async with bench(env={"MODE": "shadow"}) as b:
        etag = (await b.get("/users/5", base=b.stub)).headers.get("ETag", "")
        direct = await b.get("/users/5", headers={"If-None-Match": etag}, base=b.stub)
        answers = [await b.get("/users/5", headers={"If-None-Match": etag}) for _ in range(2)]

    assert [direct.status] * 2 == [one.status for one in answers]


async def test_off_is_a_pure_pass_through() -> None:
    """What upstream says comes as it is, a secret too, as nothing of it is kept."""
    own = {"via", "x-cache", "cache-status", "date", "server"}
    async with bench(env={"MODE": "off"}, leak_hash=True) as b:
        for headers in ({}, {"If-None-Match": "*"}, {"Cache-Control": "only-if-cached"}):
            seen = []
            for base in (b.stub, None):
                one = await b.get("/users/5", headers=headers, base=base)
                lines = {name: value for name, value in one.headers.items() if name.lower() not in own}
                seen.append((one.status, one.body, lines))
            assert seen[0] == seen[1]
        assert b"hashed_password" in (await b.get("/users/5")).body
        assert 0 == b.app.telemetry.stats()["total_lookups"]


async def test_what_was_written_while_off_is_not_served_after_it() -> None:
    """Off forwards everything, and its writes evict all the same: nothing old is there on return."""
    async with bench() as b:
        await b.get("/users/5")
        async with TestClient(TestServer(b.app.admin)) as admin:
            off = await (await admin.post("/mode", json={"mode": "off"})).json()
            during = await b.get("/users/5")
            await b.ask("PUT", "/profile", token=token_for(5), json={"bio": "new"})
            await admin.post("/mode", json={"mode": "serve"})
        after = await b.get("/users/5")

    assert {"mode": "off", "configured": "serve"} == off
    assert ("BYPASS", "mode-off") == (during.x_cache, during.cache_status.rpartition("detail=")[2])
    assert "new" == after.json()["bio"]


@pytest.mark.parametrize(
    "body", ["{}", '{"mode": "on"}', '{"mode": ["off"]}', "[]", '{"mode": "off", "x": 1}', "no"]
)
async def test_a_mode_that_is_none_changes_nothing(body: str) -> None:
    """400, and what was in force stays."""
    async with bench() as b, TestClient(TestServer(b.app.admin)) as admin:
        answer = await admin.post("/mode", data=body, headers={"Content-Type": "application/json"})
        form = await admin.post("/mode", data='{"mode": "off"}')
        told = await (await admin.get("/mode")).json()

    assert (400, 415, "serve") == (answer.status, form.status, told["mode"])


async def test_a_share_of_the_hits_is_held_back(tmp_path: Path) -> None:
    """All of them here: upstream answers, and the hit is counted as held back, not as a hit."""
    async with bench(routes=routes(holdback="100%"), tmp_path=tmp_path) as b:
        answers = [await b.get("/users/5") for _ in range(3)]
        calls = await b.calls()
        only = await b.get("/users/5", headers={"Cache-Control": "only-if-cached"})

    assert ["MISS", "BYPASS", "BYPASS"] == [one.x_cache for one in answers]
    assert 3 == sum(calls.values())
    assert "HIT" == only.x_cache
    assert 2 == b.app.telemetry.stats()["reasons"]["holdback"]


async def test_a_true_hit_is_confirmed(tmp_path: Path) -> None:
    """Upstream is asked behind the answer, and agrees."""
    async with bench(routes=routes(truth="{sample: 100%}"), tmp_path=tmp_path) as b:
        await b.get("/users/5")
        await b.get("/users/5")
        await settled(b, "truth", "agree")

    assert {"agree": 1} == checks(b, "truth")


async def test_a_stale_hit_is_counted_and_evicted(tmp_path: Path) -> None:
    """A write past the proxy is found by the next hit that is checked; the one after it is right."""
    async with bench(routes=routes(truth="{sample: 100%}"), tmp_path=tmp_path) as b:
        await b.get("/users/5")
        await behind_its_back(b, 5)
        stale = await b.get("/users/5")
        await settled(b, "truth", "disagree")
        await until(lambda: b.app.telemetry.evictions["truth"])
        after = await b.get("/users/5")

    assert ("HIT", "MISS") == (stale.x_cache, after.x_cache)
    assert "written past the proxy" == after.json()["bio"]
    assert ["5"] == b.app.telemetry.recent[0]["ids"]


async def test_a_write_on_its_way_explains_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write passes between the look into the cache and upstream's word: the hit was right when given."""
    async with bench(routes=routes(truth="{sample: 100%}"), tmp_path=tmp_path) as b:
        written: list[int] = []

        async def look(x: Exchange, walk: Walk) -> Would | None:
            would = await rehearse(x, walk)
            if not written:
                answer = await b.ask("PUT", "/profile", token=token_for(5), json={"bio": "new"})
                written.append(answer.status)
            return would

        monkeypatch.setattr(samples, "rehearse", look)
        await b.get("/users/5")
        await b.get("/users/5")
        await until(lambda: checks(b, "truth"))

    assert ([200], {"explained": 1}) == (written, checks(b, "truth"))


@pytest.mark.parametrize(
    ("ours", "theirs", "fields"),
    [
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', ()),
        (b'{"a": 1}', b'{"a": true}', ("a",)),
        (b'{"a": {"b": [1, 2]}}', b'{"a": {"b": [1, 3]}}', ("a.b",)),
        (b'{"ada@example.com": 1}', b"{}", ("?",)),
        (b'{"seen": 1}', b'{"seen": 2}', ()),
        (b"x", b"y", ("body",)),
    ],
)
def test_differences_are_names(ours: bytes, theirs: bytes, fields: tuple[str, ...]) -> None:
    """By value and type, without what is ignored, and no name that may be data."""
    assert fields == difference((200, ours), (200, theirs), frozenset({"seen"}))


def test_shares_are_kept_on_average() -> None:
    """5 % and then 1 % of the rest, whether hits are counted by the walk or before it."""
    rollout = Rollout(holdback=0.05, truth=0.01)
    picked = [rollout.pick() for _ in range(200_000) if rollout.serving and rollout.walks()]
    asked = 200_000

    assert 0.045 < picked.count(Look.HOLDBACK) / asked < 0.055
    assert 0.007 < picked.count(Look.TRUTH) / asked < 0.012
    assert None not in picked


async def test_a_resource_is_explained_by_the_mode_in_force(tmp_path: Path) -> None:
    """An operator's `off` counts, not what the settings ask for."""
    text = 'version: 1\nupstream: {url: "{stub}"}\nroutes:\n- {match: "GET /r/{x}", resource: {}}\n'
    async with (
        bench(routes=text, tmp_path=tmp_path) as b,
        TestClient(TestServer(b.app.admin)) as admin,
    ):
        said = []
        for mode in ("serve", "off", "serve"):
            await admin.post("/mode", json={"mode": mode})
            told = await (await admin.get("/explain", params={"url": "/r/1"})).json()
            said.append(told["would_be"])

    assert ["MISS", "BYPASS", "MISS"] == said
