"""The clauses of RFC 9111 as a table (cases.yaml), each proven by how often the origin was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from multidict import CIMultiDict

from tests.answer import Answer
from tests.valkey import Valkey
from tests.walk import Bench, bench

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text("utf-8"))
ROUTES = """\
version: 1
upstream: {{url: "{{stub}}"}}
routes:
  - {{match: "GET /r/{{any:path}}", resource: {options}}}
"""


class Origin:
    """Plays what a step says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.step: dict[str, Any] = {}
        self.asked: list[web.Request] = []

    async def play(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        await request.read()
        step = self.step
        if step.get("breaks"):
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in (step.get("gives") or {}).items():
            for one in value if isinstance(value, list) else [value]:
                headers.add(name, str(one))
        if step.get("confuses") and "If-None-Match" in request.headers:
            return web.Response(status=304, headers=headers)
        if step.get("validates") and request.headers.get("If-None-Match") == headers.get("ETag"):
            return web.Response(status=304, headers=headers)
        return web.Response(
            status=step.get("status", 200), headers=headers, text=step.get("body", "the body")
        )


@pytest.fixture(scope="module", params=["memory", "redis"])
def redis(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """No Redis, or a real server."""
    if request.param == "memory":
        yield None
        return
    with Valkey() as server:
        yield server.url


async def played(one: Bench, origin: Origin, path: str, step: dict[str, Any]) -> tuple[Answer, int]:
    """The answer to one step, and how often the origin was asked for it."""
    before = len(origin.asked)
    origin.step = step
    target = path + step.get("more", "")
    answer = await one.ask(step.get("method", "GET"), target, headers=CIMultiDict(_lines(step.get("asks"))))
    return answer, len(origin.asked) - before


def _lines(asks: dict[str, Any] | None) -> list[tuple[str, str]]:
    return [
        (name, str(one))
        for name, value in (asks or {}).items()
        for one in (value if isinstance(value, list) else [value])
    ]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_a_clause(case: dict[str, Any], redis: str | None, tmp_path: Path) -> None:
    """What the RFC says of this case holds, with memory alone and with a shared store."""
    origin = Origin()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", origin.play)
    options = str(case.get("options", {})).replace("'", "")
    routes = ROUTES.format(options=options)
    async with bench(routes=routes, tmp_path=tmp_path, redis=redis, upstream=app) as one:
        for number, step in enumerate(case["steps"]):
            answer, asked = await played(one, origin, f"/r/{case['id']}", step)
            told = f"{case['rfc']}, step {number}: {answer.cache_status}"
            if step.get("upstream", 0) is not None:
                assert step.get("upstream", 0) == asked, told
            assert step.get("answers", step.get("status", 200)) == answer.status, told
            if "shows" in step:
                assert step["shows"] == answer.body.decode(), told
            for name, value in (step.get("has") or {}).items():
                assert value == answer.headers.get(name), (name, told)
            for name, value in (step.get("asked") or {}).items():
                assert value == origin.asked[-1].headers.get(name), (name, told)
            if "detail" in step:
                assert f"detail={step['detail']}" in answer.cache_status, told
