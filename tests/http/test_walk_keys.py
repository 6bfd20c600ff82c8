"""Tokens of public keys through the whole proxy: the service's own key set, and one that rotates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.core.headers import Headers
from proxy.core.model import Reason
from proxy.jwks import KeyServer
from tests.answer import Answer
from tests.http.test_admin import Worker
from tests.keys import jwk, jwks, pem, private
from tests.walk import Bench, bench

ROUTES = """version: 1
user: {keys: {email: {path: email, ignore_case: true}}, active: is_active, secrets: [hashed_password]}
views: {users: {ttl: 300s}, introspection: {ttl: 60s}}
tokens: {%s}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /auth/me", introspect: {answer: view, view: users}}
  - {match: "GET /auth/introspect", introspect: {answer: upstream, view: introspection}}
"""


async def until(ask: Callable[[], Any], good: Callable[[Answer], bool]) -> Answer:
    """Asks until the answer is good, for a while at most."""
    async with asyncio.timeout(10):
        while True:
            answer: Answer = await ask()
            if good(answer):
                return answer
            await asyncio.sleep(0.01)


class Rotating:
    """A key server whose set can be exchanged."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (503, b"")
        self.fetches = 0
        self.url = ""

    async def serve(self, _: web.Request) -> web.Response:
        """The set of now."""
        self.fetches += 1
        status, body = self.answer
        return web.Response(status=status, body=body, headers={"Cache-Control": "max-age=600"})


@asynccontextmanager
async def rotating() -> AsyncIterator[Rotating]:
    """One that listens."""
    keys = Rotating()
    app = web.Application()
    app.router.add_get("/keys", keys.serve)
    async with TestServer(app) as server:
        keys.url = str(server.make_url("/keys"))
        yield keys


def token_of(name: str, user: int = 5, kid: str | None = None, **claims: Any) -> str:
    """A token of a user, signed by the key of that name."""
    headers = {"kid": kid or name}
    return jwt.encode(
        {"sub": str(user), "exp": 4_000_000_000, **claims}, private(name), algorithm="RS256", headers=headers
    )


@pytest_asyncio.fixture(name="b")
async def _b(tmp_path: Path) -> AsyncIterator[Bench]:
    tokens = 'jwks_url: "{stub}/.well-known/jwks.json", issuer: users-api'
    async with bench(routes=ROUTES % tokens, tmp_path=tmp_path) as started:
        yield started


async def login(b: Bench) -> str:
    """A token that the service signed with its RSA key."""
    user = await b.ask("GET", "/users/5", base=b.stub)
    body = {"username": user.json()["username"], "password": "password-5", "alg": "RS256"}
    answer = await b.ask("POST", "/auth/login", json=body)
    assert 200 == answer.status, answer.body
    return str(answer.json()["access_token"])


async def test_a_token_of_the_service_is_proven_here(b: Bench) -> None:
    """Its key comes from the service's set, and then a hit costs the service nothing."""
    token = await login(b)
    await until(lambda: b.get("/auth/me", token=token), lambda answer: answer.x_cache == "HIT")
    before = await b.calls()
    answers = [await b.get(target, token=token) for target in ("/auth/me", "/users/5", "/auth/me")]

    assert [(200, "HIT")] * 3 == [(answer.status, answer.x_cache) for answer in answers]
    assert before == await b.calls()
    assert 1 == before["jwks"]


async def test_a_forged_token_is_refused_here(b: Bench) -> None:
    """The right kid and the wrong key: 401, and the service is not asked."""
    token = await login(b)
    await until(lambda: b.get("/auth/me", token=token), lambda answer: answer.x_cache == "HIT")
    kid = jwt.get_unverified_header(token)["kid"]
    before = await b.calls()
    answer = await b.get("/auth/me", token=token_of("rsa-evil", kid=kid, iss="users-api"))

    assert (401, f"detail={Reason.TOKEN_SIGNATURE}") == (answer.status, answer.cache_status.split("; ")[1])
    assert before == await b.calls()


@pytest.mark.parametrize("target", ["/auth/me", "/auth/introspect", "/users/5"])
@pytest.mark.parametrize("authorization", ["Bearer x", "Bearer", "Bearer a.b.c", "token"])
async def test_without_keys_the_service_decides(tmp_path: Path, target: str, authorization: str) -> None:
    """No token is refused here while there is nothing to judge it by."""
    async with rotating() as keys, bench(routes=ROUTES % f'jwks_url: "{keys.url}"', tmp_path=tmp_path) as b:
        sent = token_of("rsa") if authorization == "token" else ""
        answer = await b.get(target, headers={"Authorization": f"Bearer {sent}" if sent else authorization})
        direct = await b.ask("GET", target, headers={"Authorization": authorization}, base=b.stub)

    assert (direct.status, "BYPASS") == (answer.status, answer.x_cache)
    assert f"detail={Reason.TOKEN_KEYS_MISSING}" in answer.cache_status


async def me(_: web.Request) -> web.Response:
    """Always the same user."""
    return web.json_response({"id": 5, "email": "a@b.example", "is_active": True})


def trusting() -> web.Application:
    """A service that trusts every token."""
    app = web.Application()
    app.router.add_get("/auth/me", me)
    return app


async def test_keys_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is fetched when its first token comes, which is forwarded; a removed one is good no more."""
    monkeypatch.setattr("proxy.jwks.REFETCH", 0.0)
    async with (
        rotating() as keys,
        bench(routes=ROUTES % f'jwks_url: "{keys.url}"', tmp_path=tmp_path, upstream=trusting()) as b,
    ):
        old, new = token_of("rsa", iat=1), token_of("rsa-new")
        keys.answer = (200, jwks(jwk("rsa", "rsa")))
        await until(lambda: b.get("/auth/me", token=old), lambda answer: answer.x_cache == "HIT")
        keys.answer = (200, jwks(jwk("rsa-new", "rsa-new")))
        first = await b.get("/auth/me", token=new)
        await until(lambda: b.get("/auth/me", token=new), lambda answer: answer.x_cache == "HIT")
        removed = await b.get("/auth/me", token=old)
        keys.answer = (200, b"not json")
        fetches = keys.fetches
        await b.get("/auth/me", token=token_of("rsa-third"))
        await until(lambda: b.get("/auth/me", token=new), lambda answer: keys.fetches > fetches)
        kept = await b.get("/auth/me", token=new)

    assert ("BYPASS", 200) == (first.x_cache, first.status)
    assert f"detail={Reason.TOKEN_KEYS_MISSING}" in first.cache_status
    assert (401, "HIT") == (removed.status, kept.x_cache)


async def test_a_file_of_keys(tmp_path: Path) -> None:
    """It lies beside the routes file, and there is nothing to wait for."""
    (tmp_path / "keys.pem").write_bytes(pem("p256") + pem("rsa"))
    routes = ROUTES % "public_key_file: keys.pem"
    async with bench(routes=routes, tmp_path=tmp_path, upstream=trusting()) as b:
        await b.get("/auth/me", token=token_of("rsa", kid="any"))
        answers = [
            await b.get("/auth/me", token=token_of("rsa", jti="x")),
            await b.get("/auth/me", token=token_of("rsa-evil")),
        ]

    assert [(200, "HIT"), (401, "BYPASS")] == [(answer.status, answer.x_cache) for answer in answers]


async def test_ready_says_that_there_are_no_keys_yet() -> None:
    """503 until the first key; the counters and the health of the keys are told."""
    answers: list[tuple[int, Headers, bytes]] = []

    async def fetch() -> tuple[int, Headers, bytes]:
        return answers.pop()

    worker = Worker()
    server = KeyServer(fetch, lambda _: None)
    worker.admin.duties = replace(worker.admin.duties, keys=server)
    async with worker.cache, TestClient(TestServer(worker.admin.app())) as client:
        await server.refresh()
        before = await client.get("/readyz")
        told = await before.json()
        answers.append((200, Headers(), jwks(jwk("rsa", "k"))))
        await server.refresh()
        after = await client.get("/readyz")
        stats = await (await client.get("/stats")).json()
        health = await (await client.get("/health")).json()
        metrics = await (await client.get("/metrics")).text()

    assert (503, "no keys yet", 200) == (before.status, told["token_keys"], after.status)
    assert {"ok": 1, "failed": 1} == stats["key_fetches"]
    assert ("ok", 1) == (health["token_keys"]["status"], health["token_keys"]["keys"])
    assert 'user_cache_proxy_key_fetches_total{result="failed"} 1.0' in metrics
    assert "user_cache_proxy_token_keys_age_seconds " in metrics
