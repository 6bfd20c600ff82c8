"""Settings are changed under a running proxy: what is taken over, and what is not."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.config import load
from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.model import Entry, Found, Reason, Ref, Reply, Request
from proxy.core.settings import Settings
from proxy.fastpath import Replays
from proxy.handler import EdgeServer, Line
from proxy.kept import Kept
from proxy.leases import Loaded
from proxy.reloading import changed
from tests.valkey import Valkey
from tests.walk import SECRET, Bench, bench, token_for


def settings(at: Bench, folder: Path, text: str, redis: str | None = None) -> Settings:
    """The settings of a routes.yaml before the bench's stub."""
    path = folder / "other.yaml"
    path.write_text(text.replace("{stub}", at.stub))
    given = {"ROUTES_FILE": str(path), "JWT_SECRET": SECRET, "ADMIN_LISTEN": "127.0.0.1:1"}
    return load(given if redis is None else given | {"REDIS_URL": redis})


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


async def test_old_settings_store_nothing_once_others_are_in_force(tmp_path: Path) -> None:
    """A walk that takes its ticket only after everything was dropped is refused as well."""
    async with bench(routes=ROUTES, tmp_path=tmp_path) as at:
        old, ref = at.app.cache, Ref("id", "1", "users")
        entry = Entry(user_id="1", status=200, stored=0.0, expires=4e9, dead=4e9)
        await at.app.change(settings(at, tmp_path, ROUTES.replace("60s", "61s")))
        assert Reason.STALE_FILL is await old.fill(ref, entry, await old.ticket(ref))

        async def load(_: object) -> Loaded[str]:
            return Loaded("loaded", entry)

        own = await old.leases.alone(ref, load)
        assert (False, Reason.STALE_FILL) == (own.stored, own.refused)
        assert not isinstance(await at.app.cache.get(ref), Found)
        new = at.app.cache
        assert await new.fill(ref, entry, await new.ticket(ref)) is None


class Learnt(Replays):
    """Notes what it is to make ready."""

    def __init__(self) -> None:
        super().__init__(10, lambda: b"")
        self.heads: list[bytes] = []

    def learn(self, head: bytes, reply: Reply) -> None:
        """Nothing more."""
        self.heads.append(head)


async def test_what_old_settings_allowed_is_not_made_ready_under_new_ones() -> None:
    """An answer that was begun under the old ones, on a connection that goes on."""
    begun, let_go = asyncio.Event(), asyncio.Event()
    offer: Any = object()

    async def walk(_: Request) -> Reply:
        begun.set()
        await let_go.wait()
        return Reply(200, b"OK", ((b"Content-Length", b"2"),), b"hi", offer=offer)

    replays = [Learnt(), Learnt()]
    lines = [Line(walk, LimitSettings(), EdgeSettings(), one) for one in replays]
    edge = EdgeServer(lines[0])
    server = await asyncio.get_running_loop().create_server(edge, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    await begun.wait()
    edge.follow(lines[1])
    let_go.set()
    await reader.readuntil(b"hi")
    await lines[0].ended()
    writer.write(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readuntil(b"hi")
    writer.close()
    server.close()
    assert [[], [b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"]] == [one.heads for one in replays]


RESOURCES = """
version: 1
upstream: {url: "{stub}"}
resources: {memory: 64KiB}
routes:
  - {match: "GET /avatars/{file:path}", resource: {}}
"""


@pytest.mark.parametrize("shared", [True, False])
async def test_the_room_for_resources_follows(tmp_path: Path, shared: bool) -> None:
    """Without a new store, with Redis and without: what was held before is there, and makes room as asked."""
    with ExitStack() as stack:
        redis = stack.enter_context(Valkey()).url if shared else None
        async with bench(routes=RESOURCES, tmp_path=tmp_path, redis=redis) as at:
            store: Any = at.app.cache.store
            memory: Any = store.memory if shared else store
            names = [
                f"/avatars/{(await at.get(f'/users/{one}')).json()['username']}.svg" for one in (1, 2, 3, 4)
            ]
            for name in names[:3]:
                assert "MISS" == (await at.get(name)).x_cache
            held = memory.stats.bytes
            await at.app.change(settings(at, tmp_path, RESOURCES.replace("64KiB", "1KiB"), redis))
            assert (at.app.cache.store, held) == (store, memory.stats.bytes)
            assert "MISS" == (await at.get(names[3])).x_cache
            assert memory.stats.bytes < held
