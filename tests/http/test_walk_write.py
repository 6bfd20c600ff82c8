"""Writes through the whole proxy: what they make stale is gone before the writer has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from proxy.config import PACKAGED
from proxy.core.model import Batch
from tests.clock import forward
from tests.walk import Bench, bench, token_for
from upstream_stub.people import person

USER = person(7, 5)


@pytest_asyncio.fixture(name="b")
async def _b() -> AsyncIterator[Bench]:
    async with bench() as started:
        yield started


async def _warm(b: Bench) -> None:
    await b.get("/users/5")
    await b.get("/users/6")
    assert "HIT" == (await b.get("/users/5")).x_cache


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "target", ["/users/5", f"/users/{USER.username}", f"/users/by-email/{USER.email}", "/users/5?notify=1"]
)
async def test_a_write_evicts_its_user_and_nobody_else(b: Bench, method: str, target: str) -> None:
    """By any key of the user: the next read is new, by every key, and other users stay hits."""
    await _warm(b)
    written = await b.ask(method, target, json={"display_name": "New"}, token=token_for(1))

    assert (200, "BYPASS") == (written.status, written.x_cache)
    fresh = await b.get("/users/5")
    assert ("MISS", "New") == (fresh.x_cache, fresh.json()["display_name"])
    by_name = await b.get(f"/users/{USER.username}")
    assert ("HIT", "New") == (by_name.x_cache, by_name.json()["display_name"])
    assert "HIT" == (await b.get("/users/6")).x_cache


async def test_a_rename_moves_the_aliases(b: Bench) -> None:
    """The old e-mail is nobody's and the new one is the user's, though a 404 was stored for it."""
    new = "brand.new@example.com"
    token = token_for(1)
    await b.get("/users/1")
    await b.get(f"/users/by-email/{USER.email}", token=token)
    assert 404 == (await b.get(f"/users/by-email/{new}", token=token)).status

    await b.ask("PATCH", "/users/5", json={"email": new}, token=token)

    assert 404 == (await b.get(f"/users/by-email/{USER.email}", token=token)).status
    found = await b.get(f"/users/by-email/{new}", token=token)
    assert (200, 5) == (found.status, found.json()["id"])


async def test_a_created_user_is_found_at_once(b: Bench) -> None:
    """Stored "not found" answers of the keys that a new user gets are gone."""
    assert 404 == (await b.get("/users/newbie")).status
    assert "HIT" == (await b.get("/users/newbie")).x_cache

    created = await b.ask(
        "POST", "/users", json={"email": "n@example.com", "username": "newbie", "password": "password-x"}
    )

    assert 201 == created.status
    assert 200 == (await b.get("/users/newbie")).status


async def test_a_deleted_user_is_gone_at_once(b: Bench) -> None:
    """By id and by alias."""
    await _warm(b)
    await b.get(f"/users/{USER.username}")

    assert 204 == (await b.ask("DELETE", "/users/5", token=token_for(1))).status

    assert 404 == (await b.get("/users/5")).status
    assert 404 == (await b.get(f"/users/{USER.username}")).status
    assert "HIT" == (await b.get("/users/6")).x_cache


async def test_a_refused_write_costs_nothing(b: Bench) -> None:
    """A 4xx changed nothing, so the copies stay."""
    await _warm(b)
    taken = await b.ask("PATCH", "/users/5", json={"email": person(7, 6).email})

    assert 409 == taken.status
    assert "HIT" == (await b.get("/users/5")).x_cache


async def test_the_tokens_user_is_evicted(b: Bench) -> None:
    """PUT /profile names its user by the token alone."""
    await _warm(b)
    done = await b.ask("PUT", "/profile", json={"bio": "New"}, token=token_for(5))

    assert 200 == done.status
    assert "New" == (await b.get("/users/5")).json()["bio"]
    assert "HIT" == (await b.get("/users/6")).x_cache


async def test_a_bulk_write_evicts_everybody(b: Bench) -> None:
    """`evict: all` raises the epoch."""
    await _warm(b)
    done = await b.ask(
        "POST", "/admin/users/bulk", json={"ids": [5, 6], "set": {"bio": "Same"}}, token=token_for(1)
    )

    assert 200 == done.status
    assert ("MISS", "MISS") == ((await b.get("/users/5")).x_cache, (await b.get("/users/6")).x_cache)


@pytest.mark.parametrize(("token", "others"), [(token_for(1), "HIT"), (None, "MISS")])
async def test_a_write_by_an_alias_that_nobody_has_looked_up(
    b: Bench, token: str | None, others: str
) -> None:
    """DELETE answers 204 and names nobody. Upstream tells whose alias it is; where it is not asked, as the
    look-up needs a token, all copies go."""
    await b.get("/users/6")
    assert 204 == (await b.ask("DELETE", f"/users/by-email/{USER.email}", token=token)).status

    assert 404 == (await b.get("/users/5")).status
    assert others == (await b.get("/users/6")).x_cache


async def test_an_unknown_outcome_counts_as_success() -> None:
    """Upstream commits and then drops the connection: the writer gets 502, readers get the new value."""
    async with bench(drop_after_commit_rate=1.0) as b:
        await _warm(b)
        lost = await b.ask("PATCH", "/users/5", json={"display_name": "New"}, token=token_for(1))

        assert (502, "application/problem+json") == (lost.status, lost.headers["Content-Type"])
        assert "New" == (await b.get("/users/5")).json()["display_name"]


async def test_an_error_counts_as_success() -> None:
    """Upstream commits and then fails: what readers had before is old."""
    bio = {"bio": "old"}

    async def user(_: web.Request) -> web.Response:
        return web.json_response({"id": 5, **bio})

    async def change(request: web.Request) -> web.Response:
        bio.update(await request.json())
        return web.json_response({"detail": "no"}, status=500)

    service = web.Application()
    service.router.add_get("/users/5", user)
    service.router.add_patch("/users/5", change)
    async with bench(upstream=service) as b:
        assert ["MISS", "HIT"] == [(await b.get("/users/5")).x_cache for _ in range(2)]
        assert 500 == (await b.ask("PATCH", "/users/5", json={"bio": "new"}, token=token_for(1))).status
        assert "new" == (await b.get("/users/5")).json()["bio"]


async def test_a_writer_that_hangs_up_still_evicts(b: Bench) -> None:
    """The client goes away while upstream has committed and not answered yet."""
    await _warm(b)
    await b.control(hold="update")
    change = b.ask("PATCH", "/users/5", json={"display_name": "New"}, token=token_for(1))
    writer = asyncio.ensure_future(change)
    await b.held("update", 1)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await b.control(release="all")

    for _ in range(200):
        answer = await b.get("/users/5")
        if answer.json()["display_name"] == "New":
            break
        await asyncio.sleep(0.01)
    assert "New" == answer.json()["display_name"]


@pytest.mark.parametrize(
    ("target", "kind"), [("/users/5", "user_by_id"), (f"/users/{USER.username}", "user_by_username")]
)
async def test_a_slow_read_never_undoes_a_write(b: Bench, target: str, kind: str) -> None:
    """What was read before the write is not stored after it, though it arrives later."""
    await b.control(hold=kind)
    slow = asyncio.ensure_future(b.get(target))
    await b.held(kind, 1)
    await b.ask("PATCH", "/users/5", json={"display_name": "New"}, token=token_for(1))
    await b.control(release="all")
    old = await slow

    assert "detail=stale-fill" in old.cache_status
    assert "New" != old.json()["display_name"]
    assert "New" == (await b.get(target)).json()["display_name"]


async def test_a_slow_not_found_never_hides_a_new_user(b: Bench) -> None:
    """A 404 that was read before the user was created is not stored after it."""
    await b.control(hold="user_by_username")
    slow = asyncio.ensure_future(b.get("/users/newbie"))
    await b.held("user_by_username", 1)
    user = {"email": "n@example.com", "username": "newbie", "password": "password-x"}
    await b.ask("POST", "/users", json=user)
    await b.control(release="all")

    assert 404 == (await slow).status
    assert 200 == (await b.get("/users/newbie")).status


async def test_a_reader_that_waits_never_gets_what_a_write_made_old(b: Bench) -> None:
    """One that starts after the write was answered joins a fill from before it, and sees the write."""
    await b.control(hold="user_by_id")
    slow = asyncio.ensure_future(b.get("/users/5"))
    await b.held("user_by_id", 1)
    await b.ask("PATCH", "/users/5", json={"display_name": "New"}, token=token_for(1))
    late = asyncio.ensure_future(b.get("/users/5"))
    # Both are with the proxy: the late one waits for the slow one's answer.
    await b.get("/users?limit=1")
    await b.control(release="all")
    await slow

    seen = await late
    assert (200, "New") == (seen.status, seen.json().get("display_name")), seen.body


async def test_login_is_never_cached(b: Bench) -> None:
    """Each login is checked by upstream; its token is good for the proxy as well."""
    for _ in range(2):
        login = await b.ask("POST", "/auth/login", json={"username": USER.username, "password": "password-5"})
        assert (200, "BYPASS") == (login.status, login.x_cache)
    assert 200 == (await b.get("/auth/me", token=login.json()["access_token"])).status
    assert 2 == (await b.calls())["login"]


async def test_a_user_is_fenced_while_a_write_is_under_way(b: Bench) -> None:
    """No hits and no fills from before upstream hears of the write; a refused write gives the copy back."""
    await _warm(b)
    await b.control(hold_before="update")
    body = {"email": person(7, 6).email}
    writer = asyncio.ensure_future(b.ask("PATCH", "/users/5", json=body, token=token_for(1)))
    await b.held("update", 1)

    during = [await b.get("/users/5") for _ in range(2)]
    other = await b.get("/users/6")
    await b.control(release="all")

    assert ["MISS", "MISS"] == [answer.x_cache for answer in during]
    assert "detail=fenced" in during[0].cache_status
    assert "HIT" == other.x_cache
    assert 409 == (await writer).status
    assert "HIT" == (await b.get("/users/5")).x_cache


async def test_a_key_that_is_about_to_be_given_is_fenced_too(b: Bench) -> None:
    """ "Nobody has this name" is neither answered nor stored while somebody is being given it."""
    assert 404 == (await b.get("/users/newbie")).status
    await b.control(hold_before="create")
    user = {"email": "n@example.com", "username": "newbie", "password": "password-x"}
    writer = asyncio.ensure_future(b.ask("POST", "/users", json=user))
    await b.held("create", 1)

    during = [await b.get("/users/newbie") for _ in range(2)]
    await b.control(release="all")
    await writer

    assert [(404, "MISS")] * 2 == [(answer.status, answer.x_cache) for answer in during]
    assert 200 == (await b.get("/users/newbie")).status


async def test_a_bad_token_cools_nothing(b: Bench) -> None:
    """On a route that asks for a token, a write without a good one raises no fence."""
    await _warm(b)
    await b.get(f"/users/by-email/{USER.email}", token=token_for(5))
    await b.control(hold_before="update")
    target = f"/users/by-email/{USER.email}"
    writer = asyncio.ensure_future(b.ask("PATCH", target, json={"bio": "x"}, token=token_for(1, exp=1)))
    await b.held("update", 1)

    assert "HIT" == (await b.get("/users/5")).x_cache
    await b.control(release="all")
    assert 401 == (await writer).status
    assert "HIT" == (await b.get("/users/5")).x_cache


async def test_two_writers_keep_the_fence_until_both_are_done(b: Bench) -> None:
    """The first one's outcome does not lift what the second one needs."""
    await _warm(b)
    await b.control(hold_before="update")
    writers = [
        asyncio.ensure_future(b.ask("PATCH", "/users/5", json={"bio": text}, token=token_for(1)))
        for text in ("one", "two")
    ]
    await b.held("update", 2)
    writers[0].cancel()
    await asyncio.gather(writers[0], return_exceptions=True)

    assert "MISS" == (await b.get("/users/5")).x_cache
    await b.control(release="all")
    await writers[1]
    assert "MISS" == (await b.get("/users/5")).x_cache


async def test_while_a_lost_write_may_still_happen_its_user_is_not_cached(b: Bench) -> None:
    """After a timeout the fence lingers: what is read meanwhile may be made old by the late commit."""
    await _warm(b)
    fence = await b.app.cache.fence(Batch(("5",)))
    await b.app.cache.settle(fence, Batch(("5",)), linger=3600.0)

    assert ["MISS", "MISS"] == [(await b.get("/users/5")).x_cache for _ in range(2)]
    assert "HIT" == (await b.get("/users/6")).x_cache


async def test_a_write_that_upstream_never_saw_costs_nothing(tmp_path: Path) -> None:
    """All of upstream's connections are taken: the write is refused here, and its user stays."""
    routes = PACKAGED.read_text().replace("max_connections: 100", "max_connections: 1")
    routes = routes.replace("connect_timeout: 1s", "connect_timeout: 100ms")
    async with bench(routes=routes, tmp_path=tmp_path) as b:
        await b.get("/users/5")
        await b.control(hold="profile")
        held = asyncio.ensure_future(b.get("/profiles/somebody"))
        await b.held("profile", 1)
        refused = await b.ask("PATCH", "/users/5", json={"bio": "x"}, token=token_for(5))
        assert 503 == refused.status
        assert "HIT" == (await b.get("/users/5")).x_cache
        await b.control(release="all")
        await held


async def test_a_user_stays_fenced_where_upstream_may_still_be_at_work(tmp_path: Path) -> None:
    """Its time was over, and the write is carried out after all: until then nothing is kept of its user."""
    routes = PACKAGED.read_text().replace("timeout: 10s", "timeout: 60s")
    async with bench(routes=routes, tmp_path=tmp_path) as b:
        await b.get("/users/5")
        await b.control(hold_before="update")
        writing = asyncio.ensure_future(b.ask("PATCH", "/users/5", json={"bio": "late"}, token=token_for(5)))
        await b.held("update", 1)
        forward(60.1)
        assert 504 == (await writing).status
        for _ in range(2):
            answer = await b.get("/users/5")
            assert ("MISS", "fenced") == (answer.x_cache, answer.cache_status.rpartition("=")[2])
        await b.control(release="all")


async def test_a_token_that_only_upstream_can_judge_evicts_its_user_alone() -> None:
    """The proxy has another key than the service: what that accepts drops one user, not everybody."""
    async with bench(env={"JWT_SECRET": "another-secret-that-is-long-enough-too-0"}) as b:
        for user in (5, 6):
            assert ["MISS", "HIT"] == [(await b.get(f"/users/{user}")).x_cache for _ in range(2)]
        written = await b.ask("PUT", "/profile", json={"bio": "new"}, token=token_for(5))
        assert 200 == written.status
        fresh = await b.get("/users/5")
        assert ("MISS", "new") == (fresh.x_cache, fresh.json()["bio"])
        assert "HIT" == (await b.get("/users/6")).x_cache
        refused = await b.ask("PUT", "/profile", json={"bio": "x"}, token=token_for(6) + "x")
        assert (401, "HIT") == (refused.status, (await b.get("/users/6")).x_cache)


async def test_a_write_by_a_key_that_nobody_has_looked_up_fences_its_user() -> None:
    """Upstream is asked whom the key names, so the user is not answered by id meanwhile."""
    async with bench() as b:
        await b.control(hold="update")
        write = asyncio.ensure_future(
            b.ask("PATCH", "/users/edsger5", json={"bio": "new"}, token=token_for(5))
        )
        await b.held("update", 1)
        assert ["MISS", "MISS"] == [(await b.get("/users/5")).x_cache for _ in range(2)]
        await b.control(release="all")
        assert 200 == (await write).status
        assert "new" == (await b.get("/users/5")).json()["bio"]
