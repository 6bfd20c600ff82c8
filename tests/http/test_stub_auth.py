"""The legacy service: logging in and out, introspection, keys."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from upstream_stub.api import make_app
from upstream_stub.options import DEFAULT_SECRET, Options
from upstream_stub.tokens import BadToken, Signer

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]

TOMORROW = int(time.time()) + 86400
GOOD = {"sub": "2", "exp": TOMORROW}


@pytest.fixture(name="start")
def _start(aiohttp_client: AiohttpClient) -> Start:
    async def start(**options: Any) -> Client:
        options = {"users": 30, "latency": 0.0, "latency_jitter": 0.0} | options
        return await aiohttp_client(make_app(Options(**options)))

    return start


async def log_in(client: Client, **given: str) -> str:
    """A fresh token."""
    answer = await client.post("/auth/login", json={"username": "grace2", "password": "password-2"} | given)
    assert 200 == answer.status
    return str((await answer.json())["access_token"])


def bearer(token: str) -> dict[str, str]:
    """The header that carries it."""
    return {"Authorization": f"Bearer {token}"}


def minted(**claims: Any) -> str:
    """A token made elsewhere with the shared secret."""
    return jwt.encode(GOOD | claims, DEFAULT_SECRET, "HS256")


async def test_login_answers_with_a_token(start: Start) -> None:
    """The answer says how long the token is good, and must not be stored on the way."""
    client = await start(token_ttl=90.0)

    answer = await client.post("/auth/login", json={"email": "GRACE2@example.com", "password": "password-2"})

    body = await answer.json()
    assert (200, "no-store") == (answer.status, answer.headers["Cache-Control"])
    assert ("bearer", 90) == (body["token_type"], body["expires_in"])
    claims = jwt.decode(body["access_token"], DEFAULT_SECRET, algorithms=["HS256"])
    assert ("2", "grace2", "user", 90) == (
        claims["sub"],
        claims["username"],
        claims["role"],
        claims["exp"] - claims["iat"],
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"username": "grace2", "password": "password-3"}),
        (401, {"username": "nobody", "password": "password-2"}),
        (401, {"email": "nobody@example.com", "password": "password-2"}),
        (403, {"username": "tony13", "password": "password-13"}),
        (401, {"username": "tony13", "password": "wrong"}),
        (422, {"username": "grace2"}),
        (422, {"password": "password-2"}),
        (422, {"username": "grace2", "email": "grace2@example.com", "password": "password-2"}),
        (422, {"username": 2, "password": "password-2"}),
        (422, {"username": "grace2", "password": "password-2", "alg": "none"}),
        (422, {"username": "grace2", "password": "password-2", "otp": "1"}),
    ],
)
async def test_login_refuses(start: Start, status: int, body: dict[str, Any]) -> None:
    """A wrong name or password is 401, an inactive user 403, a malformed request 422."""
    client = await start()

    assert status == (await client.post("/auth/login", json=body)).status


async def test_login_asks_the_database_every_time(start: Start) -> None:
    """A changed password counts at once, whoever changed it, and the old one is dead."""
    client = await start()
    token = await log_in(client)
    change = {"old_password": "password-2", "new_password": "brand new one"}

    answer = await client.post("/auth/password", json=change, headers=bearer(token))

    assert (200, 2) == (answer.status, (await answer.json())["version"])
    old = await client.post("/auth/login", json={"username": "grace2", "password": "password-2"})
    assert 401 == old.status
    await log_in(client, password="brand new one")
    await client.put("/users/2", json={"password": "third and last"})
    await log_in(client, password="third and last")


async def test_a_password_change_proves_the_old_one(start: Start) -> None:
    """A token alone does not change the password."""
    client = await start()
    headers = bearer(await log_in(client))

    async def change(**body: Any) -> int:
        return (await client.post("/auth/password", json=body, headers=headers)).status

    assert 403 == await change(old_password="wrong", new_password="long enough")
    assert 422 == await change(old_password="password-2", new_password="short")
    assert 422 == await change(new_password="long enough")
    assert 401 == (await client.post("/auth/password", json={})).status
    await log_in(client)


async def test_introspection_describes_the_token(start: Start) -> None:
    """GET about the own token and POST about any (RFC 7662) say the same."""
    client = await start()
    token = await log_in(client)

    got = await client.get("/auth/introspect", headers=bearer(token))
    posted = await client.post("/auth/introspect", data={"token": token})

    claims = jwt.decode(token, DEFAULT_SECRET, algorithms=["HS256"])
    assert 200 == got.status
    assert {
        "active": True,
        "sub": "2",
        "username": "grace2",
        "role": "user",
        "scope": claims["scope"],
        "token_type": "Bearer",
        "iss": claims["iss"],
        "jti": claims["jti"],
        "exp": claims["exp"],
        "iat": claims["iat"],
    } == await got.json()
    assert await got.json() == await posted.json()


async def test_introspection_shows_the_role_of_today(start: Start) -> None:
    """The role comes from the database: a promotion counts for tokens issued before it."""
    client = await start()
    headers = bearer(await log_in(client))

    await client.put("/users/2", json={"role": "admin"})

    described = await (await client.get("/auth/introspect", headers=headers)).json()
    assert ("admin", True) == (described["role"], "users:admin" in described["scope"])


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("junk", id="junk"),
        pytest.param("a.b.c", id="shape"),
        pytest.param(minted(exp=1), id="expired"),
        pytest.param(minted(nbf=TOMORROW), id="early"),
        pytest.param(minted(sub="99"), id="unknown user"),
        pytest.param(minted(sub="13"), id="inactive user"),
        pytest.param(minted(sub="grace2"), id="no number"),
        pytest.param(jwt.encode({"sub": "2"}, DEFAULT_SECRET, "HS256"), id="endless"),
        pytest.param(jwt.encode(GOOD, "x" * 40, "HS256"), id="forged"),
        pytest.param(jwt.encode(GOOD, "", "none"), id="unsigned"),
        pytest.param(jwt.encode(GOOD, DEFAULT_SECRET * 2, "HS512"), id="another algorithm"),
    ],
)
async def test_bad_tokens_are_bad_everywhere(start: Start, token: str) -> None:
    """401 with WWW-Authenticate on every endpoint that needs a token, and just inactive for RFC 7662."""
    client = await start()

    for path in ("/auth/me", "/auth/introspect"):
        answer = await client.get(path, headers=bearer(token))
        assert (401, 'Bearer error="invalid_token"') == (answer.status, answer.headers["WWW-Authenticate"])
    posted = await client.post("/auth/introspect", data={"token": token})
    assert (200, {"active": False}) == (posted.status, await posted.json())


def test_a_token_that_is_no_text_is_bad() -> None:
    """A header with stray bytes arrives as lone surrogates, and is not an error of its own."""
    with pytest.raises(BadToken):
        Signer(DEFAULT_SECRET, "HS256", 60.0).read("\udcff")


async def test_the_introspection_form_needs_a_token(start: Start) -> None:
    """Anything that is not a form with a token is 422; bytes that are no text are just a bad token."""
    client = await start()
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert 422 == (await client.post("/auth/introspect", data={"other": "x"})).status
    assert 422 == (await client.post("/auth/introspect", json={"token": "x"})).status
    odd = await client.post("/auth/introspect", data=b"token=\xff", headers=form)
    assert {"active": False} == await odd.json()


async def test_a_token_made_elsewhere_is_good(start: Start) -> None:
    """The secret is shared: a token without jti and iat works, and can be logged out."""
    client = await start()
    headers = bearer(minted())

    described = await (await client.get("/auth/introspect", headers=headers)).json()

    assert (True, False) == (described["active"], "iat" in described)
    assert 204 == (await client.post("/auth/logout", headers=headers)).status
    assert 401 == (await client.get("/auth/me", headers=headers)).status


async def test_logout_revokes_this_token_only(start: Start) -> None:
    """After the logout the token is bad everywhere; another token of the same user stays good."""
    client = await start()
    first, second = await log_in(client), await log_in(client)

    assert 204 == (await client.post("/auth/logout", headers=bearer(first))).status

    assert 401 == (await client.get("/auth/me", headers=bearer(first))).status
    assert 401 == (await client.post("/auth/logout", headers=bearer(first))).status
    posted = await client.post("/auth/introspect", data={"token": first})
    assert {"active": False} == await posted.json()
    assert 200 == (await client.get("/auth/me", headers=bearer(second))).status


async def test_a_deactivated_users_tokens_stop_working(start: Start) -> None:
    """And they work again when the user is back."""
    client = await start()
    headers = bearer(await log_in(client))

    await client.put("/users/2", json={"is_active": False})
    refused = await client.get("/auth/me", headers=headers)
    await client.put("/users/2", json={"is_active": True})

    assert 401 == refused.status
    assert 200 == (await client.get("/auth/me", headers=headers)).status


async def test_rs256_tokens_are_proven_with_the_published_key(start: Start) -> None:
    """A login may ask for RS256; the key set is all that is needed to prove the token."""
    client = await start()
    token = await log_in(client, alg="RS256")

    answer = await client.get("/.well-known/jwks.json")

    (key,) = (await answer.json())["keys"]
    assert jwt.get_unverified_header(token)["kid"] == key["kid"]
    assert "2" == jwt.decode(token, jwt.PyJWK(key), algorithms=["RS256"])["sub"]
    assert 200 == (await client.get("/auth/me", headers=bearer(token))).status
    assert 200 == (await client.get("/auth/me", headers=bearer(await log_in(client, alg="HS256")))).status


async def test_rs256_can_be_the_default(start: Start) -> None:
    """--algorithm decides where the login does not ask."""
    client = await start(algorithm="RS256")

    assert "RS256" == jwt.get_unverified_header(await log_in(client))["alg"]


async def test_another_services_rs256_token_is_bad(start: Start, aiohttp_client: AiohttpClient) -> None:
    """Each process has a key of its own, also one that has not made it yet."""
    client, other = await start(), await start(algorithm="RS256")
    token = await log_in(other)

    assert 401 == (await client.get("/auth/me", headers=bearer(token))).status
    await client.get("/.well-known/jwks.json")
    assert 401 == (await client.get("/auth/me", headers=bearer(token))).status
