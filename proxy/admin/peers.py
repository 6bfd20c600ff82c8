"""The other workers of this process group, over unix sockets that only this user can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from proxy.admin.tally import Tally, added
from proxy.checks import rates

TIMEOUT = aiohttp.ClientTimeout(total=1.0)

# In the query of an eviction that another worker has counted already.
RETOLD = "retold"


class Peers:
    """Asks each worker behind `paths`; one that does not answer within a second is left out.

    `token` is what their admin asks for, as ours does: they have the same settings.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._tally = Tally(Path(paths[0]).with_name("counts") if paths else None)

    async def merged(self, mine: dict[str, Any], token: str | None) -> dict[str, Any]:
        """The figures of this worker and of each that answers, and what others had counted."""
        answers = await asyncio.gather(*(self._ask(path, "GET", "/stats", token) for path in self._paths))
        workers = {"": mine, **dict(zip(self._paths, answers, strict=True))}
        lost = self._tally.lost(workers) if self._paths else {}
        return merged([mine, *(answer for answer in answers if answer is not None)], lost)

    async def switch(self, asked: object, token: str | None) -> bool:
        """Switches each worker's mode; False where a worker could not be told."""
        body = orjson.dumps(asked)
        answers = await asyncio.gather(
            *(self._ask(path, "POST", "/mode", token, body) for path in self._paths)
        )
        return None not in answers

    async def evict(self, asked: object, token: str | None) -> bool:
        """Drops the users from each worker's memory; False where a worker could not be told."""
        body = orjson.dumps(asked)
        answers = await asyncio.gather(
            *(self._ask(path, "POST", f"/evict?{RETOLD}", token, body) for path in self._paths)
        )
        return None not in answers

    async def _ask(
        self, path: str, method: str, url: str, token: str | None, body: bytes | None = None
    ) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), timeout=TIMEOUT) as session,
                session.request(method, f"http://localhost{url}", data=body, headers=headers) as response,
            ):
                answer: dict[str, Any] = orjson.loads(await response.read())
                return answer if response.ok else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None


_NOTHING: Mapping[str, Any] = {}
# Figures of one process, or shared by all: adding them up would be wrong.
_NOT_ADDED = frozenset(
    {"hit_rate_percent", "uptime_seconds", "store", "mode", "replicas", "token_keys_age_seconds", "born"}
)


def merged(stats: Sequence[dict[str, Any]], lost: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """The workers' counters added up, and those of workers that are gone; what can't be added is the first
    one's, rates are made again."""
    total = dict(stats[0])
    for other in (*stats[1:], lost):
        total = {name: _kept(name, total.get(name), other.get(name)) for name in {**total, **other}}
    lookups = total["hits"] + total["misses"]
    total["hit_rate_percent"] = round(100 * total["hits"] / lookups, 2) if lookups else 0.0
    total["workers"] = len(stats)
    total["agreement"] = {
        kind: {route: rates(counts) for route, counts in found.items()}
        for kind, found in total["checks"].items()
    }
    return total


def _kept(name: str, one: Any, other: Any) -> Any:
    return one if name in _NOT_ADDED else added(one, other)
