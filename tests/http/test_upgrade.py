"""WebSocket and other protocols through the whole proxy: real clients, real servers, and scripted ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.core.edgesettings import LimitSettings
from proxy.core.headers import Headers
from proxy.core.model import Reply, Request
from proxy.core.settings import UpstreamSettings
from proxy.core.upgrading import asking, wanted
from proxy.handler import EdgeServer, make_server
from proxy.tunnel import _End
from proxy.upstream import HttpUpstream
from tests.clock import forward
from tests.contract.kit import until
from tests.walk import bench

ASK = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(request: web.Request) -> web.StreamResponse:
    """A WebSocket that gives back what it gets, or a plain answer to whoever asks for none."""
    if request.path == "/refused":
        return web.Response(status=400, text="no socket here")
    ws = web.WebSocketResponse(protocols=("chat",))
    if not ws.can_prepare(request):
        return web.Response(text="plain")
    await ws.prepare(request)
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            if message.data == "bye":
                await ws.close(code=4001)
            else:
                await ws.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


def application() -> web.Application:
    """The echo, under every path."""
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


async def test_a_websocket_works() -> None:
    """Texts, a megabyte, pings, the subprotocol and the closing code, both ways."""
    async with (
        bench(upstream=application()) as at,
        at.session.ws_connect(at.url + "/ws", protocols=("chat",), max_msg_size=0) as ws,
    ):
        assert "chat" == ws.protocol
        await ws.send_str("hello")
        assert "hello" == await ws.receive_str()
        await ws.ping()
        await ws.send_bytes(b"a" * 2**20)
        assert b"a" * 2**20 == await ws.receive_bytes()
        await ws.send_str("bye")
        assert aiohttp.WSMsgType.CLOSE == (await ws.receive()).type
        assert 4001 == ws.close_code


async def test_a_refused_upgrade_is_an_answer() -> None:
    """And the connection goes on with it, as does upstream's."""
    async with bench(upstream=application()) as at:
        for _ in range(2):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await at.session.ws_connect(at.url + "/refused")
            assert 400 == caught.value.status
        answer = await at.get("/x", headers={"Connection": "Upgrade", "Upgrade": "other"})
        assert (200, b"plain") == (answer.status, answer.body)


@pytest.mark.parametrize(
    ("lines", "protocols"),
    [
        ({"Connection": "Upgrade", "Upgrade": "WebSocket"}, ("websocket",)),
        ({"Connection": "keep-alive, upgrade", "Upgrade": "h2c, a/1, HTTP/2.0, TLS/1.2"}, ("a/1",)),
        ({"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}, ()),
        ({"Connection": "close", "Upgrade": "websocket"}, ()),
        ({"Upgrade": "websocket"}, ()),
        ({"Connection": "upgrade"}, ()),
        ({"Connection": "upgrade", "Upgrade": "a", "X-HTTP-Method-Override": "PUT"}, ()),
    ],
)
def test_what_may_be_asked_for(lines: dict[str, str], protocols: tuple[str, ...]) -> None:
    """Only what the connection asks for, and never HTTP in another form."""
    request = Request("GET", "/", Headers((k.encode(), v.encode()) for k, v in lines.items()))

    assert protocols == wanted(request)
    assert bool(protocols) == ("upgrade" in asking(Request("GET", "/", Headers()), protocols).headers)


@pytest.mark.parametrize(("method", "version"), [("POST", "1.1"), ("DELETE", "1.1"), ("GET", "1.0")])
def test_who_may_ask(method: str, version: str) -> None:
    """No write, which is fenced only until its answer; and not on HTTP/1.0."""
    headers = Headers(((b"Connection", b"upgrade"), (b"Upgrade", b"a")))

    assert () == wanted(Request(method, "/", headers, http_version=version))


async def test_a_cached_route_switches_to_nothing(tmp_path: Path) -> None:
    """What names a user is read and written in requests, which the proxy sees one by one."""
    routes = 'version: 1\nupstream: {url: "{stub}"}\nroutes:\n- {match: "GET /r/{x}", resource: {}}\n'
    async with bench(upstream=application(), routes=routes, tmp_path=tmp_path) as at:
        answer = await at.get("/r/1", headers={"Connection": "Upgrade", "Upgrade": "websocket"})

        assert (200, b"plain") == (answer.status, answer.body)


class Tunnels:
    """Both edges with nothing between, in front of a scripted service; `ends` are the service's."""

    def __init__(self) -> None:
        self.place: tuple[str, int] = ("", 0)
        self.server: EdgeServer | None = None
        self.upstream: HttpUpstream | None = None

    async def ask(self, more: bytes = b"", protocol: bytes = b"echo") -> Ends:
        """A client that has asked for a protocol."""
        reader, writer = await asyncio.open_connection(*self.place, limit=1024)
        writer.write(ASK % protocol + more)
        return reader, writer


@asynccontextmanager
async def tunnels(
    script: Script, *, max_connections: int = 2, timeout: float = 5.0, seconds: float = 15, **limits: Any
) -> AsyncIterator[Tunnels]:
    """The script plays on every connection to the service; the test may take `seconds`."""
    at = Tunnels()
    writers = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    service = await asyncio.start_server(play, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{service.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(UpstreamSettings(url=url, timeout=timeout, max_connections=max_connections))

    async def walk(request: Request) -> Reply:
        return await upstream.send(asking(request, wanted(request)))

    at.upstream = upstream
    at.server = make_server(walk, LimitSettings(**limits))
    server = await asyncio.get_running_loop().create_server(at.server, "127.0.0.1", 0)
    at.place = server.sockets[0].getsockname()[:2]
    try:
        async with asyncio.timeout(seconds):
            yield at
    finally:
        server.close()
        await at.server.shutdown(0.05)
        await upstream.close()
        service.close()
        for writer in writers:
            writer.transport.abort()


def pool_of(at: Tunnels) -> str:
    """How many connections to the service are open."""
    assert at.upstream is not None
    return repr(at.upstream._pool)


def held_back(at: Tunnels) -> bool:
    """Whether a tunnel stands whose far end is not read, as its near one takes nothing."""
    assert at.server is not None
    near = [edge.transport.get_protocol() for edge in at.server.connections if edge.transport is not None]
    return any(isinstance(end, _End) and not end.peer.transport.is_reading() for end in near)


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks at once with the 101, then gives back what it gets, and says goodbye."""
    writer.write(SWITCH + b"early ")
    while data := await reader.read(1024):
        writer.write(data)
        await writer.drain()
    writer.write(b" bye")


async def test_bytes_that_come_with_the_switch_are_not_lost() -> None:
    """Upstream's behind its 101, the client's before it has one; and each end may say its last word first."""
    async with tunnels(echoing) as at:
        reader, writer = await at.ask(b"ahead")
        assert SWITCH == await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        assert b"early ahead bye" == await reader.read()
        await until(lambda: "open=0" in pool_of(at))
        writer.close()


async def test_a_switch_that_closes_at_once_is_brought_whole() -> None:
    """The last words and the end, though upstream was gone before the client knew of its 101."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCH + b"all")

    async with tunnels(script) as at:
        reader, writer = await at.ask()
        assert SWITCH + b"all" == await reader.read()
        writer.close()
        await until(lambda: "open=0" in pool_of(at))


@pytest.mark.parametrize("told", [b"Upgrade: other\r\n", b""])
async def test_what_was_not_asked_for_is_no_switch(told: bytes) -> None:
    """502 on a connection that goes on to speak HTTP (RFC 9110 §7.8)."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCH.replace(b"Upgrade: echo\r\n", told))
        await reader.read()

    async with tunnels(script) as at:
        reader, writer = await at.ask()
        assert (await reader.readline()).startswith(b"HTTP/1.1 502 ")
        writer.close()


async def test_a_slow_end_holds_the_other_back() -> None:
    """Whoever sends for ever to an end that reads nothing is stopped within the sockets' own buffers."""
    sent, service = 0, None

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent, service
        service = writer.transport
        writer.write(SWITCH)
        while True:
            writer.write(b"a" * 65536)
            await writer.drain()
            sent += 65536

    async with tunnels(flood) as at:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(at.place)
        client.sendall(ASK % b"echo")
        await until(lambda: held_back(at))
        await until(lambda: service is not None and service.get_write_buffer_size() > 65536)

        assert 0 < sent < 16 * 2**20
        assert at.server is not None
        (edge,) = at.server.connections
        assert edge.transport is not None
        assert edge.transport.get_write_buffer_size() <= 512 * 1024
        # And it goes on where the end reads on.
        before = sent
        client.setblocking(False)
        while sent == before:
            await asyncio.get_running_loop().sock_recv(client, 65536)
        client.close()
        await until(lambda: "open=0" in pool_of(at))


async def test_a_tunnel_is_one_of_upstreams_connections() -> None:
    """The next request waits for it, and is told that upstream is busy."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCH)
        await reader.read()

    async with tunnels(script, max_connections=1) as at:
        reader, writer = await at.ask()
        await reader.readuntil(b"\r\n\r\n")
        other, second = await at.ask()
        assert (await other.readline()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await until(lambda: "open=0" in pool_of(at))
        second.close()


async def test_a_silent_tunnel_is_cut_and_a_busy_one_is_not() -> None:
    """The deadline is for silence of both ends together; upstream's timeout is not for tunnels."""
    async with tunnels(echoing, timeout=30, tunnel_timeout=60, seconds=600) as at:
        reader, writer = await at.ask()
        await reader.readuntil(b"early ")
        for _ in range(6):
            forward(45)
            writer.write(b"x")
            assert b"x" == await reader.readexactly(1)
        forward(61)
        assert b"" == await reader.read()
        writer.close()
        await until(lambda: "open=0" in pool_of(at))


async def test_a_shutdown_lets_tunnels_end_and_then_ends_them() -> None:
    """What is said within the time is still brought; after it, both ends are closed."""
    async with tunnels(echoing) as at:
        reader, writer = await at.ask()
        await reader.readuntil(b"early ")
        assert at.server is not None
        ending = asyncio.ensure_future(at.server.shutdown(0.3))
        await asyncio.sleep(0)
        writer.write(b"still")
        assert b"still" == await reader.readexactly(5)
        await ending
        await until(lambda: "open=0" in pool_of(at))
        assert not at.server.connections
        writer.close()


async def test_the_client_that_leaves_frees_upstream() -> None:
    """With a reset as well."""
    async with tunnels(echoing) as at:
        reader, writer = await at.ask()
        await reader.readuntil(b"early ")
        writer.transport.abort()
        await until(lambda: "open=0" in pool_of(at))
        assert at.server is not None
        await until(lambda: at.server is not None and not at.server.connections)
