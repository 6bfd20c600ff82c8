"""Tokens in a cookie or in the query: as good as in Authorization, and nowhere written down."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web

from tests.answer import Answer
from tests.http.tokenservice import TokenService
from tests.valkey import Valkey
from tests.walk import SECRET, Bench, bench

ROUTES = """version: 1
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 60s}, introspection: {ttl: 60s}}
token_from: {%s: tok}
%s
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}%s}
  - {match: "GET /auth/introspect%s", introspect: {answer: upstream, view: introspection}}
  - {match: "POST /auth/logout", write: {revoke: token}}
  - {match: "GET /page", resource: {}}
"""
QUERY = "?tok={t}"
PLACES = pytest.mark.parametrize("place", ["cookie", "query"])
KINDS = pytest.mark.parametrize("opaque", [False, True], ids=["jwt", "opaque"])
Asked = tuple[int, str]


class Service(TokenService):
    """Reads the token where the settings say, and accepts it until it is logged out."""

    def token(self, request: web.Request) -> str:
        """From the cookie or the query."""
        return request.cookies.get("tok", request.query.get("tok", ""))

    def told(self, token: str) -> dict[str, Any] | None:
        """User 5's, whatever it is."""
        return {"active": True, "sub": "5"} if token else None

    async def page(self, _: web.Request) -> web.Response:
        """Anybody's."""
        return web.Response(text="page", headers={"Cache-Control": "max-age=60"})

    def app(self) -> web.Application:
        """The routes, and a resource."""
        app = super().app()
        app.router.add_get("/page", self.page)
        return app


class Client:
    """Asks with a token in its place."""

    def __init__(self, b: Bench, place: str, service: Service, valkey: Valkey) -> None:
        self.b, self.place, self.service, self.valkey = b, place, service, valkey

    async def ask(self, method: str, path: str, token: str, **headers: str) -> Answer:
        """One request."""
        if self.place == "query":
            return await self.b.ask(method, f"{path}?tok={token}", headers=headers)
        return await self.b.ask(method, path, headers={"Cookie": f"a=b; tok={token}", **headers})

    async def seen(self, token: str, **headers: str) -> Asked:
        """Status and X-Cache of the introspection."""
        answer = await self.ask("GET", "/auth/introspect", token, **headers)
        return answer.status, answer.x_cache


@asynccontextmanager
async def client(tmp_path: Path, place: str, *, opaque: bool) -> AsyncIterator[Client]:
    """A proxy over a Valkey of its own."""
    tokens = "" if opaque else "tokens: {secret_env: JWT_SECRET}"
    access = "" if opaque else ", access: token"
    routes = ROUTES % (place, tokens, access, QUERY if place == "query" else "")
    service = Service()
    with Valkey() as valkey:
        env = {"LOG_REQUESTS": "on", "LOG_HITS": "1"}
        started = bench(redis=valkey.url, upstream=service.app(), routes=routes, tmp_path=tmp_path, env=env)
        async with started as b:
            yield Client(b, place, service, valkey)


def token(n: int = 1, key: str = SECRET) -> str:
    """A good token of user 5."""
    return jwt.encode({"sub": "5", "exp": 4_000_000_000, "jti": n}, key, algorithm="HS256")


@PLACES
@KINDS
async def test_a_token_in_its_place(
    tmp_path: Path, place: str, opaque: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Answered per token, logged out like any; neither logs, Redis nor header fields hold it."""
    caplog.set_level(logging.DEBUG)
    async with client(tmp_path, place, opaque=opaque) as c:
        answers = [await c.ask("GET", "/auth/introspect", token(n)) for n in (1, 1, 2)]
        assert ["MISS", "HIT", "MISS"] == [one.x_cache for one in answers]
        page = [await c.ask("GET", "/page", token()) for _ in range(2)]
        # However a service takes a URL apart.
        page += [await c.b.get(f"/page?a=1;{name}={token()}") for name in ("tok", "t%6Fk") for _ in range(2)]
        assert place == "cookie" or ["BYPASS"] * 6 == [one.x_cache for one in page]
        held = b" ".join(
            key + b" ".join(c.valkey.ask("HVALS", key) if c.valkey.ask("TYPE", key) == b"hash" else [])
            for key in c.valkey.ask("KEYS", "*")
        )
        assert 204 == (await c.ask("POST", "/auth/logout", token())).status
        assert 401 == (await c.seen(token()))[0]
        assert 200 == (await c.seen(token(2)))[0]
    # The service under test logs what it is asked itself.
    ours = [one for one in caplog.records if not one.name.startswith("aiohttp.access")]
    logged = " ".join(str(one.__dict__) for one in ours)
    assert ours
    heads = str([dict(one.headers) for one in (*answers, *page)])
    for secret in (token(1), token(2)):
        assert secret not in logged + heads
        assert secret.encode() not in held


@PLACES
async def test_a_bad_token_in_its_place(tmp_path: Path, place: str) -> None:
    """Refused here, at no cost."""
    async with client(tmp_path, place, opaque=False) as c:
        assert 401 == (await c.seen(token(key=SECRET + "x")))[0]
        assert 0 == c.service.asked


@PLACES
@KINDS
async def test_what_upstream_may_read_otherwise_is_upstreams(
    tmp_path: Path, place: str, opaque: bool
) -> None:
    """Two tokens, an odd spelling, an Authorization line beside it: asked each time, nothing kept."""
    async with client(tmp_path, place, opaque=opaque) as c:
        beside = [await c.seen(token(), Authorization="Basic eDp4") for _ in range(2)]
        odd = [await c.seen(text) for text in ("a+b", "a%62c", '"abc"', "a%2Bb") * 2]
        assert [(200, "BYPASS")] * 2 == beside
        assert {"BYPASS"} == {x_cache for _, x_cache in odd}
        if place == "cookie":
            twice = f"tok={token(1)}; tok={token(2)}"
            answers = [await c.b.get("/auth/introspect", headers={"Cookie": twice}) for _ in range(2)]
            assert ["BYPASS"] * 2 == [one.x_cache for one in answers]
        bearer = await c.b.get("/auth/introspect", token=token())
        assert bearer.x_cache == "BYPASS"


async def test_a_cookie_opens_a_shared_copy(tmp_path: Path) -> None:
    """`access: token` takes it; without it upstream is asked."""
    async with client(tmp_path, "cookie", opaque=False) as c:
        seen = [(await c.ask("GET", "/users/5", token())).x_cache for _ in range(2)]
        assert ["MISS", "HIT"] == seen
        assert "BYPASS" == (await c.b.get("/users/5")).x_cache
        assert "BYPASS" == (await c.b.get("/users/5", token=token())).x_cache
