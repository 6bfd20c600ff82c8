"""`make bench`: the table of docs/performance.md. Peers that are not installed are named, and left out."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from contextlib import ExitStack

from bench import peers
from bench.measure import Load, Run, measure, running, token, warm
from bench.peers import Peer

USERS = 10_000


def rows() -> dict[str, tuple[Load, list[Peer], bool]]:
    """What is measured: name → load, peers (the first is the proxy), whether there is a Redis."""
    tokens = [token(user) for user in range(1, USERS + 1)]
    plain = tuple(f"GET /open/{user}" for user in range(1, USERS + 1))
    bearer = tuple(f"GET /users/{user} {tokens[user - 1]}" for user in range(1, USERS + 1))
    email = tuple(f"GET /users/by-email/user-{user}@example.com" for user in range(1, USERS + 1))
    me = tuple(f"GET /auth/me {tokens[user - 1]}" for user in range(1, 1001))
    fifty = "GET /users?ids=" + ",".join(str(user) for user in range(1, 51))
    caches = [peers.PROXY, peers.NGINX_LUA, peers.NGINX, peers.VARNISH, peers.HAPROXY]
    forwards = [peers.PROXY, peers.NGINX_PASS, peers.HAPROXY_PASS]
    lua_redis = [peers.PROXY_REDIS, peers.NGINX_REDIS]
    return {
        "hit": (Load(plain), caches, False),
        "token": (Load(bearer), caches, False),
        "unique": (Load(bearer, unique=True), caches, False),
        "redis-id": (Load(plain, warm=1), lua_redis, True),
        "redis-email": (Load(email, warm=1), lua_redis, True),
        "introspect": (Load(me), [peers.PROXY, peers.NGINX_LUA], False),
        "forward-get": (Load(("GET /other",), warm=1), forwards, False),
        "forward-put": (Load(("PUT /other",), warm=0), forwards, False),
        "batch": (Load((fifty,)), [peers.PROXY], False),
        "one": (Load((plain[0],)), [peers.PROXY], False),
    }


def run(name: str, load: Load, competitors: list[Peer], *, redis: bool, seconds: float, rounds: int) -> None:
    """One row: A B A B …, then the medians."""
    print(f"\n## {name}")
    with ExitStack() as stack:
        servers = []
        for peer in competitors:
            missing = peer.missing()
            if missing:
                print(f"   {peer.name}: left out, missing {', '.join(missing)}")
                continue
            server = stack.enter_context(running(peer, redis=redis))
            asyncio.run(warm(server.port, load))
            servers.append(server)
        found: dict[str, list[Run]] = {server.peer.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                found[server.peer.name].append(measure(server, load, seconds))
    print("| peer | CPU µs/request | ratio | requests/s | p50 ms | p99 ms | MB | origin | failed |")
    print("|---|---|---|---|---|---|---|---|---|")
    own = statistics.median(one.cpu for one in next(iter(found.values())))
    for peer_name, runs in found.items():
        cpu = statistics.median(one.cpu for one in runs)
        print(
            f"| {peer_name} | {cpu:.1f} ({min(r.cpu for r in runs):.1f}-{max(r.cpu for r in runs):.1f}) "
            f"| {own / cpu:.2f} | {statistics.median(r.rate for r in runs):,.0f} "
            f"| {statistics.median(r.p50 for r in runs):.2f} | {statistics.median(r.p99 for r in runs):.2f} "
            f"| {max(r.rss for r in runs):.0f} | {sum(r.origin for r in runs)} "
            f"| {sum(r.failed for r in runs)} |",
            flush=True,
        )


def main() -> None:
    """Runs what was asked for."""
    every = rows()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(every)}; all of them by default"
    )
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    unknown = [name for name in asked.rows if name not in every]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(every)}")
    for name in asked.rows or every:
        load, competitors, redis = every[name]
        run(name, load, competitors, redis=redis, seconds=asked.seconds, rounds=asked.rounds)


if __name__ == "__main__":
    main()
