"""A token of before a new password, on every kind of route that a token opens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from tests.http.test_walk_revoke_user import EMAIL, ME, Service, known, made
from tests.http.test_walk_revoke_user import ROUTES as FIRST
from tests.valkey import Valkey
from tests.walk import Bench, bench

ROUTES = f"""{FIRST.rstrip()}
  - {{match: "GET /caller/{{id:int}}", lookup: {{by: id, view: users}}, access: caller}}
  - {{match: "GET /own/{{id:int}}", lookup: {{by: id, view: users}}, access: owner}}
  - {{match: "GET /batch?ids={{ids:list}}", lookup: {{by: id, many: ids, view: users}}, access: token}}
  - {{match: "GET /files/{{name:path}}", resource: {{}}, access: token}}
"""
TARGETS = (*ME, EMAIL, "/caller/5", "/own/5", "/batch?ids=5,6", "/files/a")


class More(Service):
    """The same service with more to ask for, all of it for good tokens only."""

    async def one(self, request: web.Request) -> web.Response:
        """A user, by id."""
        self._whose(request)
        return self._user(request.match_info["id"])

    async def several(self, request: web.Request) -> web.Response:
        """Users, by id."""
        self._whose(request)
        ids = request.query["ids"].split(",")
        return web.json_response(
            [{"id": int(one), "email": f"user{one}@example.com", "is_active": True} for one in ids]
        )

    async def file(self, request: web.Request) -> web.Response:
        """Something that may be shared."""
        self._whose(request)
        return web.Response(body=b"x", headers={"Cache-Control": "public, max-age=60"})

    def app(self) -> web.Application:
        """The routes."""
        app = super().app()
        app.router.add_get("/caller/{id}", self.one)
        app.router.add_get("/own/{id}", self.one)
        app.router.add_get("/batch", self.several)
        app.router.add_get("/files/{name}", self.file)
        return app


@pytest_asyncio.fixture(name="b")
async def _b(tmp_path: Path) -> AsyncIterator[tuple[Bench, More]]:
    service = More()
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=service.app()) as b:
            yield b, service


async def refused(b: Bench, token: str) -> list[str]:
    """The targets that do not answer 401, of three tries each: the third one may be answered from here."""
    answers = [(target, (await b.get(target, token=token)).status) for target in TARGETS for _ in range(3)]
    return [target for target, status in answers if status != 401]


async def test_no_route_takes_a_token_of_before(b: tuple[Bench, More]) -> None:
    """Each had it answered from here up to then; and the new token of the same user changes nothing of it."""
    bench_, service = b
    old = made(5)
    await known(bench_, old, 5, 6, 7)
    for target in TARGETS:
        answers = [await bench_.get(target, token=old) for _ in range(3)]
        assert "HIT" == answers[-1].x_cache, target
    await bench_.ask("PUT", "/users/5", token=old, json={"password": "x"})
    for user in (5, 6, 7):
        await bench_.get(f"/users/{user}")

    assert [] == await refused(bench_, old)
    new = made(5, service.passwords["5"], 0)
    for target in TARGETS:
        answers = [await bench_.get(target, token=new) for _ in range(3)]
        assert (200, "HIT") == (answers[-1].status, answers[-1].x_cache), target
    assert [] == await refused(bench_, old)
