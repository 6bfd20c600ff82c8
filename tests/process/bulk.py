"""A large body up and down through the real process, and how far its memory moves: `make bulk`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

PIECE = b"0123456789abcdef" * 4096


def resident(pid: int) -> int:
    """The most bytes of memory that the process has held at once."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("no VmHWM")


def forget_peak(pid: int) -> None:
    """proc(5): the peak counts from what is held now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")


def count_of(size: int) -> int:
    """Pieces in so many bytes."""
    return size // len(PIECE)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """PUT: the digest of what came. GET /N: N bytes."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            if method == b"PUT":
                digest, left = (
                    hashlib.sha256(),
                    int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]),
                )
                while left:
                    piece = await reader.read(min(left, 1 << 18))
                    digest.update(piece)
                    left -= len(piece)
                said = digest.hexdigest().encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
            else:
                size = int(target[1:])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(count_of(size)):
                    writer.write(PIECE)
                    await writer.drain()
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def measure(size: int) -> tuple[int, bool]:
    """How many bytes the proxy's peak moved by `size` up and then down, and whether all of it arrived."""
    origin = await asyncio.start_server(_serve, "127.0.0.1", 0)
    port = origin.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        *("--upstream", f"http://127.0.0.1:{port}"),
        stderr=asyncio.subprocess.PIPE,
        env={"LOG_FORMAT": "json", "LOG_LEVEL": "info"},
    )
    try:
        async with asyncio.timeout(300):
            place = await _listening(process)
            await _up(place, len(PIECE) * 16)
            forget_peak(process.pid)
            before = resident(process.pid)
            whole = await _up(place, size) and await _down(place, size)
            return resident(process.pid) - before, whole
    finally:
        process.terminate()
        await process.wait()
        origin.close()


async def _listening(process: asyncio.subprocess.Process) -> tuple[str, int]:
    import orjson

    assert process.stderr is not None
    while line := await process.stderr.readline():
        said = orjson.loads(line) if line.startswith(b"{") else {}
        if "listen" in said:
            host, _, port = said["listen"].rpartition(":")
            return host, int(port)
    raise LookupError("the proxy did not start")


async def _up(place: tuple[str, int], size: int) -> bool:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(b"PUT /bulk HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
    digest = hashlib.sha256()
    for _ in range(count_of(size)):
        digest.update(PIECE)
        writer.write(PIECE)
        await writer.drain()
    said = await reader.read()
    writer.close()
    return said.endswith(digest.hexdigest().encode())


async def _down(place: tuple[str, int], size: int) -> bool:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % size)
    await reader.readuntil(b"\r\n\r\n")
    got, digest, wanted = 0, hashlib.sha256(), hashlib.sha256()
    while piece := await reader.read(1 << 18):
        got += len(piece)
        digest.update(piece)
    for _ in range(count_of(size)):
        wanted.update(PIECE)
    writer.close()
    return (got, digest.digest()) == (size, wanted.digest())


def main() -> int:
    """Prints the figures; 1 where the body was not whole or the memory moved too far."""
    size = 1 << 30
    grown, whole = asyncio.run(measure(size))
    print(f"{size >> 20} MiB up and down: whole={whole}, memory moved by {grown / 2**20:.1f} MiB")  # noqa: T201 - it is what the command is for
    return 0 if whole and grown < 32 * 2**20 else 1


if __name__ == "__main__":
    sys.exit(main())
