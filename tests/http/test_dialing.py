"""An upstream of several addresses, and the time that each phase has."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from proxy import dialing
from proxy.core.errors import UpstreamError, UpstreamRefused, UpstreamTimeout
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.settings import HostLine, UpstreamSettings
from proxy.upstream import HttpUpstream
from tests.clock import forward
from tests.contract.kit import until
from tests.http.test_edge import edge, get, raw
from tests.origin import Origin, origin

HOST = Headers(((b"Host", b"client.test"),))
GET = Request("GET", "/", HOST)


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """A port that neither accepts nor refuses: its queue is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield


@pytest.fixture(name="at")
async def _at() -> AsyncIterator[Origin]:
    async with origin() as at:
        yield at


def named(monkeypatch: pytest.MonkeyPatch, at: Origin, *hosts: str, **settings: Any) -> HttpUpstream:
    """An upstream whose name has these addresses."""
    port = int(at.url.rpartition(":")[2])

    async def getaddrinfo(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return HttpUpstream(UpstreamSettings(url=f"http://users.test:{port}", **settings))


async def test_the_last_of_many_addresses_is_found(at: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five refuse; the sixth answers."""
    dead = [f"127.0.0.{number}" for number in range(2, 7)]
    upstream = named(monkeypatch, at, *dead, "127.0.0.1")

    assert 200 == (await upstream.send(GET)).status
    await upstream.close()


async def test_an_address_that_says_nothing_leaves_time(at: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its share of `connect_timeout` only, and the next connection begins elsewhere."""
    upstream = named(monkeypatch, at, "127.0.0.2", "127.0.0.1", connect_timeout=20)
    loop = asyncio.get_running_loop()
    connect, tried = loop.create_connection, []

    async def watched(protocol: Any, host: str, *more: Any, **words: Any) -> Any:
        tried.append(host)
        if host == "127.0.0.2":
            loop.call_soon(forward, 11)
        return await connect(protocol, host, *more, **words)

    monkeypatch.setattr(loop, "create_connection", watched)
    with black_hole("127.0.0.2", int(at.url.rpartition(":")[2])):
        assert 200 == (await upstream.send(GET)).status
        await upstream.ping()

        assert ["127.0.0.2", "127.0.0.1", "127.0.0.1"] == tried
        await until(lambda: at.connections == 2)
    await upstream.close()


async def test_a_shunned_address_is_tried_again(at: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the others fail too, and first of all once its time is over."""
    upstream = named(monkeypatch, at, "127.0.0.1", "127.0.0.2")
    port = int(at.url.rpartition(":")[2])
    dialer = upstream._dialer
    dialer._failed[("127.0.0.1", port)] = asyncio.get_running_loop().time()
    await upstream.ping()
    assert [("127.0.0.2", port)] == list(dialer._failed)

    monkeypatch.setattr(dialing, "SHUNNED_SECONDS", 0.0)
    dialer._failed[("127.0.0.1", port)] = asyncio.get_running_loop().time()
    await upstream.ping()
    assert {} == dialer._failed
    await until(lambda: at.connections == 2)
    await upstream.close()


@pytest.mark.parametrize("deaf", [False, True])
async def test_where_all_fail_the_time_is_kept(
    at: Origin, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    """Nobody answers: 504 within `connect_timeout`; all refuse: 502."""
    hosts = ["127.0.0.2", "127.0.0.3"]
    upstream = named(monkeypatch, at, *hosts, connect_timeout=0.2)
    with ExitStack() as stack:
        for host in hosts if deaf else ():
            stack.enter_context(black_hole(host, int(at.url.rpartition(":")[2])))
        began = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(GET)

    assert (UpstreamTimeout if deaf else UpstreamRefused) is type(caught.value)
    assert not caught.value.executed
    assert time.monotonic() - began < 1
    await upstream.close()


async def test_a_slow_head_has_a_time_of_its_own() -> None:
    """`head_timeout`: 504, though `timeout` would wait."""
    async with origin(silent=True) as at, edge(at, head_timeout=0.05) as place:
        assert (await raw(place, get(b"/"))).startswith(b"HTTP/1.1 504 ")


async def test_a_body_that_stands_still_has_a_time_of_its_own() -> None:
    """`idle_timeout` ends what `timeout` and `head_timeout` would wait for."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"
    async with origin(begun) as at:
        upstream = HttpUpstream(UpstreamSettings(url=at.url, idle_timeout=0.05))
        reply = await upstream.send(GET)
        assert not isinstance(reply.body, bytes)
        assert b"begin" == await anext(reply.body)
        with pytest.raises(UpstreamTimeout):
            await anext(reply.body)
        await upstream.close()


async def test_a_body_may_stand_still_longer_than_a_head() -> None:
    """An event stream: `idle_timeout` above `head_timeout`."""
    silent, over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await silent.wait()
        writer.write(b"b")
        await reader.read()
        writer.close()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(UpstreamSettings(url=url, timeout=10, idle_timeout=60))
    reply = await upstream.send(GET)
    assert not isinstance(reply.body, bytes)
    assert b"a" == await anext(reply.body)
    waiting = asyncio.ensure_future(anext(reply.body))
    await asyncio.sleep(0)
    forward(30)
    await asyncio.sleep(0)
    silent.set()

    assert b"b" == await waiting
    await upstream.close()
    await over.wait()
    server.close()


@pytest.mark.parametrize("host", HostLine)
async def test_the_host_is_kept_or_replaced(host: HostLine) -> None:
    """As the client sent it by default; host and port of the URL where the settings say so."""
    async with origin() as at, edge(at, host=host) as place:
        await raw(place, get(b"/"))

    url = at.url.removeprefix("http://").encode()
    assert (b"Host: h" if host is HostLine.KEEP else b"Host: " + url) in at.lines()
    assert b"X-Forwarded-Host: h" in at.lines()
    assert 1 == sum(line.lower().startswith(b"host:") for line in at.lines())
