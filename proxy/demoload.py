"""The second half of the demo: a short load and its figures, and a look at what Valkey holds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import redis

from proxy.demowalk import SECRETS, Client

READS = 2000
FIRST, USERS = 101, 200
_ALIASES = ("email", "username", "phone")


@dataclass(slots=True)
class Load:
    """Seconds of each read by what it was, and what was wrong, one sentence each."""

    hits: list[float] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Counts, and medians and 99th percentiles in milliseconds."""
        return {"reads": READS, "users": USERS, "hits": figures(self.hits), "misses": figures(self.misses)}


def load(client: Client) -> Load:
    """Reads 200 users 2,000 times in all, in a mixed order that is the same in every run."""
    done = Load()
    # Not for secrets: a seeded order makes runs comparable.
    order = [FIRST + number % USERS for number in range(READS)]
    random.Random(7).shuffle(order)  # noqa: S311
    for user_id in order:
        answer = client.ask("GET", f"/users/{user_id}")
        times = done.hits if answer.x_cache == "HIT" else done.misses
        times.append(answer.seconds)
        if answer.status != 200 or f'"id":{user_id},'.encode() not in answer.body.replace(b" ", b""):
            done.wrong.append(f"GET /users/{user_id} answered {answer.status} or another user")
    if len(done.misses) != USERS:
        done.wrong.append(f"misses: expected {USERS}, one a user, got {len(done.misses)}")
    return done


def figures(times: list[float]) -> dict[str, Any]:
    """`{"count", "median_ms", "p99_ms"}`; the times are seconds."""
    if len(times) < 2:
        return {"count": len(times), "median_ms": None, "p99_ms": None}
    last = quantiles(times, n=100, method="inclusive")[98]
    return {
        "count": len(times),
        "median_ms": round(median(times) * 1000, 3),
        "p99_ms": round(last * 1000, 3),
    }


@dataclass(slots=True)
class Holdings:
    """What Valkey holds: keys by kind, the bytes of one user's keys, and where a hash was found."""

    keys: dict[str, int]
    bytes_of_one_user: int
    keys_of_one_user: int
    values: int
    with_hash: int
    wrong: list[str]

    def as_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "keys": self.keys,
            "bytes_of_one_user": self.bytes_of_one_user,
            "keys_of_one_user": self.keys_of_one_user,
            "values_searched": self.values,
            "values_with_password_hash": self.with_hash,
        }


def look(valkey: Path, user: dict[str, Any], shown_directly: bytes) -> Holdings:
    """Reads every key and searches every value for a password hash.

    `user` is somebody who was asked for through the proxy, `shown_directly` the service's own answer about
    them: that the hash is in it, and their name in Valkey, shows that the search would find one.
    Raises redis.RedisError.
    """
    with redis.Redis(unix_socket_path=str(valkey), protocol=2) as server:
        keys = sorted(server.scan_iter("user:*", count=1000))
        kinds = Counter(_kind(key) for key in keys)
        values = [value for key in keys for value in _values(server, key)]
        own = [f"user:id:{user['id']}", *(f"user:{name}:{user[name]}" for name in _ALIASES)]
        sizes = [server.memory_usage(key) for key in own]
    with_hash = sum(any(secret in value for secret in SECRETS) for value in values)
    name = str(user["display_name"]).encode()
    wrong = []
    if with_hash:
        wrong.append(f"password hashes: {with_hash} values in Valkey hold one")
    if not all(secret in shown_directly for secret in SECRETS):
        wrong.append("password hashes: the service itself showed none, so nothing is proven")
    if not any(name in value for value in values):
        wrong.append("the search finds nothing in Valkey, not even a name")
    if None in sizes:
        wrong.append(f"keys of one user: expected {len(own)}, got {len(own) - sizes.count(None)}")
    return Holdings(
        keys=dict(kinds.most_common()),
        bytes_of_one_user=sum(size or 0 for size in sizes),
        keys_of_one_user=len(own) - sizes.count(None),
        values=len(values),
        with_hash=with_hash,
        wrong=wrong,
    )


def _kind(key: bytes) -> str:
    parts = key.split(b":")
    return parts[1].decode("ascii", "replace") if len(parts) > 2 else "bookkeeping"


def _values(server: Any, key: bytes) -> list[bytes]:
    kind = server.type(key)
    match kind:
        case b"hash":
            return [part for pair in server.hgetall(key).items() for part in pair]
        case b"string":
            return [value for value in [server.get(key)] if value is not None]
        case b"zset":
            return list(server.zrange(key, 0, -1))
        case b"set":
            return list(server.smembers(key))
        case b"list":
            return list(server.lrange(key, 0, -1))
        case _:
            return [server.dump(key) or b""]
