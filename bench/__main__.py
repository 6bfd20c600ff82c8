"""`make bench`: the table of docs/performance.md. Peers that are not installed are named, and left out."""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bench import goals, peers, single
from bench.measure import Load, Run, measure, running, token, warm
from bench.peers import Peer

USERS = 10_000

# Who is sent what; the first is the proxy.
Race = list[tuple[Peer, Load]]


class Rows:
    """All that can be measured, by name."""

    def __init__(self, seconds: int, rounds: int) -> None:
        tokens = [token(user) for user in range(1, USERS + 1)]
        plain = tuple(f"GET /open/{user}" for user in range(1, USERS + 1))
        bearer = tuple(f"GET /users/{user} {tokens[user - 1]}" for user in range(1, USERS + 1))
        email = tuple(f"GET /users/by-email/user-{user}@example.com" for user in range(1, USERS + 1))
        me = Load(tuple(f"GET /auth/me {tokens[user - 1]}" for user in range(1, 1001)))
        fifty = Load(("GET /users?ids=" + ",".join(str(user) for user in range(1, 51)),))
        caches = [peers.PROXY, peers.NGINX_LUA, peers.NGINX, peers.VARNISH, peers.HAPROXY]
        forwards = [peers.PROXY, peers.NGINX_PASS, peers.HAPROXY_PASS]
        with_redis = [peers.PROXY_REDIS, peers.NGINX_REDIS]
        one = replace(peers.PROXY, name="one user")
        race = partial(run, seconds=seconds, rounds=rounds)
        self.by_name: dict[str, Callable[[], None]] = {
            "hit": partial(race, "hit", _same(caches, Load(plain))),
            "token": partial(race, "token", _same(caches, Load(bearer))),
            "unique": partial(race, "unique", _same(caches, Load(bearer, unique=True))),
            "redis-id": partial(race, "redis-id", _same(with_redis, Load(plain, warm=1)), redis=True),
            "redis-email": partial(race, "redis-email", _same(with_redis, Load(email, warm=1)), redis=True),
            "introspect": partial(race, "introspect", _same([peers.PROXY, peers.ENVOY], me)),
            "first-check": single.first_check,
            "forward-get": partial(race, "forward-get", _same(forwards, Load(("GET /other",), warm=1))),
            "forward-put": partial(race, "forward-put", _same(forwards, Load(("PUT /other",), warm=0))),
            "batch": partial(race, "batch", [(peers.PROXY, fifty), (one, Load((plain[0],)))]),
            "p99": partial(single.tails, bearer, seconds, rounds),
            "start": partial(single.starts, rounds),
            "users-in-memory": partial(single.users_in_memory, plain, bearer),
            "redis-memory": single.redis_memory,
            "workers": partial(single.workers, plain, seconds, rounds),
        }


def _same(competitors: list[Peer], load: Load) -> Race:
    return [(peer, load) for peer in competitors]


def run(name: str, race: Race, *, seconds: int, rounds: int, redis: bool = False) -> None:
    """One comparison: A B A B …, then the medians."""
    with ExitStack() as stack:
        runners = []
        for peer, load in race:
            missing = peer.missing()
            if missing:
                print(f"   {peer.name}: left out, missing {', '.join(missing)}")
                continue
            server = stack.enter_context(running(peer, redis=redis))
            # Others keep what they have seen once.
            asyncio.run(warm(server.port, load if not runners else replace(load, warm=min(load.warm, 1))))
            runners.append((server, load))
        found: dict[str, list[Run]] = {server.peer.name: [] for server, _ in runners}
        for _ in range(rounds):
            for server, load in runners:
                found[server.peer.name].append(measure(server, load, seconds))
    print("| peer | µs/request | proxy / peer | goal | requests/s | p50 ms | p99 ms | MB | origin | failed |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    own = statistics.median(one.cpu for one in next(iter(found.values())))
    for peer_name, runs in found.items():
        cpu = statistics.median(one.cpu for one in runs)
        print(
            f"| {peer_name} | {cpu:.1f} ({min(r.cpu for r in runs):.1f}-{max(r.cpu for r in runs):.1f}) "
            f"| {own / cpu:.2f} | {goals.ratio(name, peer_name, own / cpu)} "
            f"| {statistics.median(r.rate for r in runs):,.0f} "
            f"| {statistics.median(r.p50 for r in runs):.2f} | {statistics.median(r.p99 for r in runs):.2f} "
            f"| {max(r.rss for r in runs):.0f} | {sum(r.origin for r in runs)} "
            f"| {sum(r.failed for r in runs)} |",
            flush=True,
        )


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help="what to measure, such as token; a wrong name lists them"
    )
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    every = Rows(asked.seconds, asked.rounds).by_name
    unknown = [name for name in asked.rows if name not in every]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(every)}")
    # Whoever ends it ends what it started: the contexts are left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in asked.rows or every:
        print(f"\n## {name}", flush=True)
        every[name]()


if __name__ == "__main__":
    main()
