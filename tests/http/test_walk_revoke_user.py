"""A new password, or any write that says so, leaves no token of before good by itself, on any replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from aiohttp import web

from tests.endings import COMMON
from tests.valkey import Valkey
from tests.walk import SECRET, Bench, bench, token_for

ROUTES = (
    COMMON
    + """\
  - {match: "POST /auth/new-password", write: {revoke: user}}
  - {match: "POST /auth/everybody", write: {evict: all, revoke: user}}
  - {match: "POST /auth/reset", write: {evict: [{id: response.id}], revoke: user}}
  - {match: "POST /auth/seen", write: {evict: [{id: token}], revoke: none}}
"""
)
ME = ("/auth/me", "/auth/introspect")
EMAIL = "/users/by-email/user7@example.com"


class Service:
    """Users who are all active. A token is good if it was made with the password of now; `count` is the calls
    about tokens."""

    def __init__(self) -> None:
        self.passwords: dict[str, int] = {}
        self.count = 0
        self.status = 200
        self.gate: asyncio.Event | None = None

    def _whose(self, request: web.Request) -> str:
        self.count += 1
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"])
        number: str = claims["sub"]
        if claims.get("pw", 0) != self.passwords.get(number, 0):
            raise web.HTTPUnauthorized
        return number

    def _user(self, number: str) -> web.Response:
        user = {"id": int(number), "email": f"user{number}@example.com", "is_active": True}
        return web.json_response(user, status=self.status)

    async def me(self, request: web.Request) -> web.Response:
        """The caller."""
        return self._user(self._whose(request))

    async def by_email(self, request: web.Request) -> web.Response:
        """User 7, for those with a good token."""
        self._whose(request)
        return self._user("7")

    async def user(self, request: web.Request) -> web.Response:
        """GET and PUT; a PUT with a password changes it, if the status of now is one of success."""
        number = request.match_info["id"]
        if self.gate is not None:
            await self.gate.wait()
        if request.method != "GET" and self.status < 400 and b"password" in (await request.read()).lower():
            self.passwords[number] = self.passwords.get(number, 0) + 1
        return self._user(number)

    async def renew(self, request: web.Request) -> web.Response:
        """A new password for user 5, or another of whom only the answer tells."""
        number = request.query.get("id", "5")
        self.passwords[number] = self.passwords.get(number, 0) + 1
        return self._user(number)

    async def everybody(self, _: web.Request) -> web.Response:
        """New passwords for all."""
        for number in range(20):
            self.passwords[str(number)] = self.passwords.get(str(number), 0) + 1
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/auth/me", self.me)
        app.router.add_get("/auth/introspect", self.me)
        app.router.add_get("/users/by-email/{email}", self.by_email)
        app.router.add_route("*", "/users/{id}", self.user)
        app.router.add_post("/auth/everybody", self.everybody)
        for path in ("new-password", "reset", "seen"):
            app.router.add_post(f"/auth/{path}", self.renew)
        return app


@pytest_asyncio.fixture(name="b", params=["memory", "redis"])
async def _b(request: pytest.FixtureRequest, s: Service, tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(Valkey()).url if request.param == "redis" else None
        yield await stack.enter_async_context(
            bench(routes=ROUTES, tmp_path=tmp_path, redis=redis, upstream=s.app())
        )


def made(user: int, pw: int = 0, ago: float = 1000.0, **claims: Any) -> str:
    """A token of that user and password, made so many seconds ago."""
    return token_for(user, pw=pw, iat=int(time.time() - ago), **claims)


async def known(b: Bench, token: str, *users: int) -> None:
    """The users are known, and the token is answered from here."""
    for user in users:
        await b.get(f"/users/{user}")
    for path in ME:
        await b.get(path, token=token)
        assert (200, "HIT") == ((again := await b.get(path, token=token)).status, again.x_cache)


WRITES: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/users/5", {"password": "x"}),
    ("PATCH", "/users/5", {"profile": {"newPassword": "x"}}),
    ("POST", "/auth/new-password", None),
    ("POST", "/auth/everybody", None),
    ("POST", "/auth/reset?id=5", None),
)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_no_token_of_before_is_good_by_itself(
    b: Bench, s: Service, method: str, path: str, body: Any
) -> None:
    """The user is looked up again, and the old token is refused all the same: by upstream, each time."""
    old = made(5)
    await known(b, old, 5)
    changed = await b.ask(method, path, token=old, json=body)
    assert changed.status < 300
    await b.get("/users/5")

    for _ in range(2):
        for target in (*ME, EMAIL):
            before = s.count
            assert 401 == (await b.get(target, token=old)).status
            assert before + 1 == s.count
    told = await b.get("/auth/me", token=old)
    assert "token-outdated" in told.cache_status


async def test_a_new_token_is_asked_about_once(b: Bench, s: Service) -> None:
    """Clocks may differ by a minute: one of the same minute may be an old one. Upstream's word is kept."""
    old, new = made(5), made(5, 1, 0)
    await known(b, old, 5)
    await b.ask("POST", "/auth/new-password", token=old)
    await b.get("/users/5")

    before = s.count
    for _ in range(3):
        assert 200 == (await b.get("/auth/me", token=new)).status
    assert before + 1 == s.count
    assert "HIT" == (await b.get("/auth/me", token=new)).x_cache
    assert 401 == (await b.get("/auth/me", token=old)).status


async def test_a_token_without_a_time_is_from_any_time(b: Bench, s: Service) -> None:
    """It is asked about while the word stands."""
    timeless = token_for(5)
    await known(b, timeless, 5)
    await b.ask("POST", "/auth/new-password", token=timeless)
    await b.get("/users/5")

    for _ in range(2):
        assert 401 == (await b.get("/auth/me", token=timeless)).status


@pytest.mark.parametrize("status", [400, 403, 409])
async def test_a_refused_write_changes_nothing(b: Bench, s: Service, status: int) -> None:
    """4xx: the tokens are as good as before, and cost nothing."""
    token = made(5)
    await known(b, token, 5)
    s.status = status
    assert status == (await b.ask("PUT", "/users/5", token=token, json={"password": "x"})).status
    s.status = 200

    before = s.count
    assert (200, "HIT") == ((told := await b.get("/auth/me", token=token)).status, told.x_cache)
    assert before == s.count


async def test_other_users_and_other_writes_lose_nothing(b: Bench, s: Service) -> None:
    """Another user's tokens stay; a write without a password, or with `revoke: none`, ends none."""
    mine, other = made(5), made(6)
    await known(b, mine, 5, 6)
    await known(b, other, 5, 6)
    await b.ask("PUT", "/users/5", token=mine, json={"email": "user5@example.com"})
    await b.ask("POST", "/auth/seen?id=9", token=mine, json={"password": "x"})
    await b.get("/users/5")
    before = s.count
    assert "HIT" == (await b.get("/auth/me", token=mine)).x_cache
    await b.ask("PUT", "/users/5", token=mine, json={"password": "x"})

    assert "HIT" == (await b.get("/auth/me", token=other)).x_cache
    assert before == s.count


async def test_a_form_and_a_body_of_unknown_length(b: Bench, s: Service) -> None:
    """The names of a form are looked at; of a chunked body, as it passes."""
    old = made(5)
    await known(b, old, 5)

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"password"'
        yield b': "x"}'

    headers = {"Authorization": f"Bearer {old}", "Content-Type": "application/json"}
    async with b.session.put(f"{b.url}/users/5", data=chunks(), headers=headers) as answer:
        assert 200 == answer.status
    await b.get("/users/5")
    assert 401 == (await b.get("/auth/me", token=old)).status

    parts = aiohttp.MultipartWriter("form-data")
    parts.append("x").set_content_disposition("form-data", name="password")
    for user, data in ((7, {"password": "x"}), (8, parts)):
        other = made(user)
        await known(b, other, user)
        async with b.session.put(f"{b.url}/users/{user}", data=data) as answer:
            assert 200 == answer.status
        await b.get(f"/users/{user}")
        assert 401 == (await b.get("/auth/me", token=other)).status


async def test_a_body_that_held_no_password_after_all_ends_nothing(b: Bench) -> None:
    """Before it came, nobody could tell."""
    token = made(5)
    await known(b, token, 5)

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"bio": "x"}'

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with b.session.put(f"{b.url}/users/5", data=chunks(), headers=headers) as answer:
        assert 200 == answer.status
    await b.get("/users/5")

    assert "HIT" == (await b.get("/auth/me", token=token)).x_cache


async def test_a_token_that_is_too_old_is_asked_about(s: Service, tmp_path: Path) -> None:
    """Nobody remembers for longer than `token_life` that tokens were revoked, so none is good for longer."""
    routes = ROUTES.replace("routes:", "revoking: {token_life: 10m}\nroutes:")
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        await b.get("/users/5")
        old, young = made(5), made(5, ago=500)
        before = s.count
        assert "HIT" == (await b.get("/auth/me", token=young)).x_cache
        told = await b.get("/auth/me", token=old)
        assert ("BYPASS", True) == (told.x_cache, "token-outdated" in told.cache_status)
        assert before + 1 == s.count
        assert "HIT" == (await b.get("/auth/me", token=old)).x_cache


async def test_what_one_knows_need_not_be_in_redis_and_what_redis_knows_is_asked(
    s: Service, tmp_path: Path
) -> None:
    """A word that Redis has lost holds here; one about everybody reaches a replica that was not there."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey())

        async def started(name: str) -> Bench:
            (tmp_path / name).mkdir()
            one = bench(routes=ROUTES, tmp_path=tmp_path / name, redis=valkey.url, upstream=s.app())
            return await stack.enter_async_context(one)

        one = await started("one")
        for user in (5, 6):
            await one.get(f"/users/{user}")
        await one.ask("PUT", "/users/5", json={"password": "x"})
        valkey.ask("DEL", "user:revoke:5")
        await one.get("/users/5")
        assert 401 == (await one.get("/auth/me", token=made(5))).status
        await one.ask("POST", "/auth/everybody")
        late = await started("late")
        await late.get("/users/6")
        assert 401 == (await late.get("/auth/me", token=made(6))).status


async def test_every_replica_knows_before_the_write_is_answered(s: Service, tmp_path: Path) -> None:
    """Three replicas and one that starts later: none takes the old token, whoever took the write."""
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:

            async def started() -> Bench:
                one = bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app())
                return await stack.enter_async_context(one)

            replicas = [await started() for _ in range(3)]
            for n in range(6):
                old = made(5, n)
                for replica in replicas:
                    await known(replica, old, 5)
                await replicas[n % 3].ask("PUT", "/users/5", token=old, json={"password": "x"})
                for replica in replicas:
                    await replica.get("/users/5")
                    assert 401 == (await replica.get("/auth/me", token=old)).status
                # Not before the last second of the old ones is over could a later one be told from them.
                assert 200 == (await replicas[0].get("/auth/me", token=made(5, n + 1, 0))).status
            late = await started()
            await late.get("/users/5")
            assert 401 == (await late.get("/auth/me", token=made(5, 5))).status
            (life,) = {valkey.ask("PTTL", key) for key in valkey.ask("KEYS", "user:revoke:*")}
            assert 365 * 86_400_000 < life <= 367 * 86_400_000


async def test_a_write_without_redis_is_told_when_it_is_back(s: Service, tmp_path: Path) -> None:
    """The replica that took it asks upstream meanwhile, and a new one knows it afterwards."""
    old = made(5)
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            await known(b, old, 5)
            valkey.kill()
            await b.ask("PUT", "/users/5", token=old, json={"password": "x"})
            await b.get("/users/5")
            assert 401 == (await b.get("/auth/me", token=old)).status
            valkey.start()
            for _ in range(500):
                if (await b.app.cache.store.health())["backend"] == "redis":
                    break
                await asyncio.sleep(0.02)
            async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as other:
                await other.get("/users/5")
                assert "token-outdated" in (await other.get("/auth/me", token=old)).cache_status


async def test_a_writer_that_dies_leaves_no_old_token_good(s: Service, tmp_path: Path) -> None:
    """What was said provisionally, and by no living writer, counts."""
    old = made(5)
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            await b.get("/users/5")
            now = int(time.time() * 1000)
            valkey.ask("HSET", "user:revoke:5", "w:of-a-dead-writer", str(now))
            assert 200 == (await b.get("/auth/me", token=old)).status
            s.passwords["5"] = 1
            assert 401 == (await b.get("/auth/me", token=made(5, jti="2"))).status


async def test_what_a_flush_lost_is_told_again(s: Service, tmp_path: Path) -> None:
    """The other replica knew it, and the new one finds it in Redis again."""
    old = made(5)
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:

            async def started() -> Bench:
                one = bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app())
                return await stack.enter_async_context(one)

            one, two = await started(), await started()
            for replica in (one, two):
                await known(replica, old, 5)
            await one.ask("PUT", "/users/5", token=old, json={"password": "x"})
            valkey.ask("FLUSHALL")
            await two.get("/users/5")
            assert 401 == (await two.get("/auth/me", token=old)).status
            for _ in range(500):
                if valkey.ask("EXISTS", "user:revoke:5"):
                    break
                await asyncio.sleep(0.01)
            three = await started()
            await three.get("/users/5")
            assert "token-outdated" in (await three.get("/auth/me", token=old)).cache_status


@pytest.mark.parametrize(("status", "left"), [(200, [b"before"]), (403, [])])
@pytest.mark.parametrize("chunked", [True, False])
async def test_the_word_is_there_before_the_service_hears_of_it(
    s: Service, tmp_path: Path, status: int, left: list[bytes], chunked: bool
) -> None:
    """Also where the body is still to come; so a proxy that dies in the write leaves no old token good."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"password": "x"}'

    headers = {"Authorization": f"Bearer {made(5)}", "Content-Type": "application/json"}
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            s.gate, s.status = asyncio.Event(), status
            data = body() if chunked else b'{"password": "x"}'
            write = asyncio.ensure_future(b.session.put(f"{b.url}/users/5", data=data, headers=headers))
            async with asyncio.timeout(10):
                while not valkey.ask("EXISTS", "user:revoke:5"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            (under_way,) = valkey.ask("HKEYS", "user:revoke:5")
            assert under_way.startswith(b"w:")
            s.gate.set()
            (await write).close()
            assert left == valkey.ask("HKEYS", "user:revoke:5")
