"""What a fence costs a writer: several replicas, a process each, on one Valkey.

`python -m bench.fence --replicas 3 --writes 2000` prints one line of JSON; times are milliseconds. With
`--flushed 5`: the first write on the empty server, and the first one after each of five FLUSHALLs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from proxy.cache import UserCache
from proxy.core.model import Batch
from proxy.feed import RENEW_EVERY
from tests.valkey import Valkey

WARM_UP = 200


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.fence", description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--writes", type=int, default=2000)
    parser.add_argument("--flushed", type=int, default=0)
    parser.add_argument("--listen", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.listen:
        asyncio.run(listen(given.listen))
        return
    with ExitStack() as stack:
        server = stack.enter_context(Valkey())
        for _ in range(given.replicas - 1):
            command = [sys.executable, "-m", "bench.fence", "--listen", server.url]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(child.communicate)
            assert child.stdout is not None
            if not given.flushed:
                child.stdout.readline()
        told = measure_first(server, given.flushed) if given.flushed else measure(server.url, given.writes)
        sys.stdout.write(json.dumps(asyncio.run(told)) + "\n")


async def joined(url: str) -> UserCache:
    """A cache that hears all announcements and need not wait for unlisted replicas."""
    cache = UserCache(url)
    await cache.ticket()
    await settled(cache)
    return cache


async def settled(cache: UserCache) -> None:
    """Returns when a fence of the cache need not wait for unlisted replicas."""
    async with asyncio.timeout(15):
        while not (await cache.health_check())["feed"]["settled"]:  # noqa: ASYNC110 - it says nothing
            await asyncio.sleep(0.05)


async def listen(url: str) -> None:
    """One of the other replicas, until its standard input ends."""
    cache = await joined(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await cache.close()


async def measure(url: str, writes: int) -> dict[str, Any]:
    """Fences one user after the other."""
    cache = await joined(url)
    fences, settles = [], []
    for number in range(WARM_UP + writes):
        batch = Batch((str(number % 100),))
        begun = time.perf_counter()
        fence = await cache.fence(batch)
        fenced = time.perf_counter()
        await cache.settle(fence, batch)
        if number >= WARM_UP:
            fences.append(fenced - begun)
            settles.append(time.perf_counter() - fenced)
    health = await cache.health_check()
    await cache.close()
    return {
        "writes": writes,
        "waited_out": health["feed"]["waited_out"],
        "fence": figures(fences),
        "settle": figures(settles),
    }


async def measure_first(server: Valkey, flushes: int) -> dict[str, Any]:
    """The first fence on an empty server, by a replica that has just joined, and those after a FLUSHALL."""
    cache = UserCache(server.url)
    await cache.ticket()
    batch, spent = Batch(("1",)), []
    for _ in range(1 + flushes):
        begun = time.perf_counter()
        fence = await cache.fence(batch)
        spent.append(round((time.perf_counter() - begun) * 1000, 1))
        await cache.settle(fence, batch)
        await settled(cache)
        # Another renewal, after which the whole table has been seen.
        await asyncio.sleep(RENEW_EVERY * 2)
        server.flush()
    await cache.close()
    return {"empty": spent[0], "flushed": spent[1:]}


def figures(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 3), "p99": round(cuts[98] * 1000, 3)}


if __name__ == "__main__":
    main()
