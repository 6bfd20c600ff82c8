"""Unique strings in every input of a running proxy, looked for everywhere they must not come out."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt

from tests.processes import ROOT, SECRET, Proxy, ask
from tests.valkey import Valkey

ROUTES = (ROOT / "proxy" / "routes.yaml").read_text()
TOLD = '  - {match: "POST /auth/told", introspect: {answer: upstream, view: introspection}}\n'
PRIVATE = ROUTES.replace("\nroutes:\n", f"\nhash_keys: true\nencrypt: true\n\nroutes:\n{TOLD}")
KEYS = {"CACHE_HASH_KEY": "0a" * 32, "CACHE_ENCRYPT_KEY": "0b" * 32}
USER = {
    "id": 7,
    "email": "canary-mail@x.example",
    "username": "canary-name",
    "phone": "+49canary1",
    "is_active": True,
    "active": True,
    "password_hash": "canary-hash",
    "canary-member@x.example": {"api_key": "canary-key"},
}


class Origin(socketserver.StreamRequestHandler):
    """A service whose answers, good and bad, are full of canaries."""

    def more(self) -> dict[str, Any]:
        """What else a user is."""
        return {}

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        target = head.split(b" ")[1]
        body = json.dumps(USER | self.more()).encode()
        status = b"HTTP/1.1 200 OK"
        if b"boom" in target:
            status, body = b"HTTP/1.1 500 canary-phrase", b"Traceback: canary-error"
        elif b"garbage" in target:
            status = b"HTTP/1.1 canary-status"
        elif b"cut" in target:
            self.wfile.write(status + b"\r\nContent-Length: 999\r\nX-Canary: canary-cut\r\n\r\ncanary-part")
            return
        elif b"404" in target:
            status, body = b"HTTP/1.1 404 Not Found", b'{"detail": "canary-nobody"}'
        lines = (
            status,
            b"Content-Type: application/json",
            b"Set-Cookie: s=canary-set-cookie" if b"cookie" in target else b"X-Up: canary-up",
            b"Content-Length: %d" % len(body),
            b"Connection: close",
        )
        self.wfile.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)


@contextmanager
def origin(handler: type[Origin] = Origin) -> Iterator[str]:
    """Its URL."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def raw(url: str, data: bytes, *, ends: bool = False) -> bytes:
    """Everything that comes back for these bytes; `ends` says that no more will follow."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as sock:
        found = b""
        try:
            sock.sendall(data)
            if ends:
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                found += chunk
        except ConnectionError:
            pass
        return found


GOOD = jwt.encode({"sub": "7", "exp": 4_000_000_000, "name": "canary-claim"}, SECRET, algorithm="HS256")
# Not the one that is logged out.
ASKED = jwt.encode({"sub": "7", "exp": 4_000_000_001, "name": "canary-claim"}, SECRET, algorithm="HS256")
BAD = jwt.encode({"sub": "canary-sub", "exp": 1}, SECRET, algorithm="HS256", headers={"kid": "canary-kid"})
TARGETS = (
    "/users/7",
    "/users/by-email/canary-mail@x.example",
    "/users?phone=%2B49canary1",
    "/users/canary-name",
    "/users/canary-404",
    "/users/canary-boom",
    "/users/canary-garbage",
    "/users/canary-cut",
    "/users/canary-cookie",
    "/profiles/canary-name",
    "/auth/me",
    "/auth/introspect",
    "/unknown/canary-path?canary=canary-query",
    "/users?ids=canary,1",
)
MALFORMED = (
    b"canary-line\r\n\r\n",
    b"GET /canary HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /canary%0d%0a HTTP/1.1\r\nHost: x\r\ncanary-header\r\n\r\n",
    b"GET /canary HTTP/1.1\r\nHost: x\r\ncanary name: 1\r\n\r\n",
    b"GET /canary HTTP/1.1\r\nHost: canary-host\r\nHost: canary-host-2\r\n\r\n",
    b"POST /canary HTTP/1.1\r\nHost: x\r\nContent-Length: canary\r\n\r\n",
    b"POST /users/7 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ncanary-chunk\r\n",
    b"CANARY /users/7 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://canary-absolute/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"canary" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /users/7 HTTP/1.1\r\nHost: x\r\nX-Canary: " + b"canary" * 30000 + b"\r\n\r\n",
    b"\x16\x03\x01canary-tls",
    b"GET /canary-\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
)


def ours(answer: bytes) -> bytes:
    """The lines that the proxy adds to an answer, and its whole body where it is the proxy's own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [
        line
        for line in head.split(b"\r\n")
        if line.lower().startswith((b"x-cache", b"cache-status", b"via", b"age", b"www-authenticate"))
    ]
    return b"\n".join(lines + ([head, body] if b"application/problem+json" in head else []))


def asked_at(index: int) -> bytes:
    """The target of the answer at that place of what `ask_everything` gives."""
    return TARGETS[index // 4 % len(TARGETS)].encode()


ASKS = ("/auth/introspect", "/auth/told")


def ask_forms(url: str, *paths: str) -> list[bytes]:
    """Forms, above all introspections by POST: of callers who prove themselves in a header, in it, or not."""
    found = []
    secret = "client_id=canary-client&client_secret=canary-secret&canary-name=canary-value"
    for caller, more in (("Authorization: Basic Y2FuYXJ5OmNhbmFyeQ==\r\n", ""), ("", secret), ("", "")):
        for token in (ASKED, ASKED, ASKED, BAD, "canary-token", "canary-token&token=canary-other"):
            body = f"token={token}&{more}".rstrip("&").encode()
            for path in paths:
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{caller}Connection: close\r\n"
                head += "Content-Type: application/x-www-form-urlencoded\r\n"
                head += f"Content-Length: {len(body)}\r\n\r\n"
                found.append(raw(url, head.encode() + body))
    return found


def ask_everything(url: str) -> list[bytes]:
    """Every target with every kind of credential, writes with bodies, and what is no request."""
    found = []
    for _ in range(2):
        for target in TARGETS:
            for token in (None, GOOD, BAD, "canary-token"):
                lines = [f"GET {target} HTTP/1.1", "Host: x", "X-Canary: canary-field", "Connection: close"]
                lines += ["Cookie: a=canary-cookie"] if token == BAD else []
                lines += [] if token is None else [f"Authorization: Bearer {token}"]
                found.append(raw(url, ("\r\n".join(lines) + "\r\n\r\n").encode()))
    body = json.dumps(USER).encode()
    for method, target in (
        ("PUT", "/profile"),
        ("DELETE", "/users/canary-name"),
        ("PATCH", "/users/canary-boom"),
        ("POST", "/auth/logout"),
        ("POST", "/auth/login"),
    ):
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {GOOD}\r\nConnection: close\r\n"
        )
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        found.append(raw(url, head.encode() + body))
    return found + [raw(url, data, ends=True) for data in MALFORMED]


def test_no_canary_comes_out(tmp_path: Path) -> None:
    """Not in the log at its most talkative, metrics, counters, added headers, errors, argv or Redis."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(PRIVATE)
    env = {**KEYS, "ROUTES_FILE": str(routes), "LOG_LEVEL": "debug"}
    places: dict[str, bytes] = {}
    with Valkey() as valkey, origin() as up, Proxy.start(up, redis=valkey.url, **env) as proxy:
        answers = ask_everything(proxy.url)
        assert any(b"canary-mail" in answer for answer in answers)
        # What no route names is passed on as it is.
        cached = [answers[at] for at in range(2 * 4 * len(TARGETS)) if b"/unknown" not in asked_at(at)]
        assert [] == [answer for answer in cached if b"canary-hash" in answer or b"canary-key" in answer]
        places["added headers and errors"] = b"\n".join(map(ours, answers))
        asked = (
            *(
                f"/explain?url={quote(target, safe='')}&header=Authorization:{GOOD}"
                for target in TARGETS[1:4]
            ),
            *("/stats", "/health", "/metrics", "/readyz"),
        )
        for path in asked:
            told = proxy.ask_admin("GET", path)
            assert 200 == told.status, path
            places[path[:12]] = places.get(path[:12], b"") + told.body
        for bad in ({"email": ["canary"]}, {"canary": 1}, {"email": "canary" * 100}):
            told = ask(proxy.admin, "POST", "/evict", {"Content-Type": "application/json"}, json.dumps(bad))
            places["evict"] = places.get("evict", b"") + told.body
        # The writes have emptied it.
        for target in TARGETS:
            raw(proxy.url, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        places["forms"] = b"\n".join(map(ours, ask_forms(proxy.url, *ASKS)))
        assert b"X-Cache: HIT" in places["forms"]
        stored: list[Any] = []
        for key in valkey.ask("KEYS", "*"):
            value = valkey.ask("HGETALL" if valkey.ask("TYPE", key) == b"hash" else "GET", key)
            stored += [key, repr(value).encode()]
        assert all(any(slot in part for part in stored) for slot in (b"v:users", b"v:introspection#"))
        places["redis"] = b"\n".join(stored)
        places["argv"] = Path(f"/proc/{proxy.pid}/cmdline").read_bytes()
        valkey.kill()
        ask_everything(proxy.url)
        ask_forms(proxy.url, *ASKS, "/auth/logout")
        assert 0 == proxy.stop()
        places["log"] = "\n".join(proxy.lines()).encode()
    assert len(places["log"]) > 2000
    leaks = {
        place: text[max(0, (at := text.lower().index(b"canary")) - 80) : at + 40]
        for place, text in places.items()
        if b"canary" in text.lower()
    }
    assert {} == leaks
    assert b"Traceback" not in places["log"]
    for token in (GOOD, BAD, ASKED):
        assert not any(token.split(".")[2].encode() in text for text in places.values())
