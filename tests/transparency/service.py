"""httpbin under a small HTTP/1.1 server, as a process of its own: `python -m tests.transparency.service`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server

# httpbin reads chunked bodies only where this server's name stands, which leaves them to the application.
READS_CHUNKS = "gunicorn/0"


# What a proxy adds, or ends; the rest of a request must arrive as it was sent.
OWN = frozenset({"via", "connection", "keep-alive", "expect", "te", "transfer-encoding"})


class Handler(WSGIRequestHandler):
    """Keeps connections, sends what has no length in chunks, and says nothing."""

    protocol_version = "HTTP/1.1"

    def make_environ(self) -> dict[str, Any]:
        """With the lines as they came, of which WSGI keeps neither order nor spelling."""
        lines = [line for line in self.headers.items() if line[0].lower() not in OWN]
        lines = [line for line in lines if not line[0].lower().startswith("x-forwarded-")]
        return super().make_environ() | {"service.lines": lines}

    def log(self, *_: object) -> None:
        """Nobody reads it."""


def service(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """httpbin, which also tells the target and the lines that it got."""
    environ["SERVER_SOFTWARE"] = READS_CHUNKS
    lines = environ["service.lines"]
    told = [
        ("X-Got-Target", environ["REQUEST_URI"]),
        ("X-Got-Names", " ".join(name for name, _ in lines)),
        ("X-Got-Lines", hashlib.sha256(repr(lines).encode()).hexdigest()),
    ]

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, *told], *rest)

    answer: Iterable[bytes] = app(environ, start)
    return answer


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, service, threaded=True, request_handler=Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
