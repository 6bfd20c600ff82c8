"""An eviction that an operator asked for is one, however many workers drop it."""

from __future__ import annotations

import json

from tests.processes import Proxy, Stub
from tests.valkey import Valkey


def test_workers_tell_of_one_eviction_once() -> None:
    """Two workers forget the user; it is counted and listed once."""
    with Valkey() as valkey, Stub.start() as stub, Proxy.start(stub.url, valkey.url, WORKERS="2") as proxy:
        proxy.get("/users/7")
        headers = {"Content-Type": "application/json"}
        assert 200 == proxy.ask_admin("POST", "/evict", headers, json.dumps({"id": 7})).status
        stats = proxy.stats()

    assert (1, {"operator": 1}) == (stats["invalidations"], stats["evictions"])
    assert [["7"]] == [one["ids"] for one in stats["recent_evictions"]]
