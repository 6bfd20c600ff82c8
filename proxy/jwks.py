"""The token keys of a key server: fetched at start, again before they are too old, and when one is missing.

The last good set is kept while the server fails, for a day at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from proxy.core.cachecontrol import delta_seconds, http_date, parse
from proxy.core.errors import UpstreamError
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.ports import Upstream
from proxy.core.tokenkeys import MAX_BYTES, KeySet, jwks_keys

log = logging.getLogger("proxy")

# Seconds.
SHORTEST, LONGEST, DEFAULT = 30.0, 3600.0, 300.0  # of the set's own freshness
REFETCH: Final = 30.0  # between two fetches that unknown kids ask for
KEPT: Final = 86400.0  # a set that could not be renewed
PATIENCE: Final = 10.0  # for one whole fetch
FIRST_RETRY: Final = 1.0  # doubled with each failure, up to SHORTEST

Fetch = Callable[[], Awaitable[tuple[int, Headers, bytes]]]
Pause = Callable[[float, asyncio.Event], Awaitable[None]]

_HEADERS = Headers(
    ((b"Accept", b"application/jwk-set+json, application/json"), (b"Accept-Encoding", b"identity"))
)


async def pause(seconds: float, wake: asyncio.Event) -> None:
    """Returns after `seconds`, or as soon as `wake` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


class KeyServer:
    """Keeps `use` supplied with the keys that `fetch` brings; to be entered as a context.

    `fetch` returns status, header and body. `now` is the wall clock, `clock` a steady one, in seconds.
    """

    def __init__(
        self,
        fetch: Fetch,
        use: Callable[[KeySet], None],
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = pause,
    ) -> None:
        self._fetch = fetch
        self._use = use
        self._now = now
        self._clock = clock
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._unknown = asyncio.Event()
        self._began = 0.0
        self._delay = 0.0
        self._streak = 0
        self._keys: KeySet | None = None
        self.ready = False
        """Whether there was ever a key. It stays so: a key server's mistake must not stop the service."""
        self.fetched = 0
        """Fetches that brought a key set."""
        self.failed = 0
        """Fetches that did not."""
        self.error: str | None = None
        """What the last fetch failed with."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def unknown_kid(self) -> None:
        """A token's key is not in the set. Many such tokens cost one fetch, and that at most every 30 s."""
        self._unknown.set()

    def counters(self) -> dict[str, int]:
        """Fetches by result."""
        return {"ok": self.fetched, "failed": self.failed}

    def health(self) -> dict[str, Any]:
        """`{"status", "keys", "unusable", "age_seconds", "error"}`, for people."""
        keys, now = self._keys, self._now()
        as_of = None if keys is None else keys.as_of
        return {
            "status": "ok"
            if keys is not None and keys.usable(now)
            else "no keys"
            if self.ready
            else "no keys yet",
            "keys": 0 if keys is None else len(keys.keys),
            "unusable": 0 if keys is None else len(keys.unusable),
            "age_seconds": None if as_of is None else round(now - as_of, 1),
            "error": self.error,
        }

    async def refresh(self) -> None:
        """One fetch; what is wrong with its answer is counted and told, and the last good set stays."""
        self._began, began = self._clock(), self._now()
        try:
            async with asyncio.timeout(PATIENCE):
                status, headers, body = await self._fetch()
            if status != 200:
                raise ValueError(f"status {status}")
            # What a cache on the way had kept for a while was true only then (RFC 9111 §4.2.3).
            as_of = began - (delta_seconds(headers.get("age")) or 0)
            keys = replace(jwks_keys(body), as_of=as_of, dead=began + KEPT)
            delay = lifetime(headers, began)
        except TimeoutError:
            self._failure("no answer in time")
        except UpstreamError as error:
            self._failure(error.detail)
        except ValueError as error:
            self._failure(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the next fetch must still be made
            self._failure(type(error).__name__)
        else:
            self._delay = delay
            self._success(keys)
        # Whoever asked while this fetch was on its way asks again if it did not help.
        self._unknown.clear()

    def _success(self, keys: KeySet) -> None:
        if self._keys is None or self._keys.keys != keys.keys or self._streak:
            extra = {"keys": len(keys.keys), "unusable": len(keys.unusable)}
            log.log(logging.INFO if keys.keys else logging.WARNING, "token keys fetched", extra=extra)
        self._keys, self.error = keys, None
        self.ready = self.ready or bool(keys.keys)
        self.fetched += 1
        self._streak = 0
        self._use(keys)

    def _failure(self, sentence: str) -> None:
        self.failed += 1
        self._delay = min(FIRST_RETRY * 2.0 ** min(self._streak, 10), SHORTEST)
        if not self._streak or sentence != self.error:
            log.warning("token keys could not be fetched", extra={"error": sentence})
        self._streak += 1
        self.error = sentence

    async def _run(self) -> None:
        never = asyncio.Event()
        while True:
            await self.refresh()
            due = self._began + self._delay
            await self._pause(due - self._clock(), self._unknown)
            if self._unknown.is_set():
                await self._pause(min(due, self._began + REFETCH) - self._clock(), never)


class KeyServers:
    """The key servers of several issuers, as operators see them."""

    def __init__(self, servers: Mapping[str, KeyServer]) -> None:
        self._servers = servers

    @property
    def ready(self) -> bool:
        """Whether each of them ever had a key: until then some tokens are forwarded one by one."""
        return all(one.ready for one in self._servers.values())

    def counters(self) -> dict[str, int]:
        """Fetches by result, of all of them."""
        each = [one.counters() for one in self._servers.values()]
        return {result: sum(one[result] for one in each) for result in each[0]}

    def health(self) -> dict[str, Any]:
        """`{"status", "issuers": {issuer: …}}`; the status is the first that is not ok."""
        each = {issuer: one.health() for issuer, one in self._servers.items()}
        wrong = (one["status"] for one in each.values() if one["status"] != "ok")
        return {"status": next(wrong, "ok"), "issuers": each}


def lifetime(headers: Headers, now: float) -> float:
    """Seconds until the set is to be fetched again: its freshness (RFC 9111 §4.2.1) within bounds."""
    directives = parse(headers.joined("cache-control"))
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST
    seconds = DEFAULT
    if "max-age" in directives:
        seconds = float(delta_seconds(directives["max-age"]) or 0)
    elif "expires" in headers:
        expires, date = http_date(headers.get("expires")), http_date(headers.get("date"))
        # §5.3: what is no date, such as 0, is in the past.
        seconds = 0.0 if expires is None else expires - (now if date is None else date)
    seconds -= delta_seconds(headers.get("age")) or 0
    return min(max(seconds, SHORTEST), LONGEST)


def split_url(url: str) -> tuple[str, str]:
    """A key server's URL as the address to connect to and the target to ask for."""
    parts = urlsplit(url)
    target = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{target}?{parts.query}" if parts.query else target


def fetch_from(upstream: Upstream, target: str) -> Fetch:
    """GETs `target`; follows no redirect. Raises UpstreamError, and ValueError for a huge answer."""

    async def fetch() -> tuple[int, Headers, bytes]:
        reply = await upstream.send(Request("GET", target, _HEADERS))
        if isinstance(reply.body, bytes):
            return reply.status, Headers(reply.headers), reply.body
        chunks, size = [], 0
        try:
            async for chunk in reply.body:
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise ValueError(f"larger than {MAX_BYTES // 1024} KiB")
        finally:
            close = getattr(reply.body, "aclose", None)
            if close is not None:
                await close()
        return reply.status, Headers(reply.headers), b"".join(chunks)

    return fetch
