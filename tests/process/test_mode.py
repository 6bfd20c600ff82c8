"""The mode is one for all workers of a process group, also for those that are started again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from proxy.config import PACKAGED
from tests.processes import Proxy, Stub, poll
from tests.valkey import Valkey

JSON = {"Content-Type": "application/json"}


def caches(proxy: Proxy) -> set[str]:
    """What `X-Cache` says on connections that reach all workers."""
    return {proxy.get("/users/1").x_cache for _ in range(24)}


def test_all_workers_switch_and_one_that_starts_again_keeps_to_it(valkey: Valkey) -> None:
    """Off is off on every connection, also after a worker was killed; and so is on."""
    with Stub.start() as stub, Proxy.start(stub.url, valkey.url, WORKERS="2") as proxy:
        caches(proxy)
        off = proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": "off"}))
        switched = caches(proxy)
        # The one that was started last: the first has the admin socket, and would come back on another port.
        victim = proxy.workers()[-1]
        os.kill(victim, signal.SIGKILL)
        poll(lambda: len(proxy.told("listening")) == 3 or None, "the new worker")
        restarted = caches(proxy)
        poll(
            lambda: (
                proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": "serve"})).status == 200 or None
            ),
            "on",
        )
        serving = caches(proxy)

    assert (200, "off") == (off.status, off.json()["mode"])
    assert ({"BYPASS"}, {"BYPASS"}) == (switched, restarted)
    assert "HIT" in serving
    assert "BYPASS" not in serving


def test_a_reload_does_not_switch_on_what_an_operator_has_switched_off() -> None:
    """SIGHUP with the settings as they were leaves the chosen mode in force."""
    with Stub.start() as stub, Proxy.start(stub.url) as proxy:
        proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": "off"}))
        proxy.send(signal.SIGHUP)
        poll(lambda: proxy.told("settings in force") or None, "the reload")
        told = proxy.ask_admin("GET", "/mode").json()
        served = caches(proxy)

    assert ({"mode": "off", "configured": "serve"}, {"BYPASS"}) == (told, served)


def test_a_reload_switches_to_the_mode_that_the_settings_ask_for(tmp_path: Path) -> None:
    """SIGHUP after `mode` was written anew, also where an operator had chosen another one."""
    routes = tmp_path / "routes.yaml"
    text = PACKAGED.read_text("utf-8")
    routes.write_text(text, "utf-8")
    with Stub.start() as stub, Proxy.start(stub.url, ROUTES_FILE=str(routes)) as proxy:
        assert 200 == proxy.get("/users/1").status
        for count, mode in enumerate(("shadow", "serve", "off"), start=1):
            proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": "serve"}))
            routes.write_text(text.replace("mode: serve", f"mode: {mode}"), "utf-8")
            proxy.send(signal.SIGHUP)
            poll(lambda count=count: len(proxy.told("settings in force")) == count or None, "the reload")
            told = proxy.ask_admin("GET", "/mode").json()
            assert (mode, mode) == (told["mode"], told["configured"])
            assert ("HIT" if mode == "serve" else "BYPASS") == proxy.get("/users/1").x_cache
