"""The rows that are no comparison of CPU time: starts, memory, first checks of tokens, tails, workers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time

from bench import goals, peers
from bench.measure import (
    LOAD_CORE,
    Load,
    Server,
    cpu_seconds,
    measure,
    memory,
    running,
    token,
    tree,
    warm,
)
from bench.peers import Peer
from bench.rate import MISSING, at_rate, generator

STARTERS = (peers.PROXY, peers.NGINX, peers.HAPROXY, peers.VARNISH, peers.ENVOY)
FIRST_CHECKS = 20_000
REDIS_USERS = 5000
LOAD = 0.7
WORKERS_USERS = 2000
# Cores' worth of two workers' time beside the load from which on they must have worked at once.
AT_ONCE = 1.2


def each_once(server: Server, heads: tuple[str, ...]) -> dict[str, int]:
    """What came of each of them, from the load's own core."""
    file = server.folder / "once-heads"
    file.write_text("\n".join(heads) + "\n")
    words = [sys.executable, "-m", "bench.once", str(server.port), str(file)]
    done = subprocess.run(["taskset", "-c", LOAD_CORE, *words], check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def starts(rounds: int) -> None:
    """From the start of the process to the first answer, and what memory it has then."""
    print("| peer | start to first answer, s | idle MB |\n|---|---|---|")
    own: tuple[float, float] = (0, 0)
    for peer in STARTERS:
        if peer.missing():
            print(f"| {peer.name} | left out, missing {', '.join(peer.missing())} | |")
            continue
        seconds, sizes = [], []
        for _ in range(rounds):
            with running(peer) as server:
                # What came before (the origin) is not the peer's.
                began = time.perf_counter() - server.started
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(b"GET /other HTTP/1.1\r\nHost: users\r\n\r\n")
                    sock.recv(100)
                seconds.append(time.perf_counter() - began)
                time.sleep(0.5)
                sizes.append(memory(tree(server.process.pid)))
        found = statistics.median(seconds), statistics.median(sizes)
        own = own if peer is not peers.PROXY else found
        print(f"| {peer.name} | {found[0]:.3f} | {found[1]:.0f} |", flush=True)
    print(goals.START.line(own[0]))
    print(goals.IDLE.line(own[1]))


def users_in_memory(plain: tuple[str, ...], bearer: tuple[str, ...]) -> None:
    """What the users of both loads add to a worker."""
    with running(peers.PROXY) as server:
        asyncio.run(warm(server.port, Load(("GET /other",), warm=100)))
        before = memory(tree(server.process.pid))
        asyncio.run(warm(server.port, Load(plain, warm=1)))
        once = memory(tree(server.process.pid))
        print(goals.USERS.line((once - before) * 10_000 / len(plain)))
        asyncio.run(warm(server.port, Load(plain)))
        hot = memory(tree(server.process.pid))
        asyncio.run(warm(server.port, Load(bearer)))
        after = memory(tree(server.process.pid))
        print(
            f"with ready answers for each {hot - before:.1f} MB, "
            f"and each by a token as well {after - before:.1f} MB"
        )


def redis_memory() -> None:
    """What users take in Redis, after what an empty one takes with the proxy on it."""
    heads = tuple(f"GET /open/{user}" for user in range(1, REDIS_USERS + 1))
    with running(peers.PROXY_REDIS, redis=True) as server:
        asyncio.run(warm(server.port, Load(("GET /open/9999",), warm=1)))
        before = _used_memory(server.redis)
        asyncio.run(warm(server.port, Load(heads, warm=1)))
        print(goals.REDIS.line((_used_memory(server.redis) - before) / REDIS_USERS))


def _used_memory(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"INFO memory\r\n")
        text = sock.recv(20_000).decode()
    return int(text.partition("used_memory:")[2].partition("\r\n")[0])


def first_check() -> None:
    """New HS256 tokens of users who are cached, each sent once."""
    known = tuple(f"GET /auth/me {token(user)}" for user in range(1, 1001))
    new = tuple(f"GET /auth/me {token(n % 1000 + 1, n)}" for n in range(1, FIRST_CHECKS + 1))
    with running(peers.PROXY) as server:
        asyncio.run(warm(server.port, Load(known, warm=1)))
        pids = tree(server.process.pid)
        asked, used = server.origin_count(), cpu_seconds(pids)
        found = each_once(server, new)
        used = cpu_seconds(pids) - used
        print(goals.FIRST_CHECK.line(used / found["count"] * 1e6))
        print(f"{server.origin_count() - asked} reached the origin, {found['failed']} failed")


def tails(bearer: tuple[str, ...], seconds: float, rounds: int) -> None:
    """Latencies of both at 70 % of what the slower of the two can do."""
    load = Load(bearer)
    missing = [*peers.NGINX.missing(), *([MISSING] if generator() is None else [])]
    if missing:
        print(f"left out, missing {', '.join(missing)}")
        return
    with running(peers.PROXY) as own, running(peers.NGINX) as nginx:
        for server in (own, nginx):
            asyncio.run(warm(server.port, load))
        rate = LOAD * min(measure(one, load, max(1, int(seconds / 2))).rate for one in (own, nginx))
        found: dict[str, list[dict[str, float]]] = {"proxy": [], "nginx": []}
        for _ in range(rounds):
            for name, server in (("proxy", own), ("nginx", nginx)):
                found[name].append(at_rate(server, bearer, rate, seconds))
    print(
        "| peer | asked/s | requests/s | p50 ms | p99 ms | p99.9 ms | failed |\n|---|---|---|---|---|---|---|"
    )
    for name, runs in found.items():
        figures = "|".join(f" {_median(runs, key):,.2f} " for key in ("rate", "p50", "p99", "p999"))
        print(f"| {name} | {rate:,.0f} |{figures}| {sum(run['failed'] for run in runs)} |")
    print(goals.TAIL.line(_median(found["proxy"], "p99") / _median(found["nginx"], "p99")))


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def workers(plain: tuple[str, ...], seconds: float, rounds: int) -> None:
    """Two against one. Where the load has no cores of its own it takes turns with the two workers on both.

    Then nobody sees twice the requests, but how much of the workers' CPU time each takes, and that both work
    at once: what two cores of their own would give if nothing else is in the way.
    """
    free = len(os.sched_getaffinity(0)) > 3
    load = Load(plain[:WORKERS_USERS], warm=8)  # each worker is to have seen all of them
    found: dict[str, list[tuple[float, float, float]]] = {}

    def add(peer: Peer, core: str, load_core: str) -> None:
        with running(peer, core=core, redis=True) as server:
            asyncio.run(warm(server.port, load))
            run = measure(server, load, seconds, core="2-3" if free else load_core)
            found.setdefault(peer.name, []).append((run.rate, run.cpu, run.rate * run.cpu / 1e6))

    for _ in range(rounds):
        add(peers.PROXY_ONE, "0", LOAD_CORE)
        add(peers.PROXY_TWO, "0,1", "0,1")
    middle = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    for name, (rate, cpu, busy) in middle.items():
        print(f"{name}: {rate:,.0f} requests/s, {cpu:.1f} µs of CPU each, {busy:.2f} cores at work")
    (one, one_cpu, _), (two, two_cpu, busy) = middle.values()
    if free:
        print(goals.WORKERS.line(two / one))
    elif busy < AT_ONCE:
        print(f"not judged: two workers had {busy:.2f} cores between them, not both of them at once")
    else:
        verdict = goals.WORKERS.line(2 * one_cpu / two_cpu)
        print(f"by CPU time, {busy:.2f} of two cores being the workers': {verdict}")
