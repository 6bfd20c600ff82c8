"""A logout ends its token: on every replica, before it is answered, and with Redis away as well as can be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web

from proxy.core.bearer import token_hash
from proxy.core.model import Found
from proxy.store import tokenwords
from proxy.store.revocations import good_ref
from tests.introspecting import basic, dripped, post
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for


class Trusting:
    """A service that forgets its logouts, so that whoever refuses a token is the proxy."""

    def __init__(self) -> None:
        self.calls = 0
        self.logout = 204

    async def user(self, request: web.Request) -> web.Response:
        """Always user 5, or the one of the path."""
        self.calls += 1
        number = int(request.match_info.get("id", "5"))
        email = f"user{number}@example.com"
        return web.json_response({"id": number, "email": email, "is_active": True})

    async def out(self, _: web.Request) -> web.Response:
        """As the test says."""
        return web.Response(status=self.logout)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        for path in ("/auth/me", "/users/by-email/{email}", "/users/{id}", "/auth/introspect"):
            app.router.add_get(path, self.user)
        app.router.add_post("/auth/logout", self.out)
        return app


@pytest_asyncio.fixture(name="b")
async def _b() -> AsyncIterator[Bench]:
    async with bench() as started:
        yield started


async def state(b: Bench, token: str) -> tuple[int, str]:
    """Status of `/auth/me` and the reason given."""
    answer = await b.get("/auth/me", token=token)
    return answer.status, answer.cache_status.partition("detail=")[2]


async def test_the_stub_and_the_proxy_refuse_a_logged_out_token(b: Bench) -> None:
    """The proxy at once and at no cost; the service, asked directly, as well. Other tokens stay good."""
    token, other = token_for(5, jti="1"), token_for(5, jti="2")
    await b.get("/users/5")
    assert 200 == (await b.get("/auth/me", token=token)).status

    out = await b.ask("POST", "/auth/logout", token=token)
    before = await b.calls()

    assert 204 == out.status
    for target in ("/auth/me", "/auth/introspect"):
        answer = await b.get(target, token=token)
        assert (401, 'Bearer error="invalid_token"') == (answer.status, answer.headers["WWW-Authenticate"])
    assert before == await b.calls()
    assert 401 == (await b.ask("GET", "/auth/me", token=token, base=b.stub)).status
    assert 200 == (await b.get("/auth/me", token=other)).status


async def test_a_logged_out_token_is_refused_in_its_other_spelling() -> None:
    """Padding that the signature does not cover makes no new token of it, before or after it was seen."""
    async with bench(upstream=Trusting().app()) as trusting:
        token = token_for(5)
        for one in (token, f"{token}="):
            assert 200 == (await state(trusting, one))[0]
        await trusting.ask("POST", "/auth/logout", token=token)
        for one in (f"{token}=", token):
            assert (401, "token-revoked") == await state(trusting, one)


async def test_a_logout_holds_for_as_long_as_the_token_would(tmp_path: Path) -> None:
    """Beyond its exp, where the settings give tokens a while longer."""
    with Valkey() as valkey:
        routes = """version: 1
views: {users: {ttl: 60s}}
tokens: {secret_env: JWT_SECRET, leeway: 60s}
routes:
  - {match: "GET /auth/me", introspect: {answer: view, view: users}}
  - {match: "POST /auth/logout", write: {revoke: token}}
"""
        started = bench(redis=valkey.url, upstream=Trusting().app(), routes=routes, tmp_path=tmp_path)
        async with started as b:
            token = token_for(5, exp=int(time.time()) - 10)
            assert 200 == (await state(b, token))[0]
            await b.ask("POST", "/auth/logout", token=token)
            assert (401, "token-revoked") == await state(b, token)
            assert 45_000 < valkey.ask("PTTL", f"user:token:{token_hash(token)}") <= 50_000


async def test_a_revoked_token_opens_no_shared_copy(b: Bench) -> None:
    """access: token forwards it, and the service decides; the copy stays for those who may have it."""
    email = (await b.get("/users/5")).json()["email"]
    token, other = token_for(6, jti="1"), token_for(6, jti="2")
    target = f"/users/by-email/{email}"
    await b.get("/users/6")
    assert "HIT" == (await b.get(target, token=token)).x_cache
    await b.ask("POST", "/auth/logout", token=token)
    await b.get("/users/6")

    refused, served = await b.get(target, token=token), await b.get(target, token=other)

    assert ("BYPASS", "token-revoked") == (refused.x_cache, refused.cache_status.partition("detail=")[2])
    assert "HIT" == served.x_cache


async def test_a_refused_logout_ends_nothing(b: Bench) -> None:
    """4xx: the token is as good as before, and one that was logged out is not good again."""
    service = Trusting()
    async with bench(upstream=service.app()) as trusting:
        token = token_for(5)
        service.logout = 403
        await trusting.ask("POST", "/auth/logout", token=token)
        # Nor does anything of it stay.
        assert (200, "absent") == await state(trusting, token)
        service.logout = 204
        await trusting.ask("POST", "/auth/logout", token=token)
        service.logout = 401
        await trusting.ask("POST", "/auth/logout", token=token)
        assert (401, "token-revoked") == await state(trusting, token)
        service.logout = 500
        other = token_for(5, jti="2")
        await trusting.ask("POST", "/auth/logout", token=other)
        assert (401, "token-revoked") == await state(trusting, other)


async def test_a_forged_token_ends_nothing(b: Bench) -> None:
    """Whoever can't make the token can't have it refused, nor cool the cache of its user."""
    await b.get("/users/5")
    forged = jwt.encode({"sub": "5", "exp": 4_000_000_000}, "another-secret-that-is-long-enough-1234")
    await b.ask("POST", "/auth/logout", token=forged)
    await b.ask("POST", "/auth/logout")

    assert "HIT" == (await b.get("/users/5")).x_cache
    assert 200 == (await b.get("/auth/me", token=token_for(5))).status


@pytest.mark.parametrize("length", ["known", "unknown"])
async def test_a_form_names_the_token_that_is_over(length: str) -> None:
    """RFC 7009: whoever asks proves themselves by something else, which stays good."""
    send = post if length == "known" else dripped
    async with bench(upstream=Trusting().app()) as b:
        own = token_for(6)
        await b.get("/users/5")
        for who in (basic("app"), {"Authorization": f"Bearer {own}"}):
            token = token_for(5, jti=str(len(who["Authorization"])))
            for one in (token, own, token):
                assert 200 == (await state(b, one))[0]
            form = f"token_type_hint=access_token&token={token}".encode()
            assert 204 == (await send(b, "/auth/logout", form, who)).status
            assert (401, "token-revoked") == await state(b, token)
            assert 200 == (await state(b, own))[0]


async def test_a_form_of_ones_own_ends_both() -> None:
    """With a refresh token, say: whether a service reads the form or the line, that of the line is over."""
    async with bench(upstream=Trusting().app()) as b:
        token, own = token_for(5, jti="refresh"), token_for(5)
        await post(b, "/auth/logout", f"token={token}", {"Authorization": f"Bearer {own}"})

        assert [(401, "token-revoked")] * 2 == [await state(b, one) for one in (token, own)]


async def test_a_form_without_a_good_token_is_about_the_callers() -> None:
    """What a form calls `token` may be anything; and a refused one ends nothing."""
    service = Trusting()
    async with bench(upstream=service.app()) as b:
        token, own = token_for(5), token_for(6)
        service.logout = 400
        await post(b, "/auth/logout", f"token={token}", basic("app"))
        assert 200 == (await state(b, token))[0]
        service.logout = 204
        await post(b, "/auth/logout", f"token={token[:-4]}AAAA", {"Authorization": f"Bearer {own}"})

        assert 200 == (await state(b, token))[0]
        assert (401, "token-revoked") == await state(b, own)


async def test_every_replica_knows_before_the_logout_is_answered() -> None:
    """Three replicas with the token in memory: none accepts it after the answer, whoever took the logout."""
    service = Trusting()
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:
            replicas = [
                await stack.enter_async_context(bench(redis=valkey.url, upstream=service.app()))
                for _ in range(3)
            ]
            for n in range(6):
                token = token_for(5, jti=str(n))
                for replica in replicas * 2:
                    assert 200 == (await state(replica, token))[0]
                await replicas[n % 3].ask("POST", "/auth/logout", token=token)
                for replica in replicas:
                    assert (401, "token-revoked") == await state(replica, token)
            held = [key for key in valkey.ask("KEYS", "user:token:*") if valkey.ask("PTTL", key) > 0]
    assert 6 == len(held)


async def test_a_logout_without_redis_is_told_when_it_is_back() -> None:
    """The replica that took it refuses at once; the others when Redis is trusted again, also a new one."""
    service = Trusting()
    token = token_for(5)
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=service.app()) as one:
            assert 200 == (await state(one, token))[0]
            valkey.kill()
            await one.ask("POST", "/auth/logout", token=token)
            assert (401, "token-revoked") == await state(one, token)
            calls = service.calls
            unknown = await one.get("/auth/me", token=token_for(5, jti="2"))
            again = await one.get("/auth/me", token=token_for(5, jti="2"))
            assert ((200, "BYPASS"), 200) == ((unknown.status, unknown.x_cache), again.status)
            assert service.calls > calls
            valkey.start()
            await _until_back(one)
            async with bench(redis=valkey.url, upstream=service.app()) as other:
                assert (401, "token-revoked") == await state(other, token)


async def _until_back(b: Bench) -> None:
    for _ in range(500):
        if (await b.app.cache.store.health())["backend"] == "redis":
            return
        await asyncio.sleep(0.02)
    raise TimeoutError("Redis was not trusted again")


async def test_a_logout_of_a_token_without_known_keys_reads_the_configured_claim(tmp_path: Path) -> None:
    """No key set yet: the token's own word on its user is taken, from where the settings say it stands."""
    routes = """version: 1
views: {users: {ttl: 60s}}
tokens: {jwks_url: "http://127.0.0.1:1/none", subject: user.id}
routes: [{match: "POST /auth/logout", write: {revoke: token}}]
"""
    token = jwt.encode({"user": {"id": 5}, "exp": 4_000_000_000}, "a-secret-of-tests-that-is-long-enough-0")
    service = Trusting()
    with Valkey() as valkey:
        started = bench(redis=valkey.url, upstream=service.app(), routes=routes, tmp_path=tmp_path)
        async with started as b:
            assert 204 == (await b.ask("POST", "/auth/logout", token=token)).status
        assert [f"user:token:{token_hash(token)}".encode()] == valkey.ask("KEYS", "user:token:*")


async def test_whose_token_is_over_its_issuer_says(tmp_path: Path) -> None:
    """Of several, none of whose keys are there: each names its users by a claim of its own."""
    routes = """version: 1
views: {users: {ttl: 60s}}
tokens:
  - {issuer: a, jwks_url: "http://127.0.0.1:1/a"}
  - {issuer: b, jwks_url: "http://127.0.0.1:1/b", subject: user.id}
routes: [{match: "POST /auth/logout", write: {revoke: token}}]
"""
    claims = {"iss": "b", "sub": "7", "user": {"id": 5}}
    with Valkey() as valkey:
        started = bench(redis=valkey.url, upstream=Trusting().app(), routes=routes, tmp_path=tmp_path)
        async with started as b:
            await b.ask(
                "POST", "/auth/logout", token=jwt.encode(claims, "a-secret-that-is-long-enough-for-it")
            )
        assert [b"user:id:5"] == valkey.ask("KEYS", "user:id:*")


async def test_a_writer_that_died_may_have_ended_the_token() -> None:
    """Its word is there and no fence stands: whether upstream heard of the logout, nobody can tell."""
    token = token_for(5)
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=Trusting().app()) as b:
            valkey.ask("SET", f"user:token:{token_hash(token)}", "!ra-write", "PX", "60000")
            assert (401, "token-revoked") == await state(b, token)


async def test_the_word_is_there_before_the_service_hears_of_it() -> None:
    """So that a proxy that dies in between leaves no good token behind."""
    token = token_for(5)
    seen = []

    class Watching(Trusting):
        async def out(self, request: web.Request) -> web.Response:
            seen.append(await asyncio.to_thread(valkey.ask, "GET", f"user:token:{token_hash(token)}"))
            return await super().out(request)

    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=Watching().app()) as b:
            await b.ask("POST", "/auth/logout", token=token)

    assert [b"!r"] == [word[:2] for word in seen]


async def test_what_redis_said_once_is_known_here() -> None:
    """Whatever becomes of Redis: that a token is over stays so."""
    token = token_for(5)
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=Trusting().app()) as b:
            valkey.ask("SET", f"user:token:{token_hash(token)}", "!r", "PX", "60000")
            for _ in range(2):
                assert (401, "token-revoked") == await state(b, token)
                valkey.ask("DEL", f"user:token:{token_hash(token)}")


async def test_a_note_from_before_an_eviction_is_not_kept() -> None:
    """Redis was asked, and then the user was written: nobody knows what has happened to the token since."""
    token = token_for(5)
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=Trusting().app()) as b:
            store: Any = b.app.cache.store
            asked = store.tokens._revocations.state

            async def slowly(user_id: str, digest: str) -> Any:
                said = await asked(user_id, digest)
                store.memory.drop([user_id])
                return said

            store.tokens._revocations.state = slowly
            await state(b, token)
            assert not isinstance(store.memory.look(good_ref("5", token_hash(token))), Found)


async def test_redis_is_not_taken_at_its_word_until_it_was_told_again() -> None:
    """Of a token that was not seen before upstream is asked, while others may know of its logout."""
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=Trusting().app()) as b:
            store: Any = b.app.cache.store
            store.tokens.forgotten()
            assert (200, "store-down") == await state(b, token_for(5))


async def test_what_a_flush_lost_is_told_again() -> None:
    """The replica that took the logout tells Redis again; the other knew it, and a new one finds it there."""
    service = Trusting()
    token, other = token_for(5, jti="1"), token_for(5, jti="2")
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:
            one, two = [
                await stack.enter_async_context(bench(redis=valkey.url, upstream=service.app()))
                for _ in range(2)
            ]
            for replica in (one, two):
                assert 200 == (await state(replica, token))[0]
            await one.ask("POST", "/auth/logout", token=token)
            valkey.ask("FLUSHALL")
            for replica in (one, two):
                assert (401, "token-revoked") == await state(replica, token)
            await _until_told(valkey, token)
            three = await stack.enter_async_context(bench(redis=valkey.url, upstream=service.app()))
            assert (401, "token-revoked") == await state(three, token)
            assert 200 == (await state(three, other))[0]


async def test_a_replica_that_was_not_there_trusts_no_redis_that_lost_its_data() -> None:
    """It never heard of the logout: it asks upstream, until those who heard of it have told it again."""
    service = Trusting()
    token = token_for(5)
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(bench(redis=valkey.url, upstream=service.app()))
            await one.ask("POST", "/auth/logout", token=token)
            late = await stack.enter_async_context(bench(redis=valkey.url, upstream=service.app()))
            await late.get("/users/5")
            await _joined(late)
            seen = set()
            for _ in range(4):
                valkey.ask("FLUSHALL")
                seen.add(await state(late, token))
                await _until_told(valkey, token)
                seen.add(await state(late, token))

    assert {(200, "store-down"), (401, "token-revoked")} >= seen
    assert (401, "token-revoked") in seen


async def test_a_replica_that_begins_with_an_old_redis_trusts_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The logout came after what Redis saved: those who heard of it are given the time to say so."""
    monkeypatch.setattr(tokenwords, "TELLING", 3600.0)
    service = Trusting()
    token = token_for(5)
    with Valkey() as valkey:
        async with bench(redis=valkey.url, upstream=service.app()) as one:
            assert 200 == (await state(one, token))[0]
            valkey.ask("SAVE")
            await one.ask("POST", "/auth/logout", token=token)
        valkey.kill()
        valkey.start()
        async with bench(redis=valkey.url, upstream=service.app()) as late:
            assert (200, "store-down") == await state(late, token)


async def _joined(b: Bench) -> None:
    for _ in range(500):
        if (await b.app.cache.store.health())["feed"]["alive"]:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("the feed was not joined")


async def _until_told(valkey: Valkey, token: str) -> None:
    for _ in range(500):
        if valkey.ask("GET", f"user:token:{token_hash(token)}") == b"!r":
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("nobody told it again")
