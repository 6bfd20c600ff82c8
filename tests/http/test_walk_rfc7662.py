"""`answer: rfc7662` through the whole proxy: standard answers, made here."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import jwt
import pytest
from aiohttp import web

from proxy.core.bearer import token_hash
from proxy.core.headers import Headers
from proxy.core.model import Found, Reason, Ref, Request
from tests.answer import Answer
from tests.badtokens import BAD_TOKENS
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

ROUTES = """version: 1
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 300s, negative_ttl: 60s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - match: "GET /introspect"
    introspect: {answer: rfc7662, view: users, claims: [role]}
  - {match: "GET /required", introspect: {answer: rfc7662, view: users}, require: {scope: read}}
  - {match: "POST /logout", write: {revoke: token}}
"""


class Service:
    """A service with one user in every number; what it says of tokens is the test's to change."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.active = True
        self.told: dict[str, Any] = {"username": "told"}
        self.headers: dict[str, str] = {}
        self.gate: asyncio.Event | None = None

    async def user(self, request: web.Request) -> web.Response:
        """A user; the one with the number 404 is not there."""
        self.calls.append("user")
        number = int(request.match_info["id"])
        if request.method == "PATCH":
            self.active = (await request.json())["is_active"]
        user = {"id": number, "username": f"u{number}", "email": "a@example.com", "is_active": self.active}
        return web.json_response(user, status=404 if number == 404 else 200)

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662, without a look at the signature."""
        self.calls.append("introspect")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        answer = {"active": True, "sub": claims["sub"], **self.told} if self.active else {"active": False}
        if self.gate is not None:
            await self.gate.wait()
        return web.json_response(answer, headers=self.headers)

    async def out(self, _: web.Request) -> web.Response:
        """Every logout is fine."""
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/introspect", self.introspect)
        app.router.add_get("/required", self.introspect)
        app.router.add_get("/users/{id}", self.user)
        app.router.add_patch("/users/{id}", self.user)
        app.router.add_post("/logout", self.out)
        return app


async def ask(b: Bench, token: str, **more: Any) -> Answer:
    """The introspection of a token."""
    return await b.get("/introspect", token=token, **more)


async def test_a_new_token_of_a_known_user_costs_nothing(b: Bench, s: Service) -> None:
    """Claims are proven here, the user is the copy of the look-ups; only the username of it is shown."""
    await b.get("/users/5")
    exp = int(time.time()) + 60
    answer = await ask(b, token_for(5, exp=exp, scope="read", role="admin", tenant="t", client_id="app"))

    expected = {
        "active": True,
        "sub": "5",
        "token_type": "Bearer",
        "exp": exp,
        "scope": "read",
        "client_id": "app",
        "role": "admin",
        "username": "u5",
    }
    assert (200, "HIT", expected) == (answer.status, answer.x_cache, answer.json())
    assert "no-store" == answer.headers["Cache-Control"]
    assert ["user"] == s.calls


BAD = BAD_TOKENS | {
    "gone": token_for(404),
    "logged out": token_for(5, jti="out"),
}


async def test_a_bad_token_is_inactive_and_nobody_learns_why(b: Bench, s: Service) -> None:
    """The same bytes for all of them, in header and body, and upstream is not asked."""
    await b.get("/users/404")
    await b.ask("POST", "/logout", token=BAD["logged out"])
    s.calls.clear()
    answers = {name: await ask(b, token) for name, token in BAD.items()}

    assert [] == s.calls
    assert {b'{"active":false}'} == {one.body for one in answers.values()}
    assert {(401, "BYPASS")} == {(one.status, one.x_cache) for one in answers.values()}
    heads = {tuple((k, v) for k, v in one.headers.items() if k != "Date") for one in answers.values()}
    assert 1 == len(heads)
    assert "user-cache-proxy; detail=token-inactive" == answers["expired"].cache_status


async def test_an_unknown_user_is_asked_for_once(b: Bench, s: Service) -> None:
    """Upstream's own answer passes, and what it tells of the user serves their other tokens."""
    first = await ask(b, token_for(5, jti="1"))
    second = await ask(b, token_for(5, jti="2"))

    assert ("MISS", {"active": True, "sub": "5", "username": "told"}) == (first.x_cache, first.json())
    assert ("HIT", "told", "2") == (second.x_cache, second.json()["username"], second.json()["jti"])
    assert ["introspect"] == s.calls


async def test_many_who_ask_about_one_unknown_user_cost_one_call(b: Bench, s: Service) -> None:
    """They wait for the first, each with a token of their own."""
    s.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(ask(b, token_for(5, jti=str(n)))) for n in range(20)]
    for _ in range(500):
        if s.calls:
            break
        await asyncio.sleep(0.01)
    s.gate.set()
    answers = await asyncio.gather(*waiting)

    assert ["introspect"] == s.calls
    assert 20 == sum(one.json()["active"] for one in answers)
    # Upstream's own answer to one of them, whichever came first, and each of the others its own.
    said = [one.json().get("jti") for one in answers]
    assert {None: 1} | dict.fromkeys({str(n) for n in range(20)} & {*said}, 1) == Counter(said)


async def test_a_slow_answer_vouches_for_nobody_after_a_write(b: Bench, s: Service) -> None:
    """It was read before the deactivation: it passes, and nothing is learnt from it."""
    s.gate = asyncio.Event()
    slow = asyncio.ensure_future(ask(b, token_for(5)))
    for _ in range(500):
        if s.calls:
            break
        await asyncio.sleep(0.01)
    await b.ask("PATCH", "/users/5", json={"is_active": False}, token=token_for(1))
    s.gate.set()
    assert (await slow).json()["active"]

    assert {"active": False} == (await ask(b, token_for(5))).json()


async def test_explain_says_what_would_be(b: Bench) -> None:
    """Why a token is not good as well: operators may know. Of a form nothing is asked for."""

    async def explained(token: str, method: str = "GET") -> tuple[str, str | None]:
        lines = ((b"Authorization", f"Bearer {token}".encode()),) if token else ()
        told = await b.app.operators.duties.explain(Request(method, "/introspect", Headers(lines)))
        assert token not in str(told) or not token
        return told["would_be"], told["reason"]

    cold = await explained(token_for(5))
    await b.get("/users/5")
    await b.get("/users/404")
    seen = [await explained(token) for token in (token_for(5), token_for(5, exp=1), token_for(404), "")]

    assert ("MISS", "absent") == cold
    assert [
        ("HIT", None),
        ("401", "token-expired"),
        ("401", "user-gone"),
        ("BYPASS", "token-missing"),
    ] == seen


async def test_upstream_that_says_no_to_a_good_token(b: Bench, s: Service) -> None:
    """Nothing is kept: it is asked each time."""
    s.active = False
    answers = [await ask(b, token_for(5)) for _ in range(3)]

    assert [({"active": False}, "MISS")] * 3 == [(one.json(), one.x_cache) for one in answers]
    assert 3 == len(s.calls)


@pytest.mark.parametrize("control", ["no-store", "private", "no-cache"])
async def test_an_answer_that_must_not_be_stored(b: Bench, s: Service, control: str) -> None:
    """Nothing that it tells of the user is kept."""
    s.headers = {"Cache-Control": control}
    for _ in range(2):
        assert "MISS" == (await ask(b, token_for(5))).x_cache

    await b.get("/users/5")
    assert "HIT" == (await ask(b, token_for(5))).x_cache


async def test_a_stale_copy_proves_nothing(s: Service, tmp_path: Path) -> None:
    """It may show a user where `stale_while_revalidate` says so, but not that a token is good."""
    routes = ROUTES.replace("users: {ttl: 300s", "users: {ttl: 20ms, stale_while_revalidate: 60s")
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        await b.get("/users/5")
        await asyncio.sleep(0.03)
        answer = await ask(b, token_for(5))

    assert ("MISS", True) == (answer.x_cache, "detail=expired" in answer.cache_status)


async def test_a_deactivation_ends_every_token(b: Bench, s: Service) -> None:
    """From the moment it is answered; and when the user is known again, from here."""
    for n in range(3):
        await ask(b, token_for(5, jti=str(n)))
    await b.ask("PATCH", "/users/5", json={"is_active": False}, token=token_for(1))
    after = [(await ask(b, token_for(5, jti=str(n)))).json() for n in range(3)]
    await b.get("/users/5")
    s.calls.clear()
    again = await ask(b, token_for(5, jti="0"))

    assert [{"active": False}] * 3 == after
    assert ({"active": False}, []) == (again.json(), s.calls)


async def test_a_ready_answer_ends_with_what_it_rests_on(b: Bench, s: Service) -> None:
    """The same head again and again is answered without a walk, and not beyond a write or a logout."""
    await b.get("/users/5")
    replays = b.app.server.replays
    assert replays is not None
    for out in (False, True):
        token = token_for(5, jti=str(out))
        for _ in range(4):
            assert (await ask(b, token)).json()["active"]
        if out:
            await b.ask("POST", "/logout", token=token)
            assert {"active": False} == (await ask(b, token)).json()
        else:
            await b.ask("PATCH", "/users/5", json={"is_active": True}, token=token_for(1))
            s.told = {"username": "new"}
            assert "new" == (await ask(b, token)).json()["username"]
    assert sum(count for _, count in replays.counted()) >= 4


async def test_a_ready_answer_ends_with_its_token(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`exp` is looked at on each use; the copy of the user would be good for longer."""
    await b.get("/users/5")
    replays = b.app.server.replays
    assert replays is not None
    clock = [0.0]
    monkeypatch.setattr("proxy.fastpath.time", lambda: time.time() + clock[0])
    replayed = []
    for life in (100, 3600):
        clock[0] = 0.0
        token = token_for(5, exp=int(time.time()) + life)
        for _ in range(3):
            await ask(b, token)
        assert sum(count for _, count in replays.counted()) > 0
        clock[0] = 150.0
        await ask(b, token)
        replayed.append(sum(count for _, count in replays.counted()))

    assert [0, 1] == replayed


async def test_the_words_of_a_request(b: Bench, s: Service) -> None:
    """no-cache and no-store ask upstream, only-if-cached does not, HEAD has no body."""
    assert 504 == (await ask(b, token_for(5), headers={"Cache-Control": "only-if-cached"})).status
    assert [] == s.calls
    await b.get("/users/5")
    head = await b.ask("HEAD", "/introspect", token=token_for(5))
    assert (200, "HIT", b"") == (head.status, head.x_cache, head.body)
    signed = await ask(b, token_for(5), headers={"Accept": "application/token-introspection+jwt"})
    assert ("BYPASS", True) == (signed.x_cache, "request-accept" in signed.cache_status)
    for word, x_cache in (("no-cache", "MISS"), ("no-store", "BYPASS")):
        answer = await ask(b, token_for(5), headers={"Cache-Control": word})
        assert (x_cache, "told") == (answer.x_cache, answer.json()["username"])


async def test_without_a_token_or_a_scope_upstream_answers(b: Bench, s: Service) -> None:
    """What is not bad is not refused here."""
    await b.get("/users/5")
    lacking = await b.get("/required", token=token_for(5))
    granted = await b.get("/required", token=token_for(5, scope="read"))

    assert ("BYPASS", True) == (lacking.x_cache, "detail=token-scope" in lacking.cache_status)
    assert "HIT" == granted.x_cache


async def test_nothing_of_a_token_is_stored(s: Service, tmp_path: Path) -> None:
    """Redis holds the hash of it at most, and of the user what the route shows."""
    s.told = {"username": "told", "ssn": "078-05-1120"}
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            token = token_for(5)
            for _ in range(2):
                await ask(b, token)
        held = b" ".join(valkey.ask("HVALS", "user:id:5"))

    assert b'"username":"told"' in held
    for secret in (token, token.split(".")[2], "078-05"):
        assert secret.encode() not in held


async def test_a_no_with_status_200_vouches_for_nobody(b: Bench, s: Service) -> None:
    """Without Redis upstream's acceptance of a token is remembered; that it calls one inactive is none."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(b.app.cache.store, "token_state", AsyncMock(return_value=Reason.STORE_DOWN))
        for s.active in (False, True):
            token = token_for(5, jti=str(s.active))
            answer = await ask(b, token)
            assert (s.active, True) == (answer.json()["active"], "store-down" in answer.cache_status)
            kept.append(await b.app.cache.get(Ref("id", "5", f"+good#{token_hash(token)}")))

    assert [False, True] == [isinstance(one, Found) for one in kept]
