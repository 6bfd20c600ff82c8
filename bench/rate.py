"""Load at a fixed rate, which wrk has not: latencies count from the moment at which a request was due.

`python -m bench.rate PORT HEADS RATE SECONDS` draws among the heads by Zipf's law; with RATE 0 each is sent
once, as fast as it goes. Prints one line of JSON; times are milliseconds.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from itertools import cycle
from pathlib import Path

from bench.measure import CONNECTIONS, drawn, request_head

MOST = 65536


def drive(port: int, heads: list[bytes], rate: float, seconds: float) -> dict[str, float]:
    """An open loop: arrivals are as random as those of many clients (Poisson), and never wait for answers."""
    free: list[socket.socket] = []
    poll = select.epoll()
    by_number: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS * 2):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock, select.EPOLLIN)
        by_number[sock.fileno()] = sock
        free.append(sock)
    draw = random.Random(3)
    gaps = [draw.expovariate(1) for _ in range(9973)]
    gaps = [gap * len(gaps) / rate / sum(gaps) for gap in gaps] if rate else [0.0]
    order = iter(cycle(drawn(len(heads)))) if rate else iter(range(len(heads)))
    left = int(rate * seconds) if rate else len(heads)
    gap = cycle(gaps)
    began = due = time.perf_counter()
    pending: dict[int, float] = {}
    taken: list[float] = []
    failed = 0
    while left or pending:
        now = time.perf_counter()
        while left and free and due <= now:
            sock = free.pop()
            pending[sock.fileno()] = due if rate else now
            sock.send(heads[next(order)])
            left -= 1
            due += next(gap)
        for number, _ in poll.poll(0):
            data = by_number[number].recv(MOST)
            if not data:
                raise ConnectionResetError("the server closed a connection")
            if data[-1] == 0x7D:  # small answers of the origin: JSON objects, in one piece
                taken.append(time.perf_counter() - pending.pop(number))
                failed += data[9:12] != b"200"
                free.append(by_number[number])
    took = time.perf_counter() - began
    taken.sort()
    return {
        "count": len(taken),
        "rate": len(taken) / took,
        "failed": failed,
        "p50": taken[len(taken) // 2] * 1000,
        "p99": taken[len(taken) * 99 // 100] * 1000,
    }


def main() -> None:
    """Reads the command line, drives, prints."""
    port, file, rate, seconds = sys.argv[1:]
    heads = [request_head(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(drive(int(port), heads, float(rate), float(seconds))))


if __name__ == "__main__":
    main()
