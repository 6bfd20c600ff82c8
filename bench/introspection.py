"""What an introspection that is answered here costs the proxy: microseconds of its CPU time for each.

`python -m bench.introspection` starts the sample service and a proxy without Redis, and prints a line of JSON
for each kind of question: the best of `--repeats` runs of `--requests` on one connection, and the median.
`ready` is the same head again and again, `walked` another one each time; a form is walked always.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes import SECRET, Proxy, Stub

ROUTES = """version: 1
user: {keys: {}, active: is_active, secrets: [hashed_password]}
views: {users: {ttl: 1h}, told: {ttl: 1h}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /auth/me", introspect: {answer: view, view: users}}
  - {match: "GET /auth/introspect", introspect: {answer: rfc7662, view: users}}
  - {match: "POST /auth/introspect", introspect: {answer: %s, view: %s, caller_ttl: 1h}}
"""
USER = 7
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.introspection", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stub.start() as stub:
        token = stub.token(USER, stub.get(f"/users/{USER}").json()["username"])
        for answer, view in (("rfc7662", "users"), ("upstream", "told")):
            routes = Path(folder) / "routes.yaml"
            routes.write_text(ROUTES % (answer, view), encoding="utf-8")
            with Proxy.start(
                stub.url, ROUTES_FILE=str(routes), JWT_SECRET=SECRET, LOG_REQUESTS="off"
            ) as proxy:
                proxy.get(f"/users/{USER}")
                kinds = [(f"POST {answer}", form(token))]
                if answer == "rfc7662":
                    kinds += [(f"GET {path} {how}", one) for path, how, one in asked(token)]
                for name, request in kinds:
                    found = list(measured(proxy, request, given.repeats, given.requests))
                    told = {"kind": name, "min_us": min(found), "median_us": statistics.median(found)}
                    sys.stdout.write(json.dumps(told) + "\n")


def asked(token: str) -> Iterator[tuple[str, str, bytes]]:
    """By GET: the heads, in which `%d` is another number each time."""
    for path in ("/auth/introspect", "/auth/me"):
        head = f"GET {path} HTTP/1.1\r\nHost: users\r\nAuthorization: Bearer {token}\r\n"
        yield path, "ready", f"{head}\r\n".encode()
        yield path, "walked", f"{head}X-Other: %d\r\n\r\n".encode()


def form(token: str) -> bytes:
    """By POST, of a client."""
    body = f"token={token}".encode()
    head = b"POST /auth/introspect HTTP/1.1\r\nHost: users\r\nAuthorization: Basic YXBwOnMzY3JldA==\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
    return head + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


def measured(proxy: Proxy, request: bytes, repeats: int, count: int) -> Iterator[float]:
    """Microseconds of the proxy's CPU for each, by run. Raises SystemExit where one is not a hit."""
    place = urlsplit(proxy.url)
    with socket.create_connection((place.hostname, place.port), timeout=15) as sock:
        number = 0
        for run in range(repeats + 1):
            before = spent(proxy.pid)
            for _ in range(count):
                number += 1
                sock.sendall(request.replace(b"%d", b"%d" % number))
                answer = sock.recv(65536)
                # The first ones make it known: the caller, the token, the answer.
                if run and b"X-Cache: HIT" not in answer:
                    raise SystemExit(f"no hit: {answer[:200]!r}")
            if run:
                yield round((spent(proxy.pid) - before) / count * 1e6, 1)


def spent(pid: int) -> float:
    """Seconds of CPU that the process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
