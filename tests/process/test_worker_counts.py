"""Counters of several workers: whoever of them dies, what Prometheus scrapes never falls."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.admin.tally import Tally
from tests.process.test_topologies import free_ports
from tests.processes import Proxy, Stub, poll
from tests.valkey import Valkey


def total(proxy: Proxy) -> float | None:
    """All requests by /metrics; None while the admin socket is away."""
    with suppress(OSError):
        text = proxy.ask_admin("GET", "/metrics").body.decode()
        return sum(map(float, re.findall(r"(?m)^user_cache_proxy_requests_total\{.*\} (\S+)$", text)))
    return None


@pytest.mark.parametrize("first", [True, False])
def test_the_sum_never_falls(valkey: Valkey, first: bool) -> None:
    """Neither while a worker is away, nor with the one that takes its place; the admin's own or another."""
    # One that stays, as the worker that takes the first one's place is to be found there again.
    (port,) = free_ports(1)
    env = {"WORKERS": "2", "ADMIN_LISTEN": f"127.0.0.1:{port}"}
    with Stub.start() as stub, Proxy.start(stub.url, valkey.url, **env) as proxy:
        for number in range(60):
            proxy.get(f"/users/{1 + number % 20}")
        assert 60 == total(proxy)
        victims = proxy.workers()
        admin = proxy.ask_admin("GET", "/stats").json()["born"].partition("-")[0]
        (victim,) = [pid for pid in victims if (str(pid) == admin) is first]
        os.kill(victim, signal.SIGKILL)
        seen = []

        def again() -> bool:
            count = total(proxy)
            if count is not None:
                seen.append(count)
            return len(proxy.told("listening")) == 3

        poll(again, "a new worker")
        poll(lambda: total(proxy) is not None, "the admin socket")
        seen.append(total(proxy) or 0.0)
        for number in range(10):
            proxy.get(f"/users/{1 + number % 20}")
        assert {60.0} == set(seen)
        assert 70 == total(proxy)


def test_what_is_gone_is_kept_in_a_file(tmp_path: Path) -> None:
    """Over the death of whoever adds up; one that answers again is counted once, and rubbish is nothing."""
    file = tmp_path / "counts"

    def stats(born: str, hits: int) -> dict[str, object]:
        return {"born": born, "hits": hits, "mode": "serve", "gauges": {"feed_lapses": 1, "memory_users": 9}}

    first = Tally(file)
    assert {} == first.lost({"": stats("a", 5), "1": stats("b", 7)})
    assert 7 == first.lost({"": stats("a", 6), "1": None})["hits"]
    assert {} == first.lost({"": stats("a", 6), "1": stats("b", 8)})
    gone = Tally(file).lost({"": stats("c", 0), "1": stats("d", 1)})
    assert (14, {"feed_lapses": 2}) == (gone["hits"], gone["gauges"])
    assert "mode" not in gone
    file.write_bytes(b"[]")
    assert {} == Tally(file).lost({"": stats("e", 0)})
