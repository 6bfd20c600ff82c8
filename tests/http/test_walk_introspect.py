"""Introspection and batches through the whole proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.badtokens import BAD_TOKENS
from tests.walk import Bench, bench, token_for


@pytest_asyncio.fixture(name="b")
async def _b() -> AsyncIterator[Bench]:
    async with bench() as started:
        yield started


async def test_a_new_token_of_a_known_user_costs_nothing(b: Bench) -> None:
    """`answer: view`: the token is proven here, the user comes from the copy that look-ups share."""
    await b.get("/users/5")
    for n in range(3):
        me = await b.get("/auth/me", token=token_for(5, jti=str(n)))
        assert (200, "HIT", 5) == (me.status, me.x_cache, me.json()["id"])
    assert {"user_by_id": 1} == await b.calls()


async def test_me_fills_the_copy_that_lookups_share(b: Bench) -> None:
    """The other way round."""
    assert "MISS" == (await b.get("/auth/me", token=token_for(5))).x_cache
    assert "HIT" == (await b.get("/users/5")).x_cache


BAD = BAD_TOKENS | {
    "long": "a" * 7000,
}


@pytest.mark.parametrize("target", ["/auth/me", "/auth/introspect"])
@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_token_costs_upstream_nothing(b: Bench, target: str, name: str) -> None:
    """401 with the challenge of RFC 6750, as problem+json, from here."""
    answer = await b.get(target, token=BAD[name])

    assert (401, 'Bearer error="invalid_token"') == (answer.status, answer.headers["WWW-Authenticate"])
    assert "urn:user-cache-proxy:problem:invalid-token" == answer.json()["type"]
    assert {} == await b.calls()


async def test_without_a_token_upstream_answers(b: Bench) -> None:
    """There is nothing to prove, so upstream says what it says."""
    answer = await b.get("/auth/me")

    assert (401, "BYPASS") == (answer.status, answer.x_cache)
    assert {"me": 1} == await b.calls()


async def test_an_answer_per_token(b: Bench) -> None:
    """`answer: upstream`: each token has its own copy, which goes when its user is written."""
    first, second = token_for(5, jti="1"), token_for(5, jti="2")
    seen = [(await b.get("/auth/introspect", token=t)).x_cache for t in (first, second, first, second)]
    await b.ask("PATCH", "/users/5", json={"bio": "New"}, token=token_for(1))
    after = await b.get("/auth/introspect", token=first)

    assert ["MISS", "MISS", "HIT", "HIT"] == seen
    assert "MISS" == after.x_cache


async def test_an_answer_ends_with_its_token(b: Bench) -> None:
    """The copy never outlives exp, whatever the view says."""
    import time

    exp = int(time.time()) + 20
    answer = await b.get("/auth/introspect", token=token_for(5, exp=exp))

    assert answer.x_cache == "MISS"
    ttl = int(answer.cache_status.split("ttl=")[1].split(";")[0])
    assert 15 <= ttl <= 20


@pytest.mark.parametrize("target", ["/auth/me", "/auth/introspect"])
async def test_a_deactivated_users_token_ends_with_the_write(b: Bench, target: str) -> None:
    """The first introspection after the deactivation was answered is refused."""
    token = token_for(5)
    assert (200, 200) == (
        (await b.get(target, token=token)).status,
        (await b.get(target, token=token)).status,
    )

    await b.ask("PATCH", "/users/5", json={"is_active": False}, token=token_for(1))

    assert 401 == (await b.get(target, token=token)).status
    await b.get("/users/5")
    before = await b.calls()
    assert 401 == (await b.get(target, token=token)).status
    assert before == await b.calls()


async def test_a_gone_users_token_is_refused_here(b: Bench) -> None:
    """A stored 404 of the token's user is proof enough."""
    await b.get("/users/4040")
    before = await b.calls()

    assert 401 == (await b.get("/auth/me", token=token_for(4040))).status
    assert before == await b.calls()


async def test_a_batch_asks_for_the_rest_only(b: Bench) -> None:
    """Cached users and one upstream call for the others, in upstream's order, absent ids left out."""
    direct = await b.ask("GET", "/users?ids=9,3,12,99,7", base=b.stub)
    await b.ask("POST", "/__stats/reset", base=b.stub)
    first = await b.get("/users?ids=9,3,12,99")
    mixed = await b.get("/users?ids=9,3,12,99,7")
    again = await b.get("/users?ids=9,3,12,7")
    single = await b.get("/users/9")

    assert [9, 3, 12] == [user["id"] for user in first.json()]
    assert direct.json() == mixed.json()
    assert direct.body == mixed.body
    assert ("MISS", "HIT", "HIT") == (mixed.x_cache, again.x_cache, single.x_cache)
    assert "detail=partial" in mixed.cache_status
    assert {"users_by_ids": 2} == await b.calls()
    paths = (await b.ask("GET", "/__stats", base=b.stub)).json()["hits_by_path"]
    assert {"GET /users?ids=9,3,12,99": 1, "GET /users?ids=99,7": 1} == paths


async def test_a_batch_sees_a_write(b: Bench) -> None:
    """A member that was written is asked for again."""
    await b.get("/users?ids=9,3")
    await b.ask("PATCH", "/users/3", json={"bio": "New"}, token=token_for(1))

    answer = await b.get("/users?ids=9,3")

    assert [None, "New"] == [None, answer.json()[1]["bio"]]


async def test_a_batch_with_duplicates_is_upstreams(b: Bench) -> None:
    """What a service makes of the same id twice is its own affair."""
    answer = await b.get("/users?ids=3,3")

    assert ("BYPASS", True) == (answer.x_cache, "detail=batch-duplicates" in answer.cache_status)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/auth/me", "/auth/introspect"])
async def test_an_inactive_user_is_refused_at_the_first_question(path: str, method: str) -> None:
    """Nothing is known here, and upstream's own 200 shows an inactive user: 401, again and again."""

    async def shown(_: web.Request) -> web.Response:
        return web.json_response({"id": 5, "sub": "5", "is_active": False})

    app = web.Application()
    app.router.add_get(path, shown)
    async with bench(upstream=app) as b:
        for _ in range(3):
            answer = await b.ask(method, path, token=token_for(5))
            assert (401, 'Bearer error="invalid_token"') == (
                answer.status,
                answer.headers["WWW-Authenticate"],
            )
