"""Real processes under load and faults: several proxies, one Valkey, one service; every read is judged.

Prints each violation with what happened around it, and at the end one line of JSON. Exit code 1 where a read
was too old, or a request failed that no fault had struck. `--bug` leaves out a step of the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

from tests.processes import Stub
from tests.soak.checker import DIRECT, Verdict, Window, check
from tests.soak.faults import KINDS, Faults, Replica
from tests.soak.load import Load, Person, Record
from tests.soak.planted import BUGS
from tests.valkey import Valkey

# The seconds that are left for reads when the last fault is over.
CALM = 1.0


def main() -> None:
    """Reads the command line, runs, reports. Raises SystemExit."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--memory", type=int, default=10_000, help="users that a replica has room for")
    parser.add_argument("--readers", type=int, default=12)
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--drop-rate", type=float, default=0.02, help="committed writes that get no answer")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--only", action="append", choices=KINDS, help="this kind of fault; may be repeated")
    parser.add_argument("--bug", choices=sorted(BUGS), help="put a mistake in: the checker must find it")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        code = asyncio.run(soak(given))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


async def soak(given: argparse.Namespace) -> int:
    """One run; its exit code."""
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        stub = stack.enter_context(
            Stub.start(
                users=given.users + 2,
                latency="3ms",
                latency_jitter="2ms",
                drop_after_commit_rate=given.drop_rate,
                seed=given.seed,
            )
        )
        replicas = []
        for number in range(given.replicas):
            replicas.append(
                await asyncio.to_thread(Replica, number, stub.url, valkey, given.bug, given.memory)
            )
            stack.callback(replicas[-1].stop)
        numbers = [n for n in range(2, given.users + 2) if n != 13 and n % 25]
        people = [introduce(stub, number) for number in numbers]
        witness = stub.token(1, str(stub.get("/users/1").json()["username"]))
        load = Load(people, given.replicas, lambda n: replicas[n].url, stub.url, witness, given.seed)
        faults = Faults(replicas, valkey, given.seed, given.only)
        begun = time.monotonic()
        await faults.recovered()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(stop, given.readers, given.writers))
            try:
                await asyncio.sleep(given.seconds) if given.no_faults else await faults.run(given.seconds)
                await asyncio.sleep(CALM)
            finally:
                stop.set()
        spent = time.monotonic() - begun
        upstream = stub.get("/__stats").json()
        stack.pop_all().close()
    windows = [outage for replica in replicas for outage in replica.outages]
    verdict = check(load.record.commits, load.record.reads, windows)
    for replica in replicas:
        for line in replica.errors:
            print(line)  # noqa: T201 - for whoever looks for the cause
    return report(load.record, verdict, faults, windows, upstream, spent)


def introduce(stub: Stub, number: int) -> Person:
    """A user of the service, with a token."""
    user = stub.get(f"/users/{number}").json()
    emails = (user["email"], f"other.{user['email']}")
    token = stub.token(number, user["username"])
    return Person(number, user["username"], user["phone"], emails, token, user["version"], user["email"])


def report(
    record: Record,
    verdict: Verdict,
    faults: Faults,
    windows: list[Window],
    upstream: dict[str, Any],
    spent: float,
) -> int:
    """Prints what was found; the exit code."""
    for violation in verdict.violations:
        print(violation)  # noqa: T201 - it is what the command is for
    for event in (*faults.done, *sorted(windows, key=lambda one: one.begun)) if verdict.violations else ():
        print(event)  # noqa: T201 - for whoever looks for the cause
    harmed = windows + [Window(one.begun, one.recovered, one.kind, DIRECT) for one in faults.done]
    through, direct = (
        [s for at, s in some if _calm(at, s, harmed)] for some in (record.latencies, record.direct)
    )
    kinds: dict[str, int] = dict.fromkeys(KINDS, 0)
    for fault in faults.done:
        kinds[fault.kind] += 1
    drops = upstream["faults"]["drops"]
    refused = {what: count for what, count in record.broken.items() if what[-1].isdigit()}
    # A dropped answer is a 502 to its writer; the direct writer sees some of the drops.
    excess = max(0, refused.get("write 502", 0) - drops)
    failed = {what: count for what, count in refused.items() if what != "write 502"}
    if excess:
        failed["write 502"] = excess
    reads = len(record.reads)
    summary = {
        "seconds": round(spent, 1),
        "reads": reads,
        "writes": record.writes,
        "faults": kinds,
        "violations": len(verdict.violations),
        "excused": verdict.excused,
        "seconds_without_redis": round(_covered(windows), 1),
        "failed": failed,
        "connections_lost": record.broken["read"] + record.broken["write"],
        "answers_dropped": drops,
        "hit_rate_percent": round(100 * record.hits / max(1, reads), 1),
        "upstream_calls": upstream["requests"]["total"],
        "write_ms": _figures(through),
        "direct_write_ms": _figures(direct),
        "added_ms": {
            name: round(_figures(through)[name] - _figures(direct)[name], 1) for name in ("p50", "p99")
        },
        "slowest_recovery": round(max((f.recovered - f.ended for f in faults.done), default=0.0), 1),
    }
    print(json.dumps(summary))  # noqa: T201 - the same
    return 1 if verdict.violations or failed else 0


def _calm(begun: float, spent: float, harmed: list[Window]) -> bool:
    return not any(window.begun <= begun + spent and begun <= window.ended for window in harmed)


def _covered(windows: list[Window]) -> float:
    """Seconds in at least one of them."""
    total, until = 0.0, 0.0
    for window in sorted(windows, key=lambda one: one.begun):
        total += max(0.0, window.ended - max(window.begun, until))
        until = max(until, window.ended)
    return total


def _figures(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {"p50": 0.0, "p99": 0.0}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}
