"""Real processes under load and faults: several proxies, one Valkey, one service; every read is judged.

Prints each fault when it is over, then each violation with what happened around it, and figures at the end.
Exit code 1 where a read was too old, or a request failed that no fault had struck. `--bug` leaves out a step
of the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

import uvloop

from tests.processes import Stub
from tests.soak.checker import check
from tests.soak.faults import KINDS, Fault, Faults, Replica
from tests.soak.load import Load
from tests.soak.people import Person
from tests.soak.planted import BUGS
from tests.soak.record import Record
from tests.soak.report import report
from tests.valkey import Valkey

# The seconds that are left for reads when the last fault is over.
CALM = 1.0


def main() -> None:
    """Reads the command line, runs, reports. Raises SystemExit."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=positive(float), default=30.0)
    add("--replicas", type=positive(int), default=3)
    add("--users", type=positive(int), default=96)
    add("--memory", type=positive(int), default=10_000, help="users that a replica has room for")
    add("--readers", type=positive(int), default=12, help="each asks as soon as it is answered")
    add("--writers", type=positive(int), default=24, help="they share the users")
    add(
        "--writes",
        type=positive(float),
        default=400.0,
        help="a second, by all writers together",
    )
    add("--drop-rate", type=float, default=0.02, help="committed writes that get no answer")
    add("--no-faults", action="store_true")
    add("--only", action="append", choices=KINDS, help="this kind of fault; may be repeated")
    add("--bug", choices=sorted(BUGS), help="put a mistake in: the checker must find it")
    add("--seed", type=int, default=1)
    add("--json", action="store_true", help="the figures as one line of JSON")
    given = parser.parse_args()
    try:
        code = uvloop.run(soak(given))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


def positive(kind: type[int | float]) -> Callable[[str], float]:
    """An argument's type: more than nothing."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


async def soak(given: argparse.Namespace) -> int:
    """One run; its exit code."""
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        slow = {"latency": "3ms", "latency_jitter": "2ms", "drop_after_commit_rate": given.drop_rate}
        stub = stack.enter_context(Stub.start(users=given.users + 1, seed=given.seed, **slow))
        replicas = []
        for number in range(given.replicas):
            replica = await asyncio.to_thread(Replica, number, stub.url, valkey, given.bug, given.memory)
            stack.callback(replica.stop)
            replicas.append(replica)
        shown = [stub.get(f"/users/{number}").json() for number in range(1, given.users + 2)]
        witness, *people = [Person.of(user) for user in shown if user["is_active"]]
        load = Load(people, lambda n: replicas[n].url, stub.url, witness.token, given.seed)
        record, begun = load.record, time.monotonic()
        faults = Faults(replicas, valkey, given.seed, given.only, partial(tell, record, begun))
        await faults.recovered()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            much = {"readers": given.readers, "writers": given.writers, "writes": given.writes}
            group.create_task(load.run(stop, given.replicas, **much))
            try:
                await asyncio.sleep(given.seconds) if given.no_faults else await faults.run(given.seconds)
                await asyncio.sleep(CALM)
            finally:
                stop.set()
        spent = time.monotonic() - begun
        told = stub.get("/__stats").json()
        stack.pop_all().close()
    for replica in replicas:
        record.refused.update(f"replica logged: {line['message']}" for line in replica.errors)
    windows = sorted((one for replica in replicas for one in replica.outages), key=lambda one: one.begun)
    verdict = check(record.commits, record.reads, windows)
    upstream = {"calls": told["requests"]["total"], "drops": told["faults"]["drops"]}
    found = report(record, verdict, faults.done, windows, upstream, spent)
    for violation in verdict.violations:
        print(violation)  # noqa: T201 - it is what the command is for
    for cause in (*faults.done, *windows) if verdict.violations else ():
        print(cause)  # noqa: T201 - the same
    print(json.dumps(asdict(found)) if given.json else found)  # noqa: T201 - the same
    return 0 if found.good else 1


def tell(record: Record, begun: float, fault: Fault) -> None:
    """Says how far it is."""
    well = f"all {'' if fault.well else 'not '}well {fault.recovered - fault.ended:.1f} s later"
    count = f"{len(record.reads):,} reads, {sum(record.writes.values()):,} writes"
    print(f"{fault.recovered - begun:6.1f} s  {fault.kind}, {well}; {count}", flush=True)  # noqa: T201 - the same
