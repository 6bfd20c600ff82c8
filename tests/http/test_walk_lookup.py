"""Look-ups through the whole proxy: what is answered from cache, what upstream is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from proxy.core.headers import Headers
from proxy.core.model import Request
from tests.walk import Bench, bench, token_for
from upstream_stub.people import person

USER = person(7, 5)


@pytest_asyncio.fixture(name="b")
async def _b() -> AsyncIterator[Bench]:
    async with bench() as started:
        yield started


async def test_a_user_is_asked_for_once(b: Bench) -> None:
    """The second look-up is a hit: same status, same body, an Age, and no upstream call."""
    miss = await b.get("/users/5")
    hit = await b.get("/users/5")

    assert (200, "MISS") == (miss.status, miss.x_cache)
    fresh = "user-cache-proxy; fwd=uri-miss; fwd-status=200; stored; ttl=300; detail=absent"
    assert fresh == miss.cache_status
    assert (200, "HIT", miss.body) == (hit.status, hit.x_cache, hit.body)
    assert hit.cache_status.startswith("user-cache-proxy; hit; ttl=")
    assert "0" == hit.headers["Age"]
    assert hit.headers["Via"] == miss.headers["Via"] == "1.1 user-cache-proxy"
    assert {"user_by_id": 1} == await b.calls()


async def test_a_hit_repeats_the_miss_before_it(b: Bench) -> None:
    """All header lines but Age and what the proxy says of itself are those of the miss."""
    own = {"Age", "X-Cache", "Cache-Status"}
    miss, hit = await b.get("/users/5"), await b.get("/users/5")

    assert {k: v for k, v in miss.headers.items() if k not in own} == {
        k: v for k, v in hit.headers.items() if k not in own
    }


@pytest.mark.parametrize(
    "target",
    [
        f"/users/{USER.username}",
        f"/users/by-email/{USER.email}",
        f"/users/by-email/{USER.email.upper()}",
        f"/users?phone={USER.phone.replace('+', '%2B')}",
        "/auth/me",
    ],
)
async def test_one_copy_serves_every_key(b: Bench, target: str) -> None:
    """A user that was filled by id is a hit by each of its other keys, and by the token of that user."""
    await b.get("/users/5")

    answer = await b.get(target, token=token_for(5))

    assert (200, "HIT", 5) == (answer.status, answer.x_cache, answer.json()["id"])
    assert {"user_by_id": 1} == await b.calls()


async def test_a_fill_by_email_serves_the_other_keys(b: Bench) -> None:
    """It works the other way round as well: the id is learnt from the answer."""
    first = await b.get(f"/users/by-email/{USER.email}", token=token_for(5))
    assert (200, "MISS") == (first.status, first.x_cache)

    for target in ("/users/5", f"/users/{USER.username}", f"/users/by-email/{USER.email}"):
        assert "HIT" == (await b.get(target, token=token_for(5))).x_cache
    assert {"user_by_email": 1} == await b.calls()


async def test_not_found_has_a_life_of_its_own(b: Bench) -> None:
    """A 404 is kept too, for the view's negative_ttl, by id and by alias."""
    for target in ("/users/4040", "/users/nobody"):
        miss, hit = await b.get(target), await b.get(target)

        assert (404, "MISS", 404, "HIT") == (miss.status, miss.x_cache, hit.status, hit.x_cache)
        assert "; ttl=10" in miss.cache_status
        assert miss.body == hit.body


async def test_views_do_not_mix(b: Bench) -> None:
    """A profile is another representation of the same user."""
    await b.get(f"/users/{USER.username}")

    profile = await b.get(f"/profiles/{USER.username}")

    assert "MISS" == profile.x_cache
    assert {"id", "username", "display_name", "bio"} == set(profile.json())
    assert "HIT" == (await b.get(f"/profiles/{USER.username}")).x_cache


async def test_many_users_are_explained_as_they_are_answered(b: Bench) -> None:
    """As a hit only where each of them is there."""
    asked = Request("GET", "/users?ids=1,2", Headers(()))
    await b.get("/users/1")
    said = []
    for _ in range(2):
        told = await b.app.operators.duties.explain(asked)
        said.append((told["would_be"], told["stored"], (await b.get(asked.target)).x_cache))

    assert [("MISS", 1, "MISS"), ("HIT", 2, "HIT")] == said


async def test_callers_of_a_cold_key_share_one_call(b: Bench) -> None:
    """Fifty concurrent readers cost upstream one request; the others are told that they waited."""
    await b.control(hold="user_by_id")
    readers = [asyncio.ensure_future(b.get("/users/5")) for _ in range(50)]
    await b.held("user_by_id", 1)
    await b.control(release="all")
    answers = await asyncio.gather(*readers)

    assert {"user_by_id": 1} == await b.calls()
    assert 1 == sum(answer.x_cache == "MISS" for answer in answers)
    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})


async def test_a_leader_that_hangs_up_leaves_nobody_waiting(b: Bench) -> None:
    """When the client that leads goes away, one of the waiters asks upstream instead."""
    await b.control(hold="user_by_id")
    leader = asyncio.ensure_future(b.get("/users/5"))
    await b.held("user_by_id", 1)
    waiter = asyncio.ensure_future(b.get("/users/5"))
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    await b.control(release="all")

    assert 200 == (await waiter).status


async def test_only_the_exact_spelling_is_answered(b: Bench) -> None:
    """Other spellings of a path are other requests to upstream, and are forwarded."""
    await b.get("/users/5")
    for target in ("/users/%35", "/users/5/", "/users//5", "/users/5?x=1"):
        answer = await b.get(target)

        assert "BYPASS" == answer.x_cache, target


async def test_another_users_answer_is_not_stored(b: Bench) -> None:
    """`/users/05` looks like a username here and is user 5 to upstream: passed on each time, stored never."""
    for _ in range(2):
        answer = await b.get("/users/05")

        assert (200, 5, "MISS") == (answer.status, answer.json()["id"], answer.x_cache)
        assert "stored=?0; detail=other-user" in answer.cache_status


@pytest.mark.parametrize(
    "headers",
    [{"X-HTTP-Method-Override": "DELETE"}, {"X-Original-URL": "/users/6"}, {"X-Rewrite-URL": "/users/6"}],
)
async def test_an_ambiguous_request_is_not_answered(b: Bench, headers: dict[str, str]) -> None:
    """A method or path hidden in a header goes to upstream, and what it answers is not stored."""
    bypass = await b.get("/users/5", headers=headers)
    after = await b.get("/users/5")

    assert ("BYPASS", "MISS") == (bypass.x_cache, after.x_cache)


async def test_a_get_with_a_body_is_not_answered(b: Bench) -> None:
    """Upstream may read the body."""
    await b.get("/users/5")

    answer = await b.ask("GET", "/users/5", json={"a": 1})

    assert ("BYPASS", True) == (answer.x_cache, "detail=request-body" in answer.cache_status)


async def test_head_is_answered_from_the_copy_of_get(b: Bench) -> None:
    """GET implies HEAD: the same header lines, no body."""
    full = await b.get("/users/5")
    head = await b.ask("HEAD", "/users/5")

    assert (200, "HIT", b"") == (head.status, head.x_cache, head.body)
    assert str(len(full.body)) == head.headers["Content-Length"]


async def test_a_client_may_ask_for_a_new_copy(b: Bench) -> None:
    """no-cache goes to upstream, and its answer replaces the stored one; no-store leaves nothing behind."""
    await b.get("/users/5")
    again = await b.get("/users/5", headers={"Cache-Control": "no-cache"})
    none = await b.get("/users/6", headers={"Cache-Control": "no-store"})

    assert ("MISS", "BYPASS") == (again.x_cache, none.x_cache)
    assert "stored" in again.cache_status
    assert "detail=request-no-store" in none.cache_status
    assert "MISS" == (await b.get("/users/6")).x_cache


async def test_only_if_cached_never_asks_upstream(b: Bench) -> None:
    """504 as problem+json where nothing is stored (RFC 9111 §5.2.1.7), the copy where there is one."""
    cold = await b.get("/users/5", headers={"Cache-Control": "only-if-cached"})
    await b.get("/users/5")
    warm = await b.get("/users/5", headers={"Cache-Control": "only-if-cached"})

    assert (504, "application/problem+json") == (cold.status, cold.headers["Content-Type"])
    assert "urn:user-cache-proxy:problem:only-if-cached" == cold.json()["type"]
    assert "HIT" == warm.x_cache
    assert {"user_by_id": 1} == await b.calls()


async def test_if_none_match_is_answered_here() -> None:
    """A client that has the copy gets 304, from the cache and on a miss alike."""
    async with bench(etag=True) as b:
        full = await b.get("/users/5")
        tag = full.headers["ETag"]
        hit = await b.get("/users/5", headers={"If-None-Match": tag})
        miss = await b.get("/users/6", headers={"If-None-Match": '"other"'})
        other = await b.get("/users/5", headers={"If-None-Match": '"other"'})

        assert (304, "HIT", b"", tag) == (hit.status, hit.x_cache, hit.body, hit.headers["ETag"])
        assert (200, "MISS") == (miss.status, miss.x_cache)
        assert (200, "HIT") == (other.status, other.x_cache)
        assert {"user_by_id": 2} == await b.calls()


async def test_a_secret_never_comes_through() -> None:
    """hashed_password is taken out on miss and hit alike, and the ETag is the proxy's own."""
    async with bench(leak_hash=True, etag=True) as b:
        direct = await b.ask("GET", "/users/5", base=b.stub)
        miss, hit = await b.get("/users/5"), await b.get("/users/5")
        refused = await b.get("/users/5", headers={"Cache-Control": "no-store"})

        assert "hashed_password" in direct.json()
        expected = {k: v for k, v in direct.json().items() if k != "hashed_password"}
        assert expected == miss.json() == hit.json() == refused.json()
        assert miss.headers["ETag"] == hit.headers["ETag"] != direct.headers["ETag"]


async def test_a_token_route_needs_a_good_token(b: Bench) -> None:
    """Without one, or with a bad one, upstream decides, and the copy stays unseen."""
    await b.get("/users/5")
    target = f"/users/by-email/{USER.email}"
    for token, reason in ((None, "token-missing"), (token_for(5, exp=1), "token-expired")):
        answer = await b.get(target, token=token)

        assert (401, "BYPASS") == (answer.status, answer.x_cache)
        assert f"detail={reason}" in answer.cache_status


async def test_an_unknown_caller_is_judged_by_upstream_once(b: Bench) -> None:
    """A good token of a user nobody knows yet costs one call; after that the caller gets hits."""
    await b.get("/users/5")
    target = f"/users/by-email/{USER.email}"

    first, second = await b.get(target, token=token_for(8)), await b.get(target, token=token_for(8))

    assert ("MISS", "HIT") == (first.x_cache, second.x_cache)
    assert {"user_by_id": 1, "user_by_email": 1} == await b.calls()


async def test_an_inactive_users_token_gets_no_copy(b: Bench) -> None:
    """User 13 is not active: upstream is asked, and refuses."""
    await b.get("/users/5")
    await b.get("/users/13")

    answer = await b.get(f"/users/by-email/{USER.email}", token=token_for(13))

    assert (401, "BYPASS") == (answer.status, answer.x_cache)
    assert "detail=user-inactive" in answer.cache_status


async def test_everything_undeclared_is_forwarded(b: Bench) -> None:
    """The list of users has no route: upstream answers each time, nothing is stored."""
    for _ in range(2):
        answer = await b.get("/users?limit=2")
        assert ("BYPASS", "user-cache-proxy; fwd=bypass; fwd-status=200; detail=no-route") == (
            answer.x_cache,
            answer.cache_status,
        )
    assert {"users_list": 2} == await b.calls()


async def test_off_is_a_pure_pass_through() -> None:
    """MODE=off answers nothing from cache."""
    async with bench(env={"MODE": "off"}) as b:
        for _ in range(2):
            assert "BYPASS" == (await b.get("/users/5")).x_cache
        assert {"user_by_id": 2} == await b.calls()
