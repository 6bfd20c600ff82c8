"""What is refused at the edge, before it is a request: a line and a count, nothing of what was sent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.errors import ClientError
from proxy.core.model import Reply, Request
from proxy.handler import EdgeServer, Line
from proxy.logs import JsonFormatter
from proxy.refusals import BURST, RATE, Refusals
from proxy.telemetry import Telemetry
from tests.http.test_edge import BAD, raw
from tests.walk import bench

CANARY = b"canary-7f3a@secret.example"
# What each of them is refused for; the rest of BAD is 400.
OTHERS = {"trace": (405, "method-not-allowed"), "long line": (431, "header-too-large")}
LATE = {
    "target": (b"GET /" + CANARY * 400, 414, "uri-too-long"),
    "body": (b"POST /" + CANARY + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n", 413, "too-large"),
    "head that stops": (b"GET /" + CANARY + b" HTTP/1.1\r\nX: " + CANARY, 408, "request-timeout"),
    "method": (CANARY + b" / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-request"),
    "field": (b"GET / HTTP/1.1\r\nHost: h\r\n" + CANARY + b" : x\r\n\r\n", 400, "bad-request"),
    "host": (b"GET / HTTP/1.1\r\nHost: " + CANARY + b"/x\r\n\r\n", 400, "bad-request"),
}
CASES = {name: (sent, *OTHERS.get(name, (400, "bad-request"))) for name, sent in BAD.items()} | LATE


@asynccontextmanager
async def listening(telemetry: Telemetry, limits: LimitSettings) -> AsyncIterator[tuple[str, int]]:
    """An edge that nobody stands behind."""

    async def walk(request: Request) -> Reply:
        raise AssertionError(request.target)

    line = Line(walk, limits, EdgeSettings(), None, Refusals(telemetry, on=True))
    server = await asyncio.get_running_loop().create_server(EdgeServer(line), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


@pytest.mark.parametrize("name", sorted(CASES))
async def test_each_refusal_is_told_and_counted(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line with status, problem and a sentence of ours; the client's answer says the same."""
    sent, status, problem = CASES[name]
    telemetry = Telemetry()
    with caplog.at_level(logging.INFO):
        async with listening(telemetry, LimitSettings(body=20, head_timeout=0.1)) as place:
            answer = await raw(place, sent)
    (told,) = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert {problem: 1} == telemetry.stats()["refused"]
    assert ("request refused", status, problem) == (told["message"], told["status"], told["problem"])
    assert {"time", "level", "logger", "message", "status", "problem", "detail"} == set(told)
    assert f'"detail":"{told["detail"]}"'.encode() in answer
    assert CANARY.decode() not in str(told)


async def test_a_connection_too_many_is_told() -> None:
    """As overloaded."""
    telemetry = Telemetry()
    async with listening(telemetry, LimitSettings(connections=1)) as place:
        _, writer = await asyncio.open_connection(*place)
        assert (await raw(place, b"")).startswith(b"HTTP/1.1 503 ")
        writer.close()
    assert {"overloaded": 1} == telemetry.stats()["refused"]


def test_lines_are_bounded_and_counts_are_not(caplog: pytest.LogCaptureFixture) -> None:
    """A burst at once, then so many a second; the next line says how many had none."""
    now = 0.0
    telemetry = Telemetry()
    refusals = Refusals(telemetry, on=True, now=lambda: now)
    error = ClientError(400, "bad-request", "A sentence.")
    with caplog.at_level(logging.INFO):
        for _ in range(1000):
            refusals(error)
        assert BURST == len(caplog.records)
        now = 1.0
        for _ in range(1000):
            refusals(error)
    told = [record.__dict__.get("untold") for record in caplog.records[int(BURST) :]]
    assert [1000 - BURST, *[None] * (int(RATE) - 1)] == told
    assert {"bad-request": 2000} == telemetry.stats()["refused"]


async def test_who_wants_no_lines_gets_none(caplog: pytest.LogCaptureFixture) -> None:
    """LOG_REQUESTS=off; they are counted, and /metrics shows them."""
    with caplog.at_level(logging.INFO, "proxy"):
        async with bench(env={"LOG_REQUESTS": "off"}) as at:
            host, port = at.url.removeprefix("http://").split(":")
            assert b" 405 " in await raw((host, int(port)), b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert {"method-not-allowed": 1} == at.app.telemetry.stats()["refused"]
    assert [] == [record for record in caplog.records if record.message == "request refused"]
