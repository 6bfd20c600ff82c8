"""Traps of THREAT_MODEL.md that no other test walks into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.walk import bench, token_for

STALE = """version: 1
user: {keys: {username: {path: username}}, active: is_active}
views: {users: {ttl: 1s, stale_while_revalidate: 300s, stale_if_error: 300s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


async def test_a_deleted_user_is_not_revived_by_an_error(tmp_path: Path) -> None:
    """A stale answer may stand in for an error, but not one from before the user was deleted (trap 36)."""
    state: dict[str, Any] = {"fails": False}

    async def user(request: web.Request) -> web.Response:
        if request.method == "DELETE":
            return web.Response(status=204)
        if state["fails"]:
            return web.Response(status=503)
        return web.json_response({"id": 5, "username": "five", "is_active": True})

    app = web.Application()
    app.router.add_route("*", "/users/5", user)
    async with bench(routes=STALE, tmp_path=tmp_path, upstream=app) as b:
        assert [200, 200] == [(await b.get("/users/5")).status for _ in range(2)]
        await b.ask("DELETE", "/users/5", token=token_for(1))
        state["fails"] = True

        assert [503, 503] == [(await b.get("/users/5")).status for _ in range(2)]


async def test_a_write_reads_nobody_again() -> None:
    """What it drops is read when somebody asks, and not before (trap 37)."""
    async with bench() as b:
        for number in range(1, 6):
            await b.get(f"/users/{number}")
        before = await b.calls()
        await b.ask("PATCH", "/users/5", token=token_for(5), json={"bio": "new"})
        after = await b.calls()

    changed = {
        kind: count - before.get(kind, 0) for kind, count in after.items() if count != before.get(kind, 0)
    }
    assert [1] == list(changed.values()), changed


async def test_reading_renews_nothing() -> None:
    """Hits say when the answer ends, and that stays the same moment (trap 3)."""
    async with bench() as b:
        await b.get("/users/5")
        ends = set()
        for _ in range(20):
            hit = await b.get("/users/5")
            assert "HIT" == hit.x_cache
            ttl = int(hit.cache_status.partition("ttl=")[2].split(";")[0])
            ends.add(int(hit.headers["Age"]) + ttl)
        store: Any = b.app.cache.store
        (slot,) = (one for one in store._users["5"].slots.values() if one.entry.body)
        stored, expires = slot.entry.stored, slot.entry.expires
        for _ in range(20):
            await b.get("/users/5")
        (again,) = (one for one in store._users["5"].slots.values() if one.entry.body)

    assert (stored, expires) == (again.entry.stored, again.entry.expires)
    # Both are rounded, so that one of them may be a second less.
    assert max(ends) - min(ends) <= 1


async def test_the_client_has_no_jar_follows_nothing_and_obeys_no_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cookie and a redirect of the service are the client's; HTTP_PROXY is somebody else's (trap 24)."""
    seen: list[tuple[str, str | None]] = []

    async def moved(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Cookie")))
        headers = {"Location": "/elsewhere", "Set-Cookie": "a=1; Path=/"}
        return web.Response(status=302, headers=headers)

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    app = web.Application()
    app.router.add_get("/{rest:.*}", moved)
    async with bench(upstream=app) as b:
        for path in ("/users/5", "/other", "/other"):
            async with b.session.get(b.url + path, allow_redirects=False) as answer:
                assert (302, "/elsewhere") == (answer.status, answer.headers["Location"])
            b.session.cookie_jar.clear()

    assert [("/users/5", None), ("/other", None), ("/other", None)] == seen
