"""The dashboard: one page out of this package, and the stream of figures that keeps it moving."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from proxy import __version__
from proxy.checks import rates
from proxy.core.why import WHY
from proxy.histogram import Histogram, summary

# No inline code or style, nothing from elsewhere, nobody may frame it.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_WHY: Final = {reason.value: sentence for reason, sentence in WHY.items()}
_EVERY = 1.0
# An hour in steps of ten seconds.
_STEP, _STEPS = 10.0, 361
MAX_VIEWERS: Final = 20

Stats = Callable[[], Awaitable[Mapping[str, Any]]]


class Dashboard:
    """Serves the page and its stream. `stats` gives the figures of all workers."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._history: deque[tuple[float, int, int]] = deque(maxlen=_STEPS)
        self._viewers = 0
        self._latest: tuple[float, dict[str, Any]] | None = None
        self._looking = asyncio.Lock()

    def routes(self, guarded: Callable[[Any], Any]) -> list[web.RouteDef]:
        """The page is open, as it holds nothing; what it shows is not."""
        return [*(web.get(path, self.page) for path in PAGE), web.get("/events", guarded(self.events))]

    async def page(self, request: web.Request) -> web.Response:
        """The page and its parts."""
        name, kind = PAGE[request.path]
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        body = Path(__file__).with_name("page").joinpath(name).read_bytes()
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the figures once a second, until the viewer leaves."""
        if self._viewers >= MAX_VIEWERS:
            return web.json_response({"detail": "too many viewers"}, status=503)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        self._viewers += 1
        try:
            await response.prepare(request)
            while True:
                await response.write(b"data: " + orjson.dumps(await self._figures()) + b"\n\n")
                await asyncio.sleep(_EVERY)
        except ConnectionError:
            return response
        finally:
            self._viewers -= 1

    async def ticking(self, _: web.Application) -> AsyncIterator[None]:
        """Notes the counts every ten seconds while the app lives, for the chart of the last hour."""
        task = asyncio.create_task(self._tick())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _tick(self) -> None:
        while True:
            stats = await self._stats()
            self._history.append((time.time(), stats["hits"], stats["total_lookups"]))
            await asyncio.sleep(_STEP)

    async def _figures(self) -> dict[str, Any]:
        """One look for all viewers who ask within a second."""
        async with self._looking:
            now = time.monotonic()
            if self._latest is None or now - self._latest[0] >= 0.9 * _EVERY:
                self._latest = (now, figures(await self._stats(), list(self._history), time.time()))
            return self._latest[1]


def figures(stats: Mapping[str, Any], history: list[tuple[float, int, int]], now: float) -> dict[str, Any]:
    """What the page shows; nothing of it is personal."""
    latency = stats["latency"]
    nothing = Histogram().stats()
    held = latency.get("HOLDBACK")
    reasons = sorted(stats["reasons"].items(), key=lambda pair: -pair[1])
    kept = (
        *("hits", "saved", "mode", "tiers", "store", "workers", "recent_evictions", "gauges", "replicas"),
        *("connections", "upstream"),
    )
    return {
        "now": now,
        "requests": sum(stats["requests"].values()),
        "lookups": stats["total_lookups"],
        "uptime_seconds": stats["uptime_seconds"],
        **{name: stats[name] for name in kept},
        "version": __version__,
        "reasons": {name: [count, _WHY.get(name, "")] for name, count in reasons},
        "refused": sum(stats["refused"].values()),
        "hit_latency": summary(latency.get("HIT", nothing)),
        # Held-back hits are the fair comparison; without them, whatever upstream answered.
        "upstream_latency": summary(held or stats["upstream_latency"]),
        "held_back": 0 if held is None else summary(held)["count"],
        "truth": {route: rates(found) for route, found in stats["checks"]["truth"].items()},
        "shadow": {route: rates(found) for route, found in stats["checks"]["shadow"].items()},
        "history": history,
    }
