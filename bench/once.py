"""Each head once, as fast as answers come, which wrk cannot do.

`python -m bench.once PORT HEADS` prints one line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from pathlib import Path

from bench.measure import CONNECTIONS, request_head

MOST = 65536


def drive(port: int, heads: list[bytes]) -> dict[str, int]:
    """A closed loop over some connections."""
    poll = select.epoll()
    by_number: dict[int, socket.socket] = {}
    left = iter(heads)
    count = failed = 0
    for _, head in zip(range(CONNECTIONS * 2), left, strict=False):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock, select.EPOLLIN)
        by_number[sock.fileno()] = sock
        sock.send(head)
    while count < len(heads):
        for number, _ in poll.poll():
            data = by_number[number].recv(MOST)
            if not data:
                raise ConnectionResetError("the server closed a connection")
            if data[-1] == 0x7D:  # small answers of the origin: JSON objects, in one piece
                count += 1
                failed += data[9:12] != b"200"
                head = next(left, None)
                if head is not None:
                    by_number[number].send(head)
    return {"count": count, "failed": failed}


def main() -> None:
    """Reads the command line, drives, prints."""
    port, file = sys.argv[1:]
    heads = [request_head(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(drive(int(port), heads)))


if __name__ == "__main__":
    main()
