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
    """Latencies at 70 % of what the proxy can do, of nginx at the same rate."""
    load = Load(bearer)
    missing = [*peers.NGINX.missing(), *([MISSING] if generator() is None else [])]
    if missing:
        print(f"left out, missing {', '.join(missing)}")
        return
    with running(peers.PROXY) as own, running(peers.NGINX) as nginx:
        for server in (own, nginx):
            asyncio.run(warm(server.port, load))
        rate = LOAD * measure(own, load, max(1, int(seconds / 2))).rate
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
    """Two against one. Where load and servers must share two cores, only CPU time says something."""
    cores = len(os.sched_getaffinity(0))
    load = Load(plain)
    found: dict[str, list[tuple[float, float]]] = {}

    def add(peer: Peer, core: str) -> None:
        with running(peer, core=core, redis=True) as server:
            asyncio.run(warm(server.port, load))
            run = measure(server, load, seconds, core="2-3" if cores > 3 else LOAD_CORE)
            found.setdefault(peer.name, []).append((run.rate, run.cpu))

    for _ in range(rounds):
        add(peers.PROXY_ONE, "0")
        add(peers.PROXY_TWO, "0,1")
    middle = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    for name, (rate, cpu) in middle.items():
        print(f"{name}: {rate:,.0f} requests/s, {cpu:.1f} µs of CPU each")
    (one, one_cpu), (two, two_cpu) = middle.values()
    if cores > 3:
        print(goals.WORKERS.line(two / one))
    else:
        print(
            f"not judged: {cores} cores, and the load needs one. CPU per request with two workers: "
            f"{two_cpu / one_cpu:.2f} times (two free cores would give {2 * one_cpu / two_cpu:.2f} times)"
        )
