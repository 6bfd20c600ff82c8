"""The admin socket: health, counters, eviction, explanation. JSON throughout."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from proxy.admin.dashboard import Dashboard
from proxy.admin.metrics import exposition, gauges
from proxy.admin.modes import Modes
from proxy.admin.origin import foreign
from proxy.admin.peers import RETOLD, Peers
from proxy.cache import UserCache
from proxy.core.errors import ConfigError, UpstreamError
from proxy.core.headers import Headers
from proxy.core.model import Evicted, Request
from proxy.core.ports import TokenKeys
from proxy.core.problems import problem_reply
from proxy.rollout import Rollout
from proxy.telemetry import Telemetry

log = logging.getLogger("proxy.admin")

Ping = Callable[[], Awaitable[None]]
Explain = Callable[[Request], Awaitable[dict[str, Any]]]
Figures = Callable[[], Mapping[str, int]]
_KEYS = ("id", "email", "username", "phone")


@dataclass(frozen=True, slots=True)
class Duties:
    """What operators ask about and act on, under one version of the settings."""

    cache: UserCache
    ping: Ping
    explain: Explain
    keys: TokenKeys | None = None
    modes: Modes = field(default_factory=lambda: Modes(Rollout()))
    upstream: Figures = dict
    """The connections to upstream."""


class Admin:
    """Answers on the admin socket; `token` is asked for where one is given. Times are monotonic seconds.

    `duties` is set anew when other settings come into force.
    """

    def __init__(
        self,
        duties: Duties,
        *,
        telemetry: Telemetry,
        token: str | None,
        peers: Peers,
        clients: Figures = dict,
    ) -> None:
        self.duties = duties
        self._clients = clients
        self._telemetry = telemetry
        self._token = token
        self._peers = peers
        self._started = time.monotonic()
        self._born = f"{os.getpid()}-{time.time_ns()}"
        self._dashboard = Dashboard(self._all)
        self.draining = False
        """Set when the process is about to end: `/readyz` says so, so that nobody sends it more."""

    def app(self) -> web.Application:
        """The routes. `/healthz`, `/readyz` and `/metrics` are open, everything else asks for the token."""
        app = web.Application(client_max_size=64 * 1024)
        app.add_routes(
            [
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
                web.get("/health", self._guarded(self.health)),
                web.get("/stats", self._guarded(self.stats)),
                web.get("/explain", self._guarded(self.explain)),
                web.post("/evict", self._guarded(self.evict)),
                web.get("/mode", self._guarded(self.mode)),
                web.post("/mode", self._guarded(self.switch)),
                *self._dashboard.routes(self._guarded),
            ]
        )
        app.cleanup_ctx.append(self._dashboard.ticking)
        return app

    async def healthz(self, _: web.Request) -> web.Response:
        """The process is alive and its event loop turns."""
        return _json({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Upstream takes connections, and there were keys for tokens. Redis never gates: see design §7.6."""
        if self.draining:
            return _json({"status": "draining"}, 503)
        try:
            await self.duties.ping()
        except UpstreamError as error:
            return _json({"status": "unready", "upstream": error.detail}, 503)
        if self.duties.keys is not None and not self.duties.keys.ready:
            return _json({"status": "unready", "upstream": "reachable", "token_keys": "no keys yet"}, 503)
        return _json({"status": "ready", "upstream": "reachable"})

    async def health(self, _: web.Request) -> web.Response:
        """`{"status", "backend", "latency_ms", "stats", …}` of the cache."""
        health = dict(await self.duties.cache.store.health())
        stats = await self._all()
        if self.duties.keys is not None:
            health["token_keys"] = dict(self.duties.keys.health())
        names = (*self._counters(), "workers", "agreement")
        return _json(health | {"stats": {name: stats[name] for name in names}})

    async def stats(self, _: web.Request) -> web.Response:
        """The counters since start."""
        return _json(await self._all())

    async def _all(self) -> dict[str, Any]:
        uptime = round(time.monotonic() - self._started, 3)
        store = dict(await self.duties.cache.store.health())
        mine = self._counters() | {"uptime_seconds": uptime, "store": store}
        link = getattr(getattr(self.duties.cache.store, "redis", None), "link", None)
        mine |= {"gauges": gauges(self.duties.cache.store, store), "replicas": store.get("replicas")}
        mine["connections"] = {
            "client": self._clients(),
            "upstream": self.duties.upstream(),
            "redis": {} if link is None else link.figures,
        }
        keys = self.duties.keys
        mine["token_keys_age_seconds"] = None if keys is None else keys.health()["age_seconds"]
        if link is not None:
            mine["redis_latency"] = link.latency.stats()
        return await self._peers.merged(mine | {"born": self._born}, self._token)

    def _counters(self) -> dict[str, Any]:
        fetches = {} if self.duties.keys is None else {"key_fetches": dict(self.duties.keys.counters())}
        return self._telemetry.stats() | fetches | {"mode": self.duties.modes.told["mode"]}

    async def metrics(self, request: web.Request) -> web.Response:
        """The counters of all workers, for Prometheus."""
        body, content_type = exposition(await self._all(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def explain(self, request: web.Request) -> web.Response:
        """What would be done with `?method=&url=`; header lines as repeated `header=Name: value`."""
        method, url = request.query.get("method", "GET"), request.query.get("url", "")
        if not url.startswith("/"):
            return _problem(
                400, "bad-request", "url must be a path with its query, e.g. ?method=GET&url=/users/42"
            )
        lines = []
        for line in request.query.getall("header", []):
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                return _problem(400, "bad-request", "a header is written as 'Name: value'")
            lines.append(
                (name.strip().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace"))
            )
        return _json(await self.duties.explain(Request(method.upper(), url, Headers(lines))))

    async def evict(self, request: web.Request) -> web.Response:
        """Removes one user (`{"id"|"email"|"username"|"phone": …}`) or all (`{"all": true}`).

        503 where Redis could not be told: the eviction is queued, but other replicas may still serve.
        """
        # A form or text/plain could be sent by any web page that a browser on this host has open.
        if request.content_type != "application/json":
            return _problem(415, "bad-request", "send JSON with Content-Type: application/json")
        try:
            asked = orjson.loads(await request.read())
        except ValueError:
            return _problem(400, "bad-request", "the body is not JSON")
        try:
            evicted = await self._evicted(asked)
        except ValueError as error:
            return _problem(400, "bad-request", str(error))
        everything = "all" in asked
        # By its id alone: what else leads to a user is personal.
        ids = (str(asked["id"]),) if "id" in asked else ()
        if RETOLD not in request.query:
            self._telemetry.invalidated(
                evicted.entries, evicted.aliases, everything=everything, cause="operator", ids=ids
            )
        answer = {
            "evicted": {"entries": evicted.entries, "aliases": evicted.aliases, "everything": everything}
        }
        # Also where Redis could not be told: their memories are within reach.
        told = await self._peers.evict(asked, self._token)
        if not evicted.delivered:
            sentence = "Redis can't be reached: queued; other replicas may still serve it"
            return _json(answer | {"error": sentence}, 503)
        if not told:
            sentence = "a worker of this process did not answer; it may still serve it"
            return _json(answer | {"error": sentence}, 503)
        return _json(answer)

    async def mode(self, _: web.Request) -> web.Response:
        """The mode in force, and the one that the settings ask for."""
        return _json(self.duties.modes.told)

    async def switch(self, request: web.Request) -> web.Response:
        """`{"mode": "serve" | "shadow" | "off"}`, from the next request on, in all workers.

        503 where a worker could not be told.
        """
        if request.content_type != "application/json":
            return _problem(415, "bad-request", "send JSON with Content-Type: application/json")
        try:
            asked = orjson.loads(await request.read())
        except ValueError:
            return _problem(400, "bad-request", "the body is not JSON")
        before = self.duties.modes.told["mode"]
        try:
            mode = self.duties.modes.switch(asked)
        except ValueError as error:
            return _problem(400, "bad-request", str(error))
        log.warning("the mode was switched", extra={"before": before, "mode": mode.value})
        if not await self._peers.switch(asked, self._token):
            sentence = "a worker of this process did not answer; it may still be in its former mode"
            return _json(self.duties.modes.told | {"error": sentence}, 503)
        return _json(self.duties.modes.told)

    async def _evicted(self, asked: object) -> Evicted:
        if not isinstance(asked, dict) or len(asked) != 1:
            raise ValueError(f'give exactly one of {", ".join(_KEYS)}, or "all": true')
        ((key, value),) = asked.items()
        if key == "all":
            if value is not True:
                raise ValueError('"all" takes the value true')
            return await self.duties.cache.evict(everything=True)
        if key not in _KEYS:
            raise ValueError(f'unknown key; give exactly one of {", ".join(_KEYS)}, or "all": true')
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f'"{key}" takes a string or a whole number')  # noqa: TRY004 - it is the client's
        name = "user_id" if key == "id" else key
        return await self.duties.cache.invalidate_user(**{name: str(value)})

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        if self._token is None:

            async def local(request: web.Request) -> web.Response:
                why = foreign(request.headers)
                return await handler(request) if why is None else _problem(403, "foreign-page", why)

            return local
        expected = f"Bearer {self._token}".encode()

        async def guarded(request: web.Request) -> web.Response:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                return _problem(401, "invalid-token", "send Authorization: Bearer with the ADMIN_TOKEN")
            return await handler(request)

        return guarded


def guard(host: str, token: str | None) -> str | None:
    """The token to ask for: none on loopback. Raises ConfigError for an open socket without a token."""
    if host == "localhost" or _is_loopback(host):
        return None
    if token is None:
        raise ConfigError((f"ADMIN_TOKEN: needed because the admin socket on {host} is not loopback",))
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _problem(status: int, problem: str, detail: str) -> web.Response:
    reply = problem_reply(status, problem, detail)
    body = reply.body if isinstance(reply.body, bytes) else b""
    return web.Response(body=body, status=status, content_type="application/problem+json")
