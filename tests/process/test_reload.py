"""SIGHUP: what is read again, what stays, and that nobody is refused meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from proxy import server
from proxy.config import load
from proxy.core.settings import Settings
from proxy.systemd import notify
from tests.certificates import make_certificate
from tests.contract.kit import until
from tests.process.notified import notified
from tests.processes import Proxy, Stub
from tests.valkey import Valkey

ROUTES = """
version: 1
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


def test_a_worker_that_is_started_again_has_the_new_routes(tmp_path: Path, valkey: Valkey) -> None:
    """The routes of the last good reload, and the port of the first start, though 0 was asked for."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    env = {"ROUTES_FILE": str(routes), "WORKERS": "2"}
    with Stub.start() as stub, Proxy.start(stub.url, redis=valkey.url, **env) as proxy:
        routes.write_text(ROUTES.replace("GET /users/{id:int}", "GET /profiles/{id:int}"))
        proxy.send(signal.SIGHUP)
        proxy.until("reloaded by both", lambda: len(proxy.told("settings in force")) == 2)
        os.kill(proxy.workers()[1], signal.SIGKILL)
        proxy.until("a new worker", lambda: len(proxy.told("listening")) == 3)
        assert 1 == len({line["listen"] for line in proxy.told("listening")})
        assert {"BYPASS"} == {proxy.get("/users/1").x_cache for _ in range(20)}


def test_a_new_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    """As certbot renews it; systemd hears when a reload begins, and when it is over."""
    certificate = make_certificate(tmp_path)
    with notified(tmp_path) as heard:
        env = {"LISTEN_TLS_CERT": str(certificate), **heard.env}
        with Stub.start() as stub, Proxy.start(stub.url, **env) as proxy:
            host, _, port = proxy.url.removeprefix("http://").partition(":")

            def shown() -> str:
                return ssl.get_server_certificate((host, int(port)), timeout=10)

            def reload() -> None:
                since = time.monotonic_ns() // 1000
                proxy.send(signal.SIGHUP)
                state, _, when = heard.said()[0].partition("\nMONOTONIC_USEC=")
                assert "RELOADING=1" == state
                assert since <= int(when) <= time.monotonic_ns() // 1000
                assert ("READY=1", proxy.pid) == heard.said()

            first = shown()
            assert ("READY=1", proxy.pid) == heard.said()
            certificate.write_text("half of a certificate")
            reload()
            assert 1 == len(proxy.told("settings not reloaded"))
            assert first == shown()
            make_certificate(tmp_path)
            reload()
            assert shown() not in ("", first)
            assert heard.silent()


def test_nothing_fails_where_systemd_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked, nobody listens, or no address that could be one."""
    for place in ("", str(tmp_path / "nobody"), "@nobody-here", "relative/path"):
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        notify("READY=1")
    with notified(tmp_path, abstract=True) as heard:
        monkeypatch.setenv("NOTIFY_SOCKET", heard.env["NOTIFY_SOCKET"])
        notify("READY=1")
        assert ("READY=1", os.getpid()) == heard.said()


def test_a_reload_before_the_loop_runs_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning of a worker's life to the handler of its loop, the signal is noted."""
    noted: list[Any] = []

    async def serve(*given: Any) -> None:
        handler: Any = signal.getsignal(signal.SIGHUP)
        handler(signal.SIGHUP, None)
        noted.extend(given[-1])

    monkeypatch.setattr(server, "serve", serve)
    before = signal.getsignal(signal.SIGHUP)
    try:
        server._run_one(None, None, None)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [signal.SIGHUP] == noted


async def test_a_reload_that_was_asked_for_early_is_done() -> None:
    """As soon as the process serves."""
    env = {
        "LISTEN": "127.0.0.1:0",
        "ADMIN_LISTEN": "127.0.0.1:0",
        "JWT_SECRET": "x" * 40,
        "DRAIN_DELAY": "0s",
    }
    settings, asked = load(env), threading.Event()

    def reload() -> Settings:
        asked.set()
        return settings

    serving = asyncio.ensure_future(server.serve(settings, reload=reload, early=[signal.SIGHUP]))
    await until(asked.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
