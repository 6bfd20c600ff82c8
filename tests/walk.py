"""The whole proxy in this process, on real sockets, in front of the stub: what the http tests drive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from proxy.app import App, compose
from proxy.config import load
from proxy.feed import LEASE
from tests.answer import Answer
from tests.valkey import known, patient
from upstream_stub.api import make_app
from upstream_stub.options import Options

SECRET = "a-secret-of-tests-that-is-long-enough-0"


@dataclass
class Bench:
    """A proxy and its stub; `calls` counts what reached the stub."""

    url: str
    stub: str
    app: App
    session: aiohttp.ClientSession
    tokens: dict[int, str] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        base: str | None = None,
    ) -> Answer:
        """Sends one request to the proxy (or to `base`) with the target as written."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = None if json is None else orjson.dumps(json)
        if data is not None:
            sent["Content-Type"] = "application/json"
        url = URL((base or self.url) + target, encoded=True)
        async with self.session.request(method, url, headers=sent, data=data) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, target: str, **more: Any) -> Answer:
        """GET through the proxy."""
        return await self.ask("GET", target, **more)

    async def calls(self) -> dict[str, int]:
        """What reached the stub, by kind; zeros left out."""
        answer = await self.ask("GET", "/__stats", base=self.stub)
        return {kind: n for kind, n in answer.json()["requests"]["by_kind"].items() if n}

    async def control(self, **settings: Any) -> None:
        """Changes the stub while it runs."""
        answer = await self.ask("POST", "/__control", json=settings, base=self.stub)
        assert 200 == answer.status, answer.body

    async def held(self, kind: str, count: int) -> None:
        """Waits until the stub holds `count` requests of that kind."""
        answer = await self.ask("GET", f"/__control?held={kind}&count={count}", base=self.stub)
        assert 200 == answer.status, answer.body


def token_for(user_id: int | str, **claims: Any) -> str:
    """A good token of a user, as the stub would issue it."""
    return jwt.encode({"sub": str(user_id), "exp": 4_000_000_000, **claims}, SECRET, algorithm="HS256")


@asynccontextmanager
async def bench(
    *,
    routes: str | None = None,
    tmp_path: Path | None = None,
    redis: str | None = None,
    patience: float = 5.0,
    lease: float = LEASE,
    env: Mapping[str, str] | None = None,
    upstream: web.Application | None = None,
    **stub: Any,
) -> AsyncIterator[Bench]:
    """Starts stub (or `upstream`) and proxy on free ports.

    `routes` is a routes.yaml as text, in which `{stub}` stands for the stub's URL. Redis has
    `patience` seconds for an answer: more than the product gives it, as tests run on busy machines. Where
    memory must not be lost on one that stands still, `lease` (seconds) is longer as well.
    """
    environ = {"JWT_SECRET": SECRET, "LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:1", **(env or {})}
    if redis is not None:
        environ["REDIS_URL"] = redis
    if routes is not None:
        assert tmp_path is not None
        environ["ROUTES_FILE"] = str(tmp_path / "routes.yaml")
    options = Options(**{"users": 30, "latency": 0.0, "latency_jitter": 0.0, "jwt_secret": SECRET, **stub})
    async with TestServer(upstream or make_app(options)) as origin:
        stub_url = str(origin.make_url("")).rstrip("/")
        environ["UPSTREAM_URL"] = stub_url
        if routes is not None and tmp_path is not None:
            (tmp_path / "routes.yaml").write_text(routes.replace("{stub}", stub_url))
        async with AsyncExitStack() as stack:
            if redis is not None:
                known(redis)
            with patient(patience, lease):
                app = await stack.enter_async_context(compose(load(environ)))
            if redis is not None:
                # Memory is used from the first request on.
                async with asyncio.timeout(10):
                    await app.cache.store._feed.proven()  # type: ignore[attr-defined]
            loop = asyncio.get_running_loop()
            server = await loop.create_server(app.server, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            connector = aiohttp.TCPConnector(limit=0)
            try:
                async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
                    yield Bench(f"http://127.0.0.1:{port}", stub_url, app, session)
            finally:
                server.close()
                await app.server.shutdown(1.0)
