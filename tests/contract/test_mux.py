"""The one connection to Redis: what travels together, what a reply belongs to, and when it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from proxy.core.errors import StoreError
from proxy.store.link import Link, connect
from proxy.store.mux import Multiplexer, told
from proxy.store.topologies import open_link
from tests.clock import forward
from tests.contract.kit import until
from tests.valkey import Valkey


class Server:
    """Answers each connection by its number: `script` gets the number and what came, and says what goes back.

    None: nothing goes back; b"": the connection is closed.
    """

    def __init__(self, script: Callable[[int, bytes], bytes | None]) -> None:
        self._script = script
        self.connections = 0
        self.reads: list[bytes] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        while data := await reader.read(65536):
            if b"CLIENT" in data:
                writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
                continue
            self.reads.append(data)
            answer = self._script(number, data)
            if answer == b"":
                break
            if answer is not None:
                writer.write(answer)
        writer.close()


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a Server; gives it and a Link to it."""
    servers, links, played = [], [], []

    async def start(
        script: Callable[[int, bytes], bytes | None], deadline: float = 5.0
    ) -> tuple[Server, Link]:
        server = Server(script)
        played.append(server)
        path = tmp_path / str(len(servers))
        servers.append(await asyncio.start_unix_server(server, path))
        client = connect(f"unix://{path}", deadline=deadline)
        mux = Multiplexer(client.connection_pool, patience=deadline)
        links.append(Link(client, deadline=deadline, mux=mux))
        return server, links[-1]

    yield start
    for link in links:
        await link.close()
    for listening in servers:
        listening.close()
    for server in played:
        # They end with the connections that were closed above.
        await asyncio.gather(*server.tasks)


@pytest.fixture
async def link(valkey: Valkey) -> AsyncIterator[Link]:
    """A link to a real server."""
    made = open_link(valkey.url, pool_size=1, pool_timeout=1.0, deadline=5.0)
    yield made
    await made.close()


async def test_many_callers_share_one_connection(link: Link, valkey: Valkey) -> None:
    """Each gets its own replies, however many ask at once."""

    async def ask(number: int) -> list[Any]:
        async with link.bounded():
            return await link.run(("SET", f"k{number}", str(number)), ("GET", f"k{number}"))

    before = int(told(valkey.ask("INFO", "stats"))["total_connections_received"])  # type: ignore[index]
    replies = await asyncio.gather(*(ask(number) for number in range(500)))
    after = int(told(valkey.ask("INFO", "stats"))["total_connections_received"])  # type: ignore[index]
    assert [[b"OK", b"%d" % number] for number in range(500)] == replies
    assert 2 == after - before, "ours, and the one that asked"


async def test_what_is_asked_in_one_tick_is_one_write(played: Callable[..., Any]) -> None:
    """Sixty-four callers, one segment."""
    server, link = await played(lambda _, data: b"+PONG\r\n" * data.count(b"PING"))
    await link.mux.send([("PING",)])
    server.reads.clear()
    await asyncio.gather(*(link.mux.send([("PING",)]) for _ in range(64)))
    assert [64] == [data.count(b"PING") for data in server.reads]


async def test_replies_in_pieces_find_their_callers(played: Callable[..., Any]) -> None:
    """A reply that is cut anywhere belongs to the caller whose turn it is."""
    whole = b"*2\r\n$1\r\na\r\n$-1\r\n:7\r\n-ERR no\r\n"
    rest = bytearray(whole)

    def byte_by_byte(_: int, data: bytes) -> bytes | None:
        return bytes([rest.pop(0)]) if rest else None

    _, link = await played(byte_by_byte)
    first = asyncio.ensure_future(link.mux.send([("A",)]))
    second = asyncio.ensure_future(link.mux.send([("B",), ("C",)]))
    while not second.done():
        wire = link.mux.wire
        if wire is not None and not wire.lost:
            wire._transport.write(b"x")
        await asyncio.sleep(0)
    assert [[b"a", None]] == await first
    number, error = await second
    assert (7, "no") == (number, str(error))
    assert isinstance(error, ResponseError)


async def test_a_caller_that_went_leaves_the_connection_to_the_others(link: Link) -> None:
    """Its reply is dropped; nobody else gets it, and nothing is opened anew."""
    await link.mux.send([("SET", "a", "1")])  # type: ignore[union-attr]
    wire = link.mux.wire  # type: ignore[union-attr]
    gone = asyncio.ensure_future(link.run(("GET", "a")))
    stays = asyncio.ensure_future(link.run(("ECHO", "mine")))
    await asyncio.sleep(0)
    gone.cancel()
    assert [b"mine"] == await stays
    assert wire is link.mux.wire  # type: ignore[union-attr]
    assert wire is not None
    assert not wire.lost


async def test_a_connection_that_dies_is_replaced_within_one_call(played: Callable[..., Any]) -> None:
    """Closed instead of answered: asked once more on a new one (trap 40)."""
    server, link = await played(lambda number, _: b"" if number == 0 else b"+OK\r\n")
    async with link.bounded():
        assert [b"OK"] == await link.run(("PING",))
    assert (2, 0) == (server.connections, link.errors)


async def test_a_silent_connection_is_given_up(played: Callable[..., Any]) -> None:
    """A peer that vanished without a word costs one deadline, not the connection's whole life."""
    server, link = await played(lambda number, _: None if number == 0 else b"+OK\r\n")

    async def ask() -> None:
        async with link.bounded():
            await link.run(("PING",))

    asking = asyncio.ensure_future(ask())
    await until(lambda: bool(server.reads))
    forward(4.99)
    with pytest.raises(StoreError, match="in time"):
        await asking
    async with link.bounded():
        assert [b"OK"] == await link.run(("PING",))
    assert 2 == server.connections


@pytest.mark.parametrize("word", [b"-READONLY You can't write", b"-LOADING not yet", b"hello"])
async def test_a_server_that_is_the_wrong_one_is_left(played: Callable[..., Any], word: bytes) -> None:
    """A replica, a server that still loads, or no Redis at all: the next try is on another connection."""
    server, link = await played(lambda number, _: word + b"\r\n" if number == 0 else b"+OK\r\n")
    async with link.bounded():
        assert [b"OK"] == await link.run(("SET", "a", "1"))
    assert 2 == server.connections


async def test_a_reply_that_nobody_asked_for_ends_the_connection(played: Callable[..., Any]) -> None:
    """Whatever is out of step could be another caller's answer."""
    server, link = await played(lambda number, _: b"+OK\r\n+OK\r\n" if number == 0 else b"+NEW\r\n")
    assert [b"OK"] == await link.run(("PING",))
    assert [b"NEW"] == await link.run(("PING",))
    assert 2 == server.connections


async def test_nobody_there_is_an_error_for_all_who_wait(tmp_path: Path) -> None:
    """One try for all of them, and an error each."""
    link = open_link(f"unix://{tmp_path}/none", pool_size=1, pool_timeout=1.0, deadline=1.0)
    outcomes = await asyncio.gather(*(link.run(("PING",)) for _ in range(5)), return_exceptions=True)
    assert {RedisConnectionError} == {type(outcome) for outcome in outcomes}
    await link.close()


async def test_closing_while_it_opens_ends_it(played: Callable[..., Any]) -> None:
    """Nothing is left behind."""
    _, link = await played(lambda _number, _data: None)
    waiting = asyncio.ensure_future(link.run(("PING",)))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises((RedisConnectionError, asyncio.CancelledError)):
        await waiting


def test_info_is_read_as_pairs() -> None:
    """Titles and blank lines are none of them; an error stays one."""
    assert {"run_id": "ab", "tcp_port": "0"} == told(b"# Server\r\nrun_id:ab\r\n\r\ntcp_port:0\r\n")
    error = ResponseError("no")
    assert error is told(error)
