"""The same unique strings, looked for in what tells of many requests: reports, traces, pages, the feed."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from tests.process.test_canary import (
    ASKS,
    GOOD,
    KEYS,
    PRIVATE,
    TARGETS,
    USER,
    Origin,
    ask_everything,
    ask_forms,
    origin,
    raw,
)
from tests.process.test_tracing import Receiver, _receiver  # noqa: F401 - a fixture
from tests.processes import SECRET, Proxy, ask, environment, poll, run
from tests.valkey import Valkey

JSON = {"Content-Type": "application/json"}
PASSWORD = json.dumps({"id": 7, "new_password": "canary-password"})


class Moving(Origin):
    """A service whose answers are never the same twice, in members with plain names and with others."""

    numbers = count()

    def more(self) -> dict[str, Any]:
        """Two members."""
        number = next(self.numbers)
        return {"nickname": f"canary-{number}", "canary-moving@x.example": number}


@contextmanager
def overheard(valkey: Valkey) -> Iterator[list[bytes]]:
    """What is said on the feed meanwhile."""
    heard: list[bytes] = []
    with redis.Redis(unix_socket_path=str(valkey._socket), protocol=2) as client:
        pubsub = client.pubsub()
        pubsub.psubscribe("*")
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
                if message is not None:
                    heard.append(message["data"])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            over.set()
            thread.join()
            pubsub.close()


def told(proxy: Proxy) -> Iterator[tuple[str, bytes]]:
    """What operators are shown, and what they are told of their own mistakes."""
    for path in ("/", "/stats", "/health", "/metrics", "/mode"):
        yield path, proxy.ask_admin("GET", path).body
    for target in TARGETS:
        query = f"/explain?url={quote(target, safe='')}&header={quote(f'Authorization:{GOOD}')}"
        # It says which request was asked about, to whoever asked; what it says of it is looked at.
        yield "/explain", json.dumps(proxy.ask_admin("GET", query).json()["why"]).encode()
    for body in ({"mode": "canary"}, {"canary": 1}, ["canary"]):
        yield "/mode", proxy.ask_admin("POST", "/mode", JSON, json.dumps(body)).body


def commanded(proxy: Proxy, folder: Path) -> bytes:
    """What commands print about a running proxy, of what they were not told themselves."""
    (folder / "ids").write_text("7\ncanary-404\n")
    commands = (
        ("stats", "--admin", proxy.admin),
        ("evict", "--email", USER["email"], "--json", "--admin", proxy.admin),
        ("explain", "GET", TARGETS[0], "-H", f"Authorization: Bearer {GOOD}", "--admin", proxy.admin),
        ("warm", "--ids", str(folder / "ids"), "--proxy", proxy.url, "--routes", str(folder / "routes.yaml")),
    )
    environ = environment(**KEYS, JWT_SECRET=SECRET)
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda words: run(*words, environ=environ), commands))
    assert {0, 1} >= {code for code, _, _ in ended}, ended
    assert all(out for _, out, _ in ended), ended
    return "\n".join(out + err for _, out, err in ended).encode()


def first_event(proxy: Proxy) -> bytes:
    """One line of the dashboard's stream."""
    host, port = proxy.admin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        found = b""
        while b"}\n\n" not in found:
            chunk = sock.recv(65536)
            assert chunk, found
            found += chunk
        return found


def test_no_canary_is_reported(tmp_path: Path, receiver: Receiver) -> None:
    """In shadow and truth reports, spans, log lines of hits, the dashboard, the feed, keys of passwords."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(re.sub(r"(?m)^truth:.*$", "truth: {sample: 100%}", PRIVATE))
    env = {
        **KEYS,
        "ROUTES_FILE": str(routes),
        "LOG_LEVEL": "debug",
        "LOG_HITS": "100%",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
    }
    places: dict[str, bytes] = {}
    with (
        Valkey() as valkey,
        origin(Moving) as up,
        overheard(valkey) as heard,
        Proxy.start(up, redis=valkey.url, **env) as proxy,
    ):
        for mode in ("serve", "shadow", "serve"):
            switched = ask(proxy.admin, "POST", "/mode", JSON, json.dumps({"mode": mode}))
            assert 200 == switched.status
            ask_everything(proxy.url)
            ask_forms(proxy.url, *ASKS, "/auth/logout")
        head = f"PUT /profile HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {GOOD}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(PASSWORD)}\r\n\r\n"
        raw(proxy.url, (head + PASSWORD).encode())
        poll(lambda: b'"word"' in b"".join(heard) or None, "the word on the feed")
        for place, text in told(proxy):
            places[place] = places.get(place, b"") + text
        places["/events"] = first_event(proxy)
        places["commands"] = commanded(proxy, tmp_path)
        assert valkey.ask("EXISTS", "user:revoke:7")
        places["keys"] = b"\n".join(valkey.ask("KEYS", "*"))
        stats = proxy.ask_admin("GET", "/stats").json()
        assert 0 == proxy.stop()
        places["log"] = "\n".join(proxy.lines()).encode()
        places["feed"] = b"\n".join(heard)
        places["spans"] = receiver.bodies
    # There was something to be told.
    checks = json.dumps(stats)
    assert '"disagree"' in checks
    for message in ("a stale answer was served", "the cache would have answered otherwise"):
        assert message.encode() in places["log"], message
    assert len(receiver.spans) > 100
    assert b"drop" in places["feed"]
    leaks = {
        place: text[max(0, (at := text.lower().index(b"canary")) - 80) : at + 40]
        for place, text in places.items()
        if b"canary" in text.lower()
    }
    assert {} == leaks
    assert not any(GOOD.split(".")[2].encode() in text for text in places.values())
