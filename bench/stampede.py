"""A cold user under many concurrent readers on several replicas: upstream calls, and how soon all are served.

`python -m bench.stampede --replicas 3 --readers 300` prints one line of JSON; times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from bench.fence import joined
from proxy.core.model import Entry, Ref, Ticket
from proxy.leases import Loaded
from tests.valkey import Valkey

COLD = Ref("id", "42", "users")


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.stampede", description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--readers", type=int, default=300)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that upstream takes")
    given = parser.parse_args()
    with Valkey() as server:
        told = asyncio.run(measure(server.url, given.replicas, given.readers, given.latency))
    sys.stdout.write(json.dumps(told) + "\n")


async def measure(url: str, replicas: int, readers: int, latency: float) -> dict[str, Any]:
    """All readers at once."""
    caches = [await joined(url) for _ in range(replicas)]
    calls: list[float] = []

    async def load(_: Ticket) -> Loaded[None]:
        await asyncio.sleep(latency)
        calls.append(time.perf_counter())
        now = time.time()
        return Loaded(
            None, Entry(user_id="42", status=200, body=b"{}", stored=now, expires=now + 60, dead=now + 60)
        )

    async def read(number: int) -> None:
        leases = caches[number % replicas].leases
        await leases.fill_once(COLD, leases.landed, load)

    begun = time.perf_counter()
    await asyncio.gather(*(read(number) for number in range(readers)))
    ended = time.perf_counter()
    for cache in caches:
        await cache.close()
    return {
        "replicas": replicas,
        "readers": readers,
        "upstream_calls": len(calls),
        "all_served": round((ended - begun) * 1000, 1),
        "after_the_answer": round((ended - calls[0]) * 1000, 1),
    }


if __name__ == "__main__":
    main()
