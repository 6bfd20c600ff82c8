"""One peer under one load: processes pinned, CPU read from /proc, answers and origin counted."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt

from bench.peers import SECRET, Peer, Place, valkey

TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
# The server has core 0 (and 1, where workers are compared and there are more); all else is here.
LOAD_CORE = "1"
# Zipf's law, as look-ups of users follow it: a few are asked for all the time, most seldom.
DRAWS = 60_000
BODY = b'{"bio":"x"}'

_WRK = """
local heads = {}
-- The very bytes of the warm-up: wrk.format would put the lines into an order of its own.
for head in io.open("%(heads)s", "rb"):read("*a"):gmatch("[^%%z]+") do heads[#heads + 1] = head end
local order = {}
for line in io.lines("%(order)s") do order[#order + 1] = tonumber(line) end
local at, unique = 0, %(unique)s
request = function()
  at = at + 1
  local head = heads[order[at %% #order + 1]]
  if unique then
    local names = "X-Request-Id: r%%d\\r\\ntraceparent: 00-%%032x-%%016x-01\\r\\n\\r\\n"
    head = head:sub(1, -3) .. string.format(names, at, at, at)
  end
  return head
end
done = function(summary, latency)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%f %%f\\n", summary.requests, summary.errors.status + bad,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """`heads` are lines `METHOD target token`; `unique`: each request gets an id and a trace of its own."""

    heads: tuple[str, ...]
    unique: bool = False
    warm: int = 3


@dataclass
class Run:
    """What one run showed: CPU in microseconds a request, latencies in milliseconds, memory in MB."""

    cpu: float
    rate: float
    p50: float
    p99: float
    rss: float
    origin: int
    failed: int


def token(user: int, number: int = 0) -> str:
    """A user's token; each number makes another one."""
    claims = {"sub": str(user), "exp": int(time.time()) + 86400, "jti": str(number)}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for thread in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in thread.read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """What they have used, in user and system mode."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory(pids: Sequence[int]) -> float:
    """Their resident memory in MB; what they share counts once (Pss)."""
    total = 0
    for pid in pids:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024


class Server:
    """A peer that runs, with an origin of its own (and a Redis, where it is asked for)."""

    def __init__(self, peer: Peer, *, core: str, redis: bool) -> None:
        self.peer = peer
        # Of memory, so that a cache of files (nginx) never waits for a disk; it goes when the server ends.
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=shm, ignore_cleanup_errors=True)
        folder = self.folder = Path(self._folder.name)
        folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start(folder, core, redis=redis)
        except BaseException:
            self.close()
            raise

    def _start(self, folder: Path, core: str, *, redis: bool) -> None:
        origin = subprocess.Popen(
            ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "bench.origin"], stdout=subprocess.PIPE
        )
        self._processes.append(origin)
        assert origin.stdout is not None
        self.origin = int(origin.stdout.readline())
        at = Place(folder, free_port(), self.origin, free_port() if redis else 0)
        if redis:
            self._processes.append(valkey(folder, at.redis))
            os.sched_setaffinity(self._processes[-1].pid, {int(LOAD_CORE)})
            _until_open(at.redis)
        self.port, self.redis = at.port, at.redis
        began = time.perf_counter()
        output = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", core, *self.peer.start(at)], stdout=output, stderr=output
        )
        self._processes.append(self.process)
        _until_open(at.port, self.process)
        self.started = time.perf_counter() - began

    def origin_count(self) -> int:
        """How many requests have reached the origin."""
        with socket.create_connection(("127.0.0.1", self.origin)) as sock:
            sock.sendall(b"GET /count HTTP/1.1\r\nHost: o\r\n\r\n")
            return int(sock.recv(1000).rpartition(b"\r\n\r\n")[2])

    def close(self) -> None:
        """Ends all that was started here."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


def _until_open(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.002)
    raise TimeoutError(f"nobody listens on port {port}")


@contextmanager
def running(peer: Peer, *, core: str = "0", redis: bool = False) -> Iterator[Server]:
    """A server for as long as it is needed."""
    server = Server(peer, core=core, redis=redis)
    try:
        yield server
    finally:
        server.close()


async def warm(port: int, load: Load) -> None:
    """Sends every head a few times, over a few connections."""
    # Round by round: the same head at the same time on several connections would be one miss, and no hit.
    todo = load.heads * load.warm

    async def work(part: Sequence[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for line in part:
            writer.write(request_head(line))
            answer = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"(?i)content-length: (\d+)", answer)
            await reader.readexactly(int(found[1]) if found else 0)
        writer.close()

    await asyncio.gather(*(work(todo[i::8]) for i in range(8)))


def request_head(line: str) -> bytes:
    """A request as bytes."""
    method, target, *credentials = line.split(" ")
    auth = f"Authorization: Bearer {credentials[0]}\r\n" if credentials else ""
    if method == "PUT":
        auth += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: users\r\n{auth}\r\n".encode() + (
        BODY if method == "PUT" else b""
    )


def drawn(count: int) -> list[int]:
    """Which of so many heads are asked for, one after the other."""
    weights = [1 / (rank + 1) for rank in range(count)]
    return random.Random(7).choices(range(count), weights, k=DRAWS)


def measure(server: Server, load: Load, seconds: float, core: str = LOAD_CORE) -> Run:
    """One run of wrk on the other core."""
    folder = server.folder
    (folder / "heads").write_bytes(b"\0".join(map(request_head, load.heads)))
    (folder / "order").write_text("\n".join(str(at + 1) for at in drawn(len(load.heads))) + "\n")
    names = {"heads": folder / "heads", "order": folder / "order", "unique": str(load.unique).lower()}
    (folder / "wrk.lua").write_text(_WRK % names)
    words = ["taskset", "-c", core, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    words += ["-s", str(folder / "wrk.lua"), f"http://127.0.0.1:{server.port}/"]
    pids = tree(server.process.pid)
    asked, used = server.origin_count(), cpu_seconds(pids)
    done = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pids) - used
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", done)
    assert found is not None, done
    count = int(found[1])
    return Run(
        cpu=used / count * 1e6,
        rate=count / int(found[3]) * 1e6,
        p50=float(found[4]) / 1000,
        p99=float(found[5]) / 1000,
        rss=memory(pids),
        origin=server.origin_count() - asked,
        failed=int(found[2]),
    )
