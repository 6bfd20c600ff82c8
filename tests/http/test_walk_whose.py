"""Writes by routes of their own: whom they name is found out before upstream hears of them, or noted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from proxy.core.model import Batch, Fence
from tests.walk import Bench, bench, token_for

ROUTES = """version: 1
user: {keys: {email: {path: email, ignore_case: true}, username: {path: username}}}
views: {users: {ttl: 60s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /people?mail={email}", lookup: {by: email, view: users}, access: token}
  - {match: "GET /mails/{email}", lookup: {by: email, view: users}, access: token}
  - {match: "POST /off/{email}", write: {evict: [{email: path.email}]}}
  - {match: "POST /rename", write: {evict: [{email: request.who.email}]}}
  - {match: "POST /named/{username}", write: {evict: [{username: path.username}]}}
  - {match: "POST /next", write: {evict: [{id: response.user.id}]}}
  - {match: "POST /either/{id}/{username}", write: {evict: [{id: path.id}, {username: path.username}]}}
  - {match: "POST /both/{id}", write: {evict: [{id: path.id}, {id: response.user.id}]}}
"""
MAIL = "ada+1@x"


class Service:
    """A service with one user; its writes wait for `gate` and name nobody but at /next and /both."""

    def __init__(self) -> None:
        self.looked: list[tuple[str, str]] = []
        self.status = 200
        self.outcome = 200
        self.waiting = asyncio.Event()
        self.gate = asyncio.Event()

    async def user(self, request: web.Request) -> web.Response:
        """User 5, without an e-mail: what is stored of it does not show whose that is."""
        return web.json_response({"id": 5, "username": "ada"})

    async def person(self, request: web.Request) -> web.Response:
        """The same by e-mail; who asks, and how, is noted. It is a question, whatever the write is."""
        assert "X-HTTP-Method-Override" not in request.headers
        self.looked.append((request.raw_path, request.headers.get("Authorization", "")))
        if request.transport is not None and not self.status:
            request.transport.abort()
        known = MAIL in (request.query.get("mail", "").lower(), request.match_info.get("mail"))
        return web.json_response({"id": 5, "email": MAIL}, status=(self.status or 500) if known else 404)

    async def write(self, request: web.Request) -> web.Response:
        """Any write."""
        self.waiting.set()
        await self.gate.wait()
        if self.outcome != 200:
            if request.transport is not None and not self.outcome:
                request.transport.abort()
            return web.json_response({}, status=self.outcome or 500)
        if request.path == "/next" or request.path.startswith("/both/"):
            return web.json_response({"user": {"id": 5}})
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/users/{id}", self.user)
        app.router.add_get("/people", self.person)
        app.router.add_get("/mails/{mail}", self.person)
        app.router.add_post("/{any:.*}", self.write)
        app.router.add_patch("/{any:.*}", self.write)
        return app


class Case:
    """One proxy before one service, and the fences that writes raise."""

    def __init__(self, b: Bench, service: Service) -> None:
        self.b = b
        self.service = service
        self.fences: list[Batch] = []
        fence = b.app.cache.store.fence

        async def noted(batch: Batch) -> Fence:
            self.fences.append(batch)
            return await fence(batch)

        b.app.cache.store.fence = noted  # type: ignore[method-assign]

    async def during(
        self, target: str, token: str | None = None, json: Any = None, method: str = "POST"
    ) -> str:
        """How user 5 is answered while that write is under way; then the write ends."""
        assert ["MISS", "HIT"] == [(await self.b.get("/users/5")).x_cache for _ in range(2)]
        tricky = {"X-HTTP-Method-Override": "DELETE"}
        writer = asyncio.ensure_future(self.b.ask(method, target, json=json, token=token, headers=tricky))
        await self.service.waiting.wait()
        seen = (await self.b.get("/users/5")).x_cache
        self.service.gate.set()
        assert (await writer).status in (200, 204)
        return seen


@pytest_asyncio.fixture(name="c")
async def _c(tmp_path: Path) -> AsyncIterator[Case]:
    service = Service()
    async with bench(upstream=service.app(), routes=ROUTES, tmp_path=tmp_path) as b:
        yield Case(b, service)


@pytest.mark.parametrize(
    ("target", "json"), [("/off/ADA+1@x", None), ("/rename", {"who": {"email": MAIL}, "to": "b@x"})]
)
async def test_upstream_is_asked_by_a_look_up_of_the_same_key(c: Case, target: str, json: Any) -> None:
    """With the writer's own token; the user is fenced before the write, and evicted after it alone."""
    token = token_for(5)
    assert "MISS" == await c.during(target, token, json)

    spelled = "ADA" if target.startswith("/off") else "ada"
    assert [(f"/people?mail={spelled}%2B1%40x", f"Bearer {token}")] == c.service.looked
    assert [Batch(("5",), (("email", MAIL),))] == c.fences
    assert "MISS" == (await c.b.get("/users/5")).x_cache


async def test_a_write_on_the_path_of_a_look_up_is_asked_for_there(c: Case) -> None:
    """Another one by that key comes before it, and may say something else."""
    assert "MISS" == await c.during(f"/mails/{MAIL}", token_for(5), method="PATCH")
    assert ["/mails/ada%2B1%40x"] == [target for target, _ in c.service.looked]
    assert [("5",)] == [batch.users for batch in c.fences]


async def test_where_nothing_is_served_from_here_nothing_is_asked(tmp_path: Path) -> None:
    """A roll-out adds no load to the service."""
    service = Service()
    service.gate.set()
    async with bench(upstream=service.app(), routes=ROUTES, tmp_path=tmp_path, env={"MODE": "shadow"}) as b:
        c = Case(b, service)
        assert 204 == (await b.ask("POST", f"/off/{MAIL}", token=token_for(5))).status
        assert ([], [Batch((), (("email", MAIL),), unnamed=True)]) == (service.looked, c.fences)


async def test_an_alias_that_a_stored_user_has_costs_no_call(c: Case) -> None:
    """Its copy proves whose it is."""
    await c.b.get("/people?mail=ada%2B1%40x", token=token_for(5))
    c.service.looked.clear()
    assert 200 == (await c.b.get("/users/5")).status
    writer = asyncio.ensure_future(c.b.ask("POST", f"/off/{MAIL}", token=token_for(5)))
    await c.service.waiting.wait()
    c.service.gate.set()
    await writer

    assert ([], [Batch(("5",), (("email", MAIL),))]) == (c.service.looked, c.fences)


@pytest.mark.parametrize(
    ("target", "json", "asked"),
    [
        ("/off/nobody@x", None, 1),  # upstream knows nobody
        ("/rename", {"who": {"email": [f"n{n}@x" for n in range(9)]}}, 4),  # and is asked so often at most
        ("/off/ada%2F1@x", None, 0),  # no look-up's path can say that
        ("/named/ada", None, 0),  # there is no look-up by that key
        ("/rename", {"to": "b@x"}, 0),  # the request does not say
        ("/next", None, 0),  # only the answer tells
        ("/both/6", None, 0),
        ("/either/6/ada", None, 0),  # one of two is known
    ],
)
async def test_whom_nobody_can_name_is_noted(c: Case, target: str, json: Any, asked: int) -> None:
    """So that the copies go though the proxy may die; the write's own answer counts all the same."""
    await c.during(target, token_for(5), json)

    assert [True] == [batch.unnamed for batch in c.fences]
    assert asked == len(c.service.looked)
    assert "MISS" == (await c.b.get("/users/5")).x_cache


@pytest.mark.parametrize("status", [500, 0], ids=["error", "reset"])
async def test_a_failed_question_is_no_failure_of_the_write(c: Case, status: int) -> None:
    """The write goes on, with a note."""
    c.service.status = status
    assert "HIT" == await c.during(f"/off/{MAIL}", token_for(5))
    assert [Batch((), (("email", MAIL),), unnamed=True)] == c.fences


@pytest.mark.parametrize("outcome", [500, 0], ids=["error", "reset"])
async def test_whom_no_answer_names_may_be_changed_all_the_same(c: Case, outcome: int) -> None:
    """One user of the write is known, the other only its answer would have told: everybody goes."""
    await c.b.get("/users/5")
    c.service.outcome = outcome
    c.service.gate.set()
    assert (await c.b.ask("POST", "/both/6", token=token_for(5))).status in (500, 502)

    assert "MISS" == (await c.b.get("/users/5")).x_cache


@pytest.mark.parametrize("token", [None, token_for(5, exp=1)], ids=["without", "expired"])
async def test_without_a_good_token_upstream_is_not_asked(c: Case, token: str | None) -> None:
    """The look-up asks for one; and a token that is provably bad leaves not even a note."""
    await c.during(f"/off/{MAIL}", token)

    assert [] == c.service.looked
    assert [token is None] == [batch.unnamed for batch in c.fences]
