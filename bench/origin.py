"""A users API that does nothing but answer and count: `python -m bench.origin PORT` (0: any)."""

# ruff: noqa: E501 - messages are easier to read on one line

from __future__ import annotations

import asyncio
import base64
import json
import sys

import uvloop

BODY = (
    b'{"id":%d,"email":"user-%d@example.com","username":"user-%d","phone":"+4420%08d","is_active":true,"bio":"'
    + b"x" * 300
    + b'"}'
)
OTHER = b'{"text":"' + b"x" * 400 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=3000, public\r\nContent-Length: %d\r\n\r\n%b"


class Origin(asyncio.Protocol):
    """Answers `/users/N`, `/users/by-email/user-N@…`, `/users?ids=…`, `/auth/me`, `/other` (no user), `/count`."""

    requests = 0

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """One or more requests, as small ones come: whole."""
        data = self._held + data
        while True:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                break
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            if len(rest) < length:
                break
            data = rest[length:]
            self._transport.write(self._answer(head.split(b" ", 2)[1], head))
        self._held = data

    def _answer(self, target: bytes, head: bytes) -> bytes:
        if target == b"/count":
            body = b"%d" % Origin.requests
        else:
            Origin.requests += 1
            if target == b"/other":
                # After a write that shows a user, that user's copies go: not what forwarding is about.
                body = OTHER
            elif target == b"/auth/me":
                body = _user(_caller(head))
            elif b"ids=" in target:
                body = (
                    b"["
                    + b",".join(_user(int(one)) for one in target.partition(b"ids=")[2].split(b","))
                    + b"]"
                )
            else:
                digits = bytes(byte for byte in target if 48 <= byte < 58)
                body = _user(int(digits or 1))
        return ANSWER % (len(body), body)


def _caller(head: bytes) -> int:
    """Whose token it is; peers have checked it, or were not asked to."""
    payload = head.lower().partition(b"\r\nauthorization: bearer ")[0]
    token = head[len(payload) + 25 :].split(b"\r\n", 1)[0].split(b".")[1]
    return int(json.loads(base64.urlsafe_b64decode(token + b"=="))["sub"])


def _user(number: int) -> bytes:
    return BODY % (number, number, number, number)


async def main(port: int) -> None:
    """Serves until it is ended."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
