"""Callers with a good token, of whom nobody here knows whether they are active: upstream's word, no more."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web

from proxy.core.model import Entry, Ref
from tests.valkey import Valkey
from tests.walk import SECRET, Bench, bench, token_for

ROUTES = """version: 1
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 300s, negative_ttl: 60s}}
tokens: {secret_env: JWT_SECRET}
limits: {not_found: 3}
routes:
  - {match: "GET /open/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /open/{email}", lookup: {by: email, view: users}, access: token}
  - {match: "GET /strict/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /people/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /own/{id:int}", lookup: {by: id, view: users}, access: caller}
  - {match: "GET /mails/{email}", lookup: {by: email, view: users}, access: owner}
  - {match: "GET /me", introspect: {answer: view, view: users}}
  - {match: "POST /password", write: {revoke: user}}
"""
ACTIVE, INACTIVE, GONE, OUT, UNSAID = 5, 12, 13, 14, 15


class Service:
    """Asks nobody who they are on /open, and everybody on /strict; a token of a user who is gone gets a 404,
    and one who has to log in is told so with a page.
    A token is good up to the new password."""

    def __init__(self) -> None:
        self.calls = 0
        self.renewed = 0.0

    def _claims(self, request: web.Request) -> dict[str, Any]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"])
        return claims

    def _user(self, number: int) -> web.Response:
        told = {"id": number, "email": f"user{number}@example.com", "is_active": number != INACTIVE}
        if number == UNSAID:
            del told["is_active"]
        return web.json_response(told)

    async def open(self, request: web.Request) -> web.Response:
        """Anybody, for anybody, but for tokens of users who are gone."""
        self.calls += 1
        key = request.match_info["key"].removeprefix("user").removesuffix("@example.com")
        if int(self._claims(request)["sub"]) == GONE or not key.isdecimal():
            return web.json_response({"detail": "no such user"}, status=404)
        if int(self._claims(request)["sub"]) == OUT:
            return web.Response(text="<form>Log in</form>", content_type="text/html")
        return self._user(int(key))

    async def strict(self, request: web.Request) -> web.Response:
        """For active users with a token of their password."""
        self.calls += 1
        claims = self._claims(request)
        if int(claims["sub"]) in (INACTIVE, GONE) or claims.get("iat", 0) < self.renewed:
            raise web.HTTPUnauthorized
        answer = self._user(int(request.match_info.get("key", claims["sub"])))
        if request.path.startswith("/own/"):
            answer.headers["Cache-Control"] = "private"
        return answer

    async def people(self, request: web.Request) -> web.Response:
        """Anybody; a PUT changes nothing."""
        return self._user(int(request.match_info["key"]))

    async def password(self, _: web.Request) -> web.Response:
        """A new one."""
        self.renewed = time.time()
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/open/{key}", self.open)
        app.router.add_get("/mails/{key}", self.open)
        app.router.add_get("/strict/{key}", self.strict)
        app.router.add_get("/own/{key}", self.strict)
        app.router.add_get("/me", self.strict)
        app.router.add_route("*", "/people/{key}", self.people)
        app.router.add_post("/password", self.password)
        return app


@pytest_asyncio.fixture(name="b")
async def _b(s: Service, tmp_path: Path) -> AsyncIterator[Bench]:
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            yield b


async def test_what_one_route_accepts_another_may_refuse(b: Bench, s: Service) -> None:
    """The copy is one for both. That the service gave it to an inactive user on the one opens it there; on
    the other the service is asked, and says no."""
    token = token_for(INACTIVE)
    await b.get(f"/people/{ACTIVE}")

    opened = [await b.get(f"/open/{ACTIVE}", token=token) for _ in range(3)]
    closed = [await b.get(f"/strict/{ACTIVE}", token=token) for _ in range(3)]

    assert ["MISS", "HIT", "HIT"] == [one.x_cache for one in opened]
    assert [401] * 3 == [one.status for one in closed]
    assert 4 == s.calls
    # Once they are known to be inactive nothing is opened anywhere, and upstream decides each time.
    await b.ask("PUT", f"/people/{INACTIVE}", json={})
    await b.get(f"/people/{INACTIVE}")
    again = [await b.get(f"/open/{ACTIVE}", token=token) for _ in range(3)]
    assert ["BYPASS"] * 3 == [one.x_cache for one in again]


async def test_who_is_shown_to_be_inactive_was_not_accepted(b: Bench) -> None:
    """By the answer to their own first question."""
    token = token_for(INACTIVE)
    await b.get(f"/people/{ACTIVE}")
    await b.get(f"/open/{INACTIVE}", token=token)

    answer = await b.get(f"/open/{ACTIVE}", token=token)

    assert (200, "BYPASS") == (answer.status, answer.x_cache)
    assert "detail=user-inactive" in answer.cache_status


async def test_an_old_token_that_one_route_takes_is_good_nowhere_else(b: Bench, s: Service) -> None:
    """A route that asks for no good token says nothing about one of before a new password."""
    old = token_for(ACTIVE, iat=int(time.time() - 100))
    await b.get(f"/people/{ACTIVE}")
    assert 200 == (await b.get("/me", token=old)).status
    await b.ask("POST", "/password", token=old)
    for path in (f"/people/{ACTIVE}", f"/people/{ACTIVE}"):
        await b.get(path)

    opened = [await b.get(f"/open/{ACTIVE}", token=old) for _ in range(3)]

    assert (200, "HIT") == (opened[-1].status, opened[-1].x_cache)
    for path in ("/me", f"/strict/{ACTIVE}", "/me", f"/strict/{ACTIVE}"):
        assert 401 == (await b.get(path, token=old)).status, path
    assert s.renewed


async def test_a_copy_that_does_not_say_it_says_nothing_of_a_caller(b: Bench) -> None:
    """Where the settings name a member that is not there."""
    for user in (ACTIVE, UNSAID):
        await b.get(f"/people/{user}")

    asked = [await b.get(f"/open/{ACTIVE}", token=token_for(UNSAID)) for _ in range(2)]

    assert ["MISS", "HIT"] == [one.x_cache for one in asked]
    assert "detail=token-user-unknown" in asked[0].cache_status


async def test_what_has_run_out_says_nothing_of_a_caller(b: Bench) -> None:
    """A stale copy may stand in for an error, and shows nobody to be active."""
    ref, now = Ref("id", "6", "users"), time.time()
    stale = Entry(user_id="6", active=True, status=200, stored=now - 9, expires=now - 1, dead=now + 60)
    assert None is await b.app.cache.fill(ref, stale, await b.app.cache.ticket(ref))
    await b.get(f"/people/{ACTIVE}")

    answer = await b.get(f"/open/{ACTIVE}", token=token_for(6))

    assert ("MISS", True) == (answer.x_cache, "detail=token-user-unknown" in answer.cache_status)


async def test_whose_an_address_is_the_answer_tells(b: Bench, s: Service) -> None:
    """`owner` by another key than the id: somebody else is answered each time, and shares nothing."""
    mail, mine, other = f"/mails/user{ACTIVE}@example.com", token_for(ACTIVE), token_for(6)
    for user in (6, 7):
        await b.get(f"/people/{user}")
    for _ in range(2):
        answer = await b.get(mail, token=other)
        assert (200, "MISS", True) == (answer.status, answer.x_cache, "not-owner" in answer.cache_status)

    assert ["MISS", "HIT"] == [(await b.get(mail, token=mine)).x_cache for _ in range(2)]
    assert (200, "MISS") == ((answer := await b.get(mail, token=other)).status, answer.x_cache)


async def test_a_callers_own_copy_is_theirs_and_ends_with_the_token(b: Bench) -> None:
    """Nobody could ask for it any more. It may be kept though it is private: it is theirs."""
    token = token_for(ACTIVE, exp=int(time.time()) + 30)

    answers = [await b.get(f"/own/{ACTIVE}", token=token) for _ in range(2)]

    assert ["MISS", "HIT"] == [one.x_cache for one in answers]
    assert all(25 <= int(one.cache_status.split("ttl=")[1].split(";")[0]) <= 30 for one in answers)


@pytest.mark.parametrize(("method", "user"), [("GET", OUT), ("HEAD", 6), ("HEAD", OUT)])
async def test_an_answer_that_shows_no_user_is_no_acceptance(b: Bench, method: str, user: int) -> None:
    """Though its status is 200."""
    await b.get(f"/people/{ACTIVE}")
    for _ in range(2):
        answer = await b.ask(method, f"/open/{ACTIVE}", token=token_for(user))
        assert (200, "MISS") == (answer.status, answer.x_cache)

    assert "MISS" == (await b.get(f"/open/{ACTIVE}", token=token_for(user))).x_cache


@pytest.mark.parametrize("key", [str(ACTIVE), f"user{ACTIVE}@example.com"])
async def test_not_found_may_be_said_of_the_caller(b: Bench, key: str) -> None:
    """A service that says it to tokens of deleted users leaves no word here that somebody else is nobody."""
    for _ in range(2):
        answer = await b.get(f"/open/{key}", token=token_for(GONE))
        assert (404, "MISS") == (answer.status, answer.x_cache)
        assert "stored=?0" in answer.cache_status

    found = await b.get(f"/open/{key}", token=token_for(ACTIVE))

    assert (200, "MISS") == (found.status, found.x_cache)


async def test_whoever_nobody_knows_has_a_budget_as_well(b: Bench) -> None:
    """Of look-ups that find nobody: beyond it they leave nothing behind, as other clients' do."""
    token = token_for(GONE)
    reasons = [(await b.get(f"/open/nobody{n}", token=token)).cache_status for n in range(5)]
    assert all("token-user-unknown" in one for one in reasons)

    answer = await b.get("/open/nobody", token=token_for(ACTIVE))
    again = await b.get("/open/user5@example.com", token=token_for(ACTIVE))
    beyond = await b.get("/open/nobody", token=token_for(ACTIVE))

    assert (404, 200, 404) == (answer.status, again.status, beyond.status)
    assert "detail=too-many-misses" in beyond.cache_status
