"""The whole proxy in front of the stub while a real Valkey goes away and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.config import PACKAGED
from proxy.core.errors import StoreError
from tests.contract.kit import until
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for


async def _gone(b: Bench, valkey: Valkey) -> None:
    valkey.kill()
    await until(lambda: b.app.cache.store.recovery.down)  # type: ignore[attr-defined]


async def test_reject_refuses_writes_that_redis_can_not_be_told_of(tmp_path: Path) -> None:
    """503 as problem+json, upstream never hears of it; reads go on, and writes do when Redis is back."""
    routes = PACKAGED.read_text().replace("on_redis_loss: forward", "on_redis_loss: reject")
    with Valkey() as valkey:
        async with bench(routes=routes, tmp_path=tmp_path, redis=valkey.url) as b:
            await b.get("/users/5")
            await _gone(b, valkey)

            refused = await b.ask("PATCH", "/users/5", json={"bio": "x"}, token=token_for(1))
            assert (503, "urn:user-cache-proxy:problem:store-unreachable") == (
                refused.status,
                refused.json()["type"],
            )
            assert "update" not in await b.calls()
            # The fence is down again: the user is kept in memory, and given.
            answers = [await b.get("/users/5") for _ in range(2)]
            assert [(200, "HIT")] == [(one.status, one.x_cache) for one in answers[1:]]

            valkey.start()
            await until(lambda: not b.app.cache.store.recovery.down)  # type: ignore[attr-defined]
            done = await b.ask("PATCH", "/users/5", json={"bio": "x"}, token=token_for(1))
            assert (200, "x") == (done.status, (await b.get("/users/5")).json()["bio"])


@pytest.mark.parametrize("restart", [True, False], ids=["empty", "frozen"])
async def test_forward_serves_on_and_forgets_nothing(restart: bool) -> None:
    """No 5xx while Redis is away; a write made meanwhile is seen at once."""
    with Valkey() as valkey:
        async with (
            bench(redis=valkey.url, patience=0.25) as b,
            bench(redis=valkey.url, patience=0.25) as other,
        ):
            assert ["MISS", "HIT"] == [(await b.get("/users/5")).x_cache for _ in range(2)]
            await other.get("/users/6")
            if restart:
                valkey.kill()
            else:
                valkey.pause()
            seen = [await b.get("/users/5") for _ in range(5)]
            assert {200} == {one.status for one in seen}
            written = await b.ask("PATCH", "/users/5", json={"bio": "new"}, token=token_for(1))
            assert 200 == written.status
            assert "new" == (await b.get("/users/5")).json()["bio"]
            # This one begins when it is known that Redis is away, which still holds the user.
            await until(lambda: b.app.cache.store.recovery.down)  # type: ignore[attr-defined]
            assert 200 == (await b.ask("PATCH", "/users/6", json={"bio": "6"}, token=token_for(1))).status

            if restart:
                valkey.start()
            else:
                valkey.resume()
            store = b.app.cache.store
            ladder = store.recovery  # type: ignore[attr-defined]
            await until(lambda: not ladder.down and not len(ladder.pending))
            after = [await b.get("/users/5") for _ in range(3)]
            assert {"new"} == {one.json()["bio"] for one in after}
            assert "HIT" == after[-1].x_cache
            assert "6" == (await b.get("/users/6")).json()["bio"]


async def test_each_rung_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down and up again: `/health` and `/stats` say what answers, and whether memory may."""

    @asynccontextmanager
    async def refused(*_: str) -> AsyncIterator[AsyncIterator[bytes]]:
        raise StoreError("no connection")
        yield

    with Valkey() as valkey:
        async with bench(redis=valkey.url) as b, TestClient(TestServer(b.app.operators.app())) as client:
            store = b.app.cache.store
            feed, ladder = store._feed, store.recovery  # type: ignore[attr-defined]

            async def rung() -> tuple[str, str, bool]:
                health = await (await client.get("/health")).json()
                told = (await (await client.get("/stats")).json())["store"]
                for one in (health, told):
                    del one["latency_ms"]
                assert told == {name: health[name] for name in told}
                return health["status"], health["backend"], health["feed"]["alive"]

            assert ("ok", "redis", True) == await rung()
            with monkeypatch.context() as patch:
                patch.setattr(feed, "_listening", refused)
                valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda: not feed.alive)
                assert ("ok", "redis", False) == await rung()
            valkey.kill()
            await until(lambda: ladder.down)
            assert ("degraded", "memory", False) == await rung()
            valkey.start()
            await until(lambda: feed.alive and not ladder.down)
            assert ("ok", "redis", True) == await rung()
