"""Shadow, holdback and the check of hits on `resource` routes: as on look-ups, by URL instead of by user."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.contract.kit import until
from tests.walk import Bench, bench

ROUTES = """\
version: 1
upstream: {url: "{stub}"}
holdback: HOLDBACK
truth: {sample: TRUTH}
routes:
  - {match: "GET /r/{any:path}", resource: {}}
"""
ROUTE = "GET /r/{any:path}"


@dataclass
class Origin:
    """One value for all paths, that may be changed without a word to the proxy; each request is noted."""

    value: str = "first"
    age: str = "max-age=60"
    status: int = 200
    asked: list[web.BaseRequest] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """The value, JSON or text, gzipped for who takes it, 304 for who has it."""
        self.asked.append(request)
        if request.method == "PUT":
            self.value = await request.text()
            return web.Response(status=204)
        tag = f'"{self.value}"'
        headers = {"Cache-Control": self.age, "ETag": tag, "Vary": "Accept-Language, Accept-Encoding"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        text = self.value + request.headers.get("Accept-Language", "")
        if request.path.endswith(".json"):
            text = f'{{"name": "{text}", "password_hash": "x"}}'
            headers["Content-Type"] = "application/json"
        body = text.encode()
        if "gzip" in request.headers.get("Accept-Encoding", "") and request.path.endswith(".gz"):
            body = gzip.compress(body, mtime=len(self.asked))
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, status=self.status, headers=headers)


@asynccontextmanager
async def proxied(
    folder: Path, mode: str = "serve", holdback: str = "0%", truth: str = "0%"
) -> AsyncIterator[tuple[Bench, Origin]]:
    """A proxy before an origin, on a free port."""
    origin, app = Origin(), web.Application()
    app.router.add_route("*", "/{any:.*}", origin.answer)
    routes = ROUTES.replace("HOLDBACK", holdback).replace("TRUTH", truth)
    async with bench(routes=routes, tmp_path=folder, upstream=app, env={"MODE": mode}) as at:
        yield at, origin


def checks(at: Bench, kind: str) -> dict[str, Any]:
    """The verdicts on the route."""
    found: dict[str, Any] = at.app.telemetry.stats()["checks"][kind]
    return found.get(ROUTE, {})


async def test_shadow_compares_resources(tmp_path: Path) -> None:
    """Upstream answers each request once, as it would have without the proxy; what is kept is compared."""
    async with proxied(tmp_path, mode="shadow") as (at, origin):
        answers = [await at.get("/r/a") for _ in range(3)]
        assert ["BYPASS"] * 3 == [one.x_cache for one in answers]
        assert [b"first"] * 3 == [one.body for one in answers]
        assert 3 == len(origin.asked)
        assert {"miss": 1, "agree": 2} == checks(at, "shadow")
        origin.value = "second"
        assert b"second" == (await at.get("/r/a")).body
        await until(lambda: checks(at, "shadow").get("disagree") == 1)
        assert 204 == (await at.ask("PUT", "/r/a", json="third")).status
        assert b'"third"' == (await at.get("/r/a")).body
        assert {"miss": 2, "agree": 2, "disagree": 1} == checks(at, "shadow")


async def test_shadow_never_answers_from_a_stored_copy(tmp_path: Path) -> None:
    """What has run out is asked for whole; the client's own condition goes on, and 304 comes back."""
    async with proxied(tmp_path, mode="shadow") as (at, origin):
        origin.age = "max-age=0"
        for _ in range(3):
            answer = await at.get("/r/a")
            assert (200, b"first", "BYPASS") == (answer.status, answer.body, answer.x_cache)
        assert [None] * 3 == [one.headers.get("If-None-Match") for one in origin.asked]
        mine = {"If-None-Match": '"first"'}
        origin.age = "max-age=60"
        for path in ("/r/a", "/r/new"):
            answer = await at.get(path, headers=mine)
            assert (304, b"") == (answer.status, answer.body)
        assert 5 == len(origin.asked)


async def test_shadow_agrees_over_codings_variants_and_secrets(tmp_path: Path) -> None:
    """gzip made at another time, a language, and a field that would have been taken out are no difference."""
    async with proxied(tmp_path, mode="shadow") as (at, _):
        for path, headers in (
            ("/r/a.gz", {"Accept-Encoding": "gzip"}),
            ("/r/a", {"Accept-Language": "de"}),
            ("/r/a.json", {}),
        ):
            for _ in range(3):
                answer = await at.get(path, headers=headers)
                assert 200 == answer.status
        assert b"password_hash" in answer.body
        assert "disagree" not in checks(at, "shadow")
        assert checks(at, "shadow")["agree"] >= 4


async def test_a_share_of_resources_is_held_back(tmp_path: Path) -> None:
    """Upstream answers them, nothing else changes."""
    async with proxied(tmp_path, holdback="100%") as (at, origin):
        answers = [await at.get("/r/a") for _ in range(4)]
    assert ["MISS", "BYPASS", "BYPASS", "BYPASS"] == [one.x_cache for one in answers]
    assert "detail=holdback" in answers[1].headers["Cache-Status"]
    assert 4 == len(origin.asked)
    assert 3 == at.app.telemetry.stats()["reasons"]["holdback"]


async def test_a_stale_resource_is_found_and_dropped(tmp_path: Path) -> None:
    """The check asks for what the client asked for; a change past the proxy is counted, and costs one hit."""
    async with proxied(tmp_path, truth="100%") as (at, origin):
        mine = {"Accept-Language": "de", "If-None-Match": '"other"'}
        assert ["MISS", "HIT"] == [(await at.get("/r/a", headers=mine)).x_cache for _ in range(2)]
        await until(lambda: checks(at, "truth").get("agree") == 1)
        assert "de" == origin.asked[-1].headers["Accept-Language"]
        assert "If-None-Match" not in origin.asked[-1].headers
        origin.value = "second"
        assert b"firstde" == (await at.get("/r/a", headers=mine)).body
        await until(lambda: at.app.telemetry.stats()["evictions"].get("truth") == 1)
        answer = await at.get("/r/a", headers=mine)
        assert ("MISS", b"secondde") == (answer.x_cache, answer.body)
        told = at.app.telemetry.stats()
        assert {"agree": 1, "disagree": 1} == told["checks"]["truth"][ROUTE]
        assert [] == told["recent_evictions"][0]["ids"]


async def test_a_moment_of_upstream_says_nothing_of_a_resource(tmp_path: Path) -> None:
    """503 and 429 compare with nothing; the copy stays."""
    async with proxied(tmp_path, truth="100%") as (at, origin):
        assert "MISS" == (await at.get("/r/a")).x_cache
        for count, status in enumerate((503, 429), start=1):
            origin.status = status
            assert "HIT" == (await at.get("/r/a")).x_cache
            await until(lambda count=count: checks(at, "truth").get("uncompared") == count)
        assert "HIT" == (await at.get("/r/a")).x_cache
