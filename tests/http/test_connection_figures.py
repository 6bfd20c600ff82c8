"""The connections there are, of clients, to upstream and to Redis, as counters and metrics show them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from proxy.admin.metrics import exposition
from tests.contract.kit import until
from tests.valkey import Valkey
from tests.walk import Bench, bench

ROUTES = """
version: 1
upstream: {url: "{stub}", max_connections: 2, connect_timeout: 200ms}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


async def told(at: Bench) -> Any:
    """The connections in /stats."""
    return (await at.app.operators._all())["connections"]


async def metric(at: Bench, name: str) -> float:
    """One number of /metrics."""
    text = exposition(await at.app.operators._all(), "")[0].decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"user_cache_proxy_{name} ")]
    return float(line.rpartition(" ")[2])


async def test_a_pool_that_is_exhausted_shows(tmp_path: Path) -> None:
    """In use up to the limit, then requests wait, and those that waited in vain are counted as busy."""
    async with bench(routes=ROUTES, tmp_path=tmp_path) as at:
        assert {
            "limit": 2,
            "in_use": 0,
            "idle": 0,
            "opening": 0,
            "waiting": 0,
            "opened": 0,
            "given_up": 0,
        } == (await told(at))["upstream"]
        await at.control(hold="user_by_id")
        asked = [asyncio.ensure_future(at.get(f"/users/{number}")) for number in (1, 2, 3)]
        await at.held("user_by_id", 2)
        await until(lambda: at.app.operators.duties.upstream()["waiting"] == 1)
        now = (await told(at))["upstream"]
        assert (2, 0, 1, 2) == (now["in_use"], now["idle"], now["waiting"], now["opened"])
        assert 3 == (await told(at))["client"]["busy"]
        assert 1 == await metric(at, "upstream_waiting_requests")
        assert 2 == await metric(at, 'upstream_connections{state="in_use"}')
        assert 2 == await metric(at, "upstream_connection_limit")
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [503] == [one.result().status for one in done]
        await at.control(release="all")
        assert [200, 200, 503] == sorted([(await one).status for one in asked])
        now = (await told(at))["upstream"]
        assert (0, 2, 0, 1) == (now["in_use"], now["idle"], now["waiting"], now["given_up"])
        assert 1 == at.app.telemetry.stats()["upstream_errors"]["upstream-busy"]


async def test_connections_to_redis_show() -> None:
    """One for the commands and one for the feed; after a cut others are opened."""
    with Valkey() as server:
        async with bench(redis=server.url) as at:
            await at.get("/users/1")
            now = (await told(at))["redis"]
            assert (2, 0, 0) == (now["in_use"], now["idle"], now["waiting"])
            before = now["opened"]
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            await at.get("/users/2")
            store: Any = at.app.cache.store
            await until(lambda: store.redis.link.figures["opened"] > before)
