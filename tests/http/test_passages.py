"""Requests that are passed on without a task: the same bytes as the walk's, also where it gets hard."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.app import App, compose
from proxy.config import load
from proxy.connection import Connection
from proxy.requestbody import SMALL
from tests.contract.kit import until
from tests.origin import OK, Origin, origin

ROUTES = """
version: 1
upstream: {url: http://127.0.0.1:1, timeout: 60s, connect_timeout: 30s}
user: {id: id, keys: {email: {path: email}}}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /files/{name}", resource: {}}
  - {match: "POST /auth/login", pass: true}
"""
GET = b"GET /other HTTP/1.1\r\nHost: h.example\r\n\r\n"
PUT = b"PUT /other HTTP/1.1\r\nHost: h.example\r\nContent-Length: 4\r\n\r\nbody"


@dataclass
class At:
    """A proxy, its origin, and a client's connection to it."""

    app: App
    origin: Origin
    place: tuple[str, int]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, sent: bytes) -> bytes:
        """One exchange on the client's connection."""
        self.writer.write(sent)
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 1"):
                head += await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if sent.startswith(b"HEAD") or b" 204 " in head or b" 304 " in head:
                return head
            if length:
                return head + await self.reader.readexactly(int(length[1]))
            return head + await self.reader.readuntil(b"0\r\n\r\n")


@asynccontextmanager
async def proxied(
    tmp_path: Path, *answers: bytes, passages: bool = True, more: str = "", **environ: str
) -> AsyncIterator[At]:
    """A proxy with one connection to the origin lying idle; `passages` False: all is walked.

    `more` is a line of the configuration.
    """
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES + more)
    async with origin(OK, *answers) as at:
        env = {"ROUTES_FILE": str(file), "UPSTREAM_URL": at.url, "ADMIN_LISTEN": "127.0.0.1:1", **environ}
        async with compose(load(env)) as app:
            began, app.server.passages = app.server.passages, None
            server = await asyncio.get_running_loop().create_server(app.server, "127.0.0.1", 0)
            place = server.sockets[0].getsockname()[:2]
            reader, writer = await asyncio.open_connection(*place)
            proxy = At(app, at, place, reader, writer)
            try:
                assert (await proxy.ask(GET)).endswith(b"ok")
                app.server.passages = began if passages else None
                at.heads.clear()
                at.bodies.clear()
                yield proxy
            finally:
                writer.close()
                server.close()
                await app.server.shutdown(1.0)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each request ended that was not walked from its beginning: `whole`, or `carried` on by the walk."""
    ends: list[str] = []
    from proxy import passage

    received, carried = passage.Passage._answered, passage.Passage._carry_on

    def noted(self: passage.Passage, *args: object, **more: object) -> bytes:
        ends.append("whole")
        return received(self, *args, **more)  # type: ignore[arg-type]

    def noted_too(self: passage.Passage, data: bytes) -> None:
        ends.append("carried")
        carried(self, data)

    monkeypatch.setattr(passage.Passage, "_answered", noted)
    monkeypatch.setattr(passage.Passage, "_carry_on", noted_too)
    return ends


def plain(head: bytes) -> list[bytes]:
    """The lines of a head without what time makes of them, and without blanks around values."""
    return [
        re.sub(rb":[ \t]*(.*?)[ \t]*$", rb": \1", line)
        for line in head.split(b"\r\n")
        if not line.startswith(b"Date: ")
    ]


LINES = (
    b"User-Agent: curl/8",
    b"Accept:*/*",
    b"Accept: \t text/html ",
    b"X-Empty:",
    b"Cookie: a=1; b=2",
    b"cookie: c=3",
    b"X_Under: 1",
    b"Connection: keep-alive",
    b"connection: Keep-Alive",
    b"Connection: close",
    b"Connection: X-Empty, keep-alive",
    b"Keep-Alive: timeout=5",
    b"TE: trailers",
    b"Upgrade: websocket",
    b"Proxy-Authorization: x",
    b"Via: 1.1 other",
    b"X-Forwarded-For: 192.0.2.9",
    b"X-Forwarded-Proto: https",
    b"Forwarded: for=192.0.2.9",
    b"X-HTTP-Method-Override: PUT",
    b"X-Request-Id: abc",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"Max-Forwards: 3",
    b"Expect: 100-continue",
    b"Authorization: Bearer x.y.z",
    "X-Name: ä".encode("latin-1"),
)
ANSWERS = (
    OK,
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 3\r\nX-A: 1\r\n\r\nabc",
    b"HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-B:1\r\nContent-Length:2\r\nVary:  Accept \r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 10\r\n\r\n',
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 502 Bad Gateway\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
)


async def compared(tmp_path: Path, sent: bytes, answer: bytes, more: str = "") -> None:
    """What upstream gets and what the client gets is what they would see of a walk."""
    seen = []
    for passages in (True, False):
        async with proxied(tmp_path, answer, passages=passages, more=more) as at:
            told = await at.ask(sent)
            seen.append((plain(told), [plain(one) for one in at.origin.heads], at.origin.bodies))
    assert seen[0] == seen[1]


def request(method: bytes, target: bytes, *lines: bytes) -> bytes:
    """A request with these lines; a PUT has a body."""
    length = (b"Content-Length: 4",) if method == b"PUT" else ()
    head = b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), b"Host: h.example", *lines, *length))
    return head + b"\r\n\r\n" + (b"body" if length else b"")


METHODS = (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"BREW", b"PUT")
EDGES = ("", "edge: {x_forwarded: replace}\n", 'edge: {x_forwarded: "off", forwarded: true}\n')


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("method", [b"PUT", b"OPTIONS"])
async def test_each_line_is_treated_as_the_walk_treats_it(method: bytes, line: bytes, tmp_path: Path) -> None:
    await compared(tmp_path, request(method, b"/other", line), OK)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_each_answer_is_treated_as_the_walk_treats_it(
    method: bytes, answer: bytes, tmp_path: Path
) -> None:
    await compared(tmp_path, request(method, b"/other"), answer)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    target=st.sampled_from([b"/other", b"/o?a=%zz&", b"//x/../y", b"/%00", "/ä".encode("latin-1"), b"*"]),
    lines=st.lists(st.sampled_from(LINES), max_size=4, unique=True),
    answer=st.sampled_from(ANSWERS),
    edge=st.sampled_from(EDGES),
)
async def test_any_mix_is_treated_as_the_walk_treats_it(
    method: bytes, target: bytes, lines: list[bytes], answer: bytes, edge: str, tmp_path: Path
) -> None:
    await compared(tmp_path, request(method, target, *lines), answer, edge)


@pytest.mark.parametrize("edge", EDGES)
async def test_what_is_added_is_what_the_walk_adds(edge: str, tmp_path: Path, taken: list[str]) -> None:
    await compared(tmp_path, GET, OK, edge)
    assert ["whole"] == taken


@pytest.mark.parametrize(
    ("limits", "good", "answer"),
    [
        ("target: 256", GET.replace(b"/other", b"/" + b"o" * 259), b"414"),
        ("fields: 2", GET.replace(b"\r\n\r\n", b"\r\nA: \r\n\r\n"), b"431"),
        ("field: 256", GET.replace(b"\r\n\r\n", b"\r\nA:" + b"a" * 255 + b"\r\n\r\n"), b"431"),
        ("head: 1100", GET.replace(b"\r\n\r\n", b"\r\nA:" + b"a" * 1056 + b"\r\n\r\n"), b"431"),
        ("body: 4", PUT, b"413"),
    ],
)
async def test_limits_hold(limits: str, good: bytes, answer: bytes, tmp_path: Path) -> None:
    """What just keeps a limit is passed on; a byte more, or a line, is refused as it is without passages."""
    bad = good.replace(b"/o", b"/oo").replace(b"A:", b"A:\r\nA:" if "fields" in limits else b"A:a")
    bad = bad.replace(b"4\r\n\r\nbody", b"5\r\n\r\nbodyy")
    async with proxied(tmp_path, more=f"limits: {{{limits}}}\n") as at:
        assert (await at.ask(good)).endswith(b"\r\n\r\nok")
        assert (await at.ask(bad)).startswith(b"HTTP/1.1 " + answer)
        assert 1 == len(at.origin.heads)


def put(content: bytes) -> bytes:
    """A PUT of this."""
    return PUT.replace(b"4\r\n\r\nbody", b"%d\r\n\r\n%b" % (len(content), content))


@pytest.mark.parametrize(
    ("sent", "cut", "ends"),
    [
        (put(b"x" * SMALL), 0, ["whole"]),
        (put(b"x" * (SMALL + 1)), 0, []),
        (put(GET), 0, ["whole"]),
        (PUT, PUT.index(b"body"), []),
        (PUT, PUT.index(b"ody"), []),
        (PUT, PUT.index(b"Host"), ["whole"]),
    ],
)
async def test_a_body_goes_with_its_head_once_if_it_is_small_and_there(
    sent: bytes, cut: int, ends: list[str], tmp_path: Path, taken: list[str]
) -> None:
    """The next request is what comes behind it, wherever the bytes were cut."""
    async with proxied(tmp_path) as at:
        if cut:
            client = next(iter(at.app.server.connections))
            client.data_received(sent[:cut])
            client.data_received(sent[cut:])
            sent = b""
        told = await at.ask(sent)
        assert told.endswith(b"\r\n\r\nok")
        assert ends == taken
        assert (await at.ask(GET)).endswith(b"\r\n\r\nok")
        assert [b"PUT", b"GET"] == [head[:3] for head in at.origin.heads]
        length = int(at.origin.heads[0].partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        assert (length, 0) == tuple(map(len, at.origin.bodies))


async def test_pipelined_requests_keep_their_bodies_and_their_order(tmp_path: Path, taken: list[str]) -> None:
    answers = [OK.replace(b"ok", b"%02d" % number) for number in range(4)]
    async with proxied(tmp_path, *answers) as at:
        at.writer.write(put(GET) + GET + put(b"abc") + GET)
        async with asyncio.timeout(10):
            for number in range(4):
                await at.reader.readuntil(b"\r\n\r\n%02d" % number)
        assert [GET, b"", b"abc", b""] == at.origin.bodies
        assert ["whole"] * 4 == taken


async def test_what_was_sent_with_its_body_is_carried_on(tmp_path: Path, taken: list[str]) -> None:
    """The body is read by nobody again, and the client's connection goes on."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with proxied(tmp_path, chunked) as at:
        assert (await at.ask(PUT)).endswith(b"\r\n2\r\nok\r\n0\r\n\r\n")
        assert (await at.ask(PUT)).endswith(b"\r\n\r\nok")
        assert (["carried", "whole"], [b"body", b"body"]) == (taken, at.origin.bodies)


@pytest.mark.parametrize(("answer", "date"), [(OK, b""), (ANSWERS[1], b"Thu, 01 Jan 1970 00:00:00 GMT")])
async def test_an_answer_is_dated_once(answer: bytes, date: bytes, tmp_path: Path, taken: list[str]) -> None:
    """By the service, or here."""
    async with proxied(tmp_path, answer) as at:
        dates = re.findall(rb"\r\nDate: ([^\r]+)", await at.ask(GET))
        assert ([bool(date)], ["whole"]) == ([one == date for one in dates], taken)


async def test_it_is_logged_by_the_names_that_its_client_gave(
    tmp_path: Path, taken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "proxy.request")
    trace = "0af7651916cd43dd8448eb211c80319c"
    lines = b"X-Request-Id: \t mine \r\ntraceparent: 00-%b-b7ad6b7169203331-01\r\nHost" % trace.encode()
    async with proxied(tmp_path) as at:
        caplog.clear()
        await at.ask(PUT.replace(b"Host", lines))
    told = [vars(record) for record in caplog.records if record.name == "proxy.request"]
    assert [("mine", trace, "PUT")] == [(one["request_id"], one["trace_id"], one["method"]) for one in told]
    assert ["whole"] == taken


async def test_a_client_that_takes_nothing_is_waited_for(tmp_path: Path, taken: list[str]) -> None:
    """What it asks for meanwhile does not pile up."""
    async with proxied(tmp_path) as at:
        client = next(iter(at.app.server.connections))
        client.pause_writing()
        at.writer.write(GET + GET)
        await until(lambda: len(at.origin.heads) == 1)
        client.resume_writing()
        await at.reader.readuntil(b"\r\n\r\nok")
        await at.reader.readuntil(b"\r\n\r\nok")
        assert (["whole"], 2) == (taken, len(at.origin.heads))


async def test_nothing_begins_where_there_is_no_room(tmp_path: Path, taken: list[str]) -> None:
    async with proxied(tmp_path) as at:
        at.app.server.waiting.count += at.app.server.waiting.limit
        assert (await at.ask(GET)).startswith(b"HTTP/1.1 503 ")
        at.app.server.waiting.count = 0
        assert ([], []) == (taken, at.origin.heads)


@pytest.mark.parametrize("sent", [GET, PUT, GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")])
async def test_plain_requests_are_passed_on_and_counted(
    sent: bytes, tmp_path: Path, taken: list[str]
) -> None:
    async with proxied(tmp_path) as at:
        for _ in range(3):
            told = await at.ask(sent)
            assert told.endswith(b"\r\n\r\nok"), told
            assert (
                b"\r\nX-Cache: BYPASS\r\nCache-Status: user-cache-proxy; fwd=bypass; fwd-status=200" in told
            )
        assert ["whole"] * 3 == taken
        assert (1, 3) == (at.origin.connections, len(at.origin.heads))
        stats = at.app.telemetry.stats()
        assert (4, {"no-route": 4}, {"2xx": 4}) == (
            stats["requests"]["pass"],
            stats["reasons"],
            stats["upstream"],
        )


@pytest.mark.parametrize(
    "sent",
    [
        GET.replace(b"/other", b"/users/1"),
        GET.replace(b"GET /other", b"DELETE /users/1"),
        GET.replace(b"GET /other", b"DELETE /files/x"),
        GET.replace(b"GET /other", b"DELETE /files/%78"),
        GET.replace(b"Host", b"X-Original-URL: /users/1\r\nHost"),
        GET.replace(b"Host", b"X_Original_URL: /users/1\r\nHost"),
    ],
)
async def test_what_a_route_is_for_is_walked(sent: bytes, tmp_path: Path, taken: list[str]) -> None:
    async with proxied(tmp_path) as at:
        await at.ask(sent)
        assert [] == taken


async def test_a_pass_route_is_named(tmp_path: Path, taken: list[str]) -> None:
    async with proxied(tmp_path) as at:
        told = await at.ask(PUT.replace(b"PUT /other", b"POST /auth/login"))
        assert b"detail=pass-route" in told
        assert ["whole"] == taken
        assert "POST /auth/login" in at.app.telemetry.stats()["routes"]


async def test_a_request_gets_the_name_that_the_settings_ask_for(tmp_path: Path, taken: list[str]) -> None:
    async with proxied(tmp_path, SEND_REQUEST_ID="on") as at:
        await at.ask(GET)
        named = GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: mine\r\n\r\n")
        await at.ask(named)
        assert ["whole"] == taken
        assert [1, 1] == [head.lower().count(b"x-request-id:") for head in at.origin.heads]


async def test_a_deadline_ends_with_the_answer(tmp_path: Path, taken: list[str]) -> None:
    """The next one on that connection may be an upload, which takes its time."""
    async with proxied(tmp_path) as at:
        await at.ask(GET)
        idle = at.app.server.passages.upstream._pool._idle
        assert (["whole"], [0.0]) == (taken, [connection._deadline.due for connection, _ in idle])


async def test_many_answers_go_to_those_who_asked(tmp_path: Path) -> None:
    """Requests that come in one piece are answered in their order."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n for n in range(40)]
    async with proxied(tmp_path, *answers) as at:
        at.writer.write(GET * 40)
        bodies = []
        async with asyncio.timeout(10):
            for _ in range(40):
                await at.reader.readuntil(b"\r\n\r\n")
                bodies.append(await at.reader.readexactly(2))
        assert [b"%02d" % n for n in range(40)] == bodies


async def test_what_comes_behind_an_answer_is_nobodys(tmp_path: Path, taken: list[str]) -> None:
    """Whether with the answer or after it: its connection carries no other request."""
    async with proxied(tmp_path, OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") as at:
        assert (await at.ask(GET)).endswith(b"\r\n\r\nok")
        assert (await at.ask(GET)).endswith(b"\r\n\r\nok")
        assert 2 == at.origin.connections


async def test_an_answer_that_ends_its_connection_is_the_last_on_it(tmp_path: Path, taken: list[str]) -> None:
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    async with proxied(tmp_path, closing) as at:
        assert b"Connection" not in await at.ask(GET)
        await at.ask(GET)
        assert (["whole"], 2) == (taken, at.origin.connections)


async def test_a_get_is_asked_again_where_its_connection_turns_out_closed(
    tmp_path: Path, taken: list[str]
) -> None:
    # The origin reads the request, says nothing and closes.
    async with proxied(tmp_path, b"") as at:
        assert (await at.ask(GET)).endswith(b"\r\n\r\nok")
        assert (["carried"], 2) == (taken, len(at.origin.heads))


@pytest.mark.parametrize("sent", [PUT, PUT.replace(b"PUT", b"GET"), GET.replace(b"GET", b"DELETE")])
async def test_a_write_or_a_body_is_never_sent_twice(sent: bytes, tmp_path: Path, taken: list[str]) -> None:
    # The origin reads the request, says nothing and closes.
    async with proxied(tmp_path, b"") as at:
        assert (await at.ask(sent)).startswith(b"HTTP/1.1 502 ")
        assert (["carried"], 1) == (taken, len(at.origin.heads))
        assert 1 == at.app.telemetry.stats()["upstream"]["failed"]


async def test_no_answer_in_time_is_a_504(
    tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(tmp_path) as at:
        at.origin.silent = True
        monkeypatch.setattr(at.app.server.passages.upstream, "until_head", 0.05)
        assert (await at.ask(GET)).startswith(b"HTTP/1.1 504 ")
        stats = at.app.telemetry.stats()
        assert ["carried"] == taken
        assert stats["upstream_latency"]["seconds"] > 0.04


async def test_an_answer_in_parts_is_carried_on(tmp_path: Path, taken: list[str]) -> None:
    """Its head goes out as soon as it is there."""
    async with proxied(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab") as at:
        at.writer.write(GET)
        async with asyncio.timeout(10):
            head = await at.reader.readuntil(b"\r\n\r\nab")
        assert (["carried"], True) == (taken, b"Content-Length: 4" in head)


@pytest.mark.parametrize("passages", [True, False])
async def test_a_client_that_goes_away_takes_a_read_along(
    passages: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Upstream's connection is closed, and the request is observed, as it is on a walk."""
    caplog.set_level(logging.INFO, "proxy.request")
    async with proxied(tmp_path, passages=passages) as at:
        at.origin.silent = True
        at.origin.arrived.clear()
        at.writer.write(GET)
        await at.origin.arrived.wait()
        at.writer.close()
        async with asyncio.timeout(10):
            await at.origin.gone.wait()
        await until(lambda: at.app.telemetry.stats()["requests"]["pass"] == 2)
        assert 0 == at.app.server._line.busy
    told = [vars(record) for record in caplog.records if record.name == "proxy.request"][-1]
    assert (499, "no-route", True) == (told["status"], told["reason"], told["upstream_ms"] > 0)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What upstream says is heard when this is set."""
    opened = asyncio.Event()
    received = Connection.data_received

    async def later(self: Connection, data: bytes) -> None:
        await opened.wait()
        received(self, data)

    held: set[asyncio.Task[None]] = set()

    def late(self: Connection, data: bytes) -> None:
        held.add(asyncio.get_running_loop().create_task(later(self, data)))

    monkeypatch.setattr(Connection, "data_received", late)
    opened.set()
    return opened


async def test_a_write_of_a_client_that_goes_away_comes_to_its_end(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    async with proxied(tmp_path) as at:
        gate.clear()
        at.writer.write(PUT)
        await until(lambda: len(at.origin.heads) == 1)
        at.writer.close()
        await until(lambda: not at.app.server.connections)
        gate.set()
        await until(lambda: at.app.telemetry.stats()["upstream"]["2xx"] == 2)
        assert 0 == at.app.server._line.busy


async def test_the_last_answer_of_a_server_that_ends_says_so(
    tmp_path: Path, taken: list[str], gate: asyncio.Event
) -> None:
    async with proxied(tmp_path) as at:
        gate.clear()
        at.writer.write(GET)
        await until(lambda: len(at.origin.heads) == 1)
        at.app.server.pre_shutdown()
        gate.set()
        async with asyncio.timeout(10):
            told = await at.reader.read()
        assert (["whole"], True) == (taken, b"\r\nConnection: close\r\n" in told)


async def test_settings_that_change_wait_for_what_is_under_way(
    tmp_path: Path, taken: list[str], gate: asyncio.Event
) -> None:
    """What only the old ones use is closed when the last of their requests has its answer."""
    async with proxied(tmp_path) as at:
        line = at.app.server._line
        gate.clear()
        at.writer.write(GET)
        await until(lambda: len(at.origin.heads) == 1)
        ended = asyncio.create_task(line.ended())
        await asyncio.sleep(0)
        assert not ended.done()
        gate.set()
        async with asyncio.timeout(10):
            await ended
        assert ["whole"] == taken
