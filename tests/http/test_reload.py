"""Settings are changed under a running proxy: what is taken over, and what is not."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.config import load
from proxy.core.settings import Settings
from proxy.kept import Kept
from proxy.reloading import changed
from tests.walk import SECRET, Bench, bench, token_for


def settings(at: Bench, folder: Path, text: str) -> Settings:
    """The settings of a routes.yaml before the bench's stub."""
    path = folder / "other.yaml"
    path.write_text(text.replace("{stub}", at.stub))
    return load({"ROUTES_FILE": str(path), "JWT_SECRET": SECRET, "ADMIN_LISTEN": "127.0.0.1:1"})


ROUTES = """
version: 1
upstream: {url: "{stub}"}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


async def test_what_can_not_be_opened_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in it as well as a mistake: the old settings answer, and the log has no text of an exception."""
    async with bench(routes=ROUTES, tmp_path=tmp_path) as at:
        assert "MISS" == (await at.get("/users/1")).x_cache

        def broken(_: object) -> Any:
            raise RuntimeError("somebody@canary.example")

        before = settings(at, tmp_path, ROUTES)
        after = settings(at, tmp_path, ROUTES.replace("60s", "61s"))
        monkeypatch.setattr("proxy.app.Redactor", broken)
        door: Any = None
        with caplog.at_level(logging.ERROR):
            assert before is await changed(at.app, door, before, lambda: after)
        assert "HIT" == (await at.get("/users/1")).x_cache
    (line,) = [record.__dict__ for record in caplog.records]
    assert "settings not reloaded" == line["message"]
    assert line["mistake"].startswith("RuntimeError at ")
    assert "canary" not in str(line)


async def test_a_write_that_began_before_is_seen_by_readers_after(tmp_path: Path) -> None:
    """The store stays, so the old settings' write fences and evicts what the new ones' readers see."""
    routes = ROUTES + '  - {match: "PUT /profile?of={of:int}", write: {evict: [{id: query.of}]}}\n'
    async with bench(routes=routes, tmp_path=tmp_path) as at:
        assert "MISS" == (await at.get("/users/1")).x_cache
        await at.control(hold="profile_update")
        write = asyncio.ensure_future(at.ask("PUT", "/profile?of=1", token=token_for(1), json={"bio": "new"}))
        await at.held("profile_update", 1)
        await at.app.change(settings(at, tmp_path, routes.replace("version: 1", "version: 1\nholdback: 0%")))
        assert "MISS" == (await at.get("/users/1")).x_cache
        await at.control(release="all")
        assert 200 == (await write).status
        answer = await at.get("/users/1")
        assert ("MISS", "new") == (answer.x_cache, answer.json()["bio"])
        assert "HIT" == (await at.get("/users/1")).x_cache


async def test_parts_are_closed_by_the_last_one_to_leave() -> None:
    """And opened once for the same settings; for others there is another one, also beside it."""
    events: list[str] = []
    kept = Kept()

    def part(name: str) -> Any:
        @asynccontextmanager
        async def opened() -> Any:
            events.append(f"+{name}")
            yield name
            events.append(f"-{name}")

        return kept.part("one", name, opened)

    first, second, third = (AsyncExitStack() for _ in range(3))
    assert ["a", "a", "b"] == [
        await stack.enter_async_context(part(name))
        for stack, name in ((first, "a"), (second, "a"), (third, "b"))
    ]
    await first.aclose()
    assert ["+a", "+b"] == events
    await third.aclose()
    await second.aclose()
    assert ["+a", "+b", "-b", "-a"] == events
