"""One log line a request: which requests get one, what it says, and what it never says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from proxy.core.model import Evicted, Outcome, Reason, Tier, XCache
from proxy.core.observing import Observing
from proxy.logs import JsonFormatter
from proxy.requestlog import RequestLog
from tests.walk import bench, token_for

Lines = Callable[[], list[dict[str, Any]]]


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []
        self.written = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line as it would be written. The stub, in this process by chance, has its own."""
        if record.name.startswith("proxy"):
            self.lines.append(self.format(record))
            self.written.set()


@pytest.fixture(name="kept")
def _kept() -> Iterator[_Kept]:
    """Every line that the process would have written, of any logger."""
    handler, root = _Kept(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@pytest.fixture(name="lines")
def _lines(kept: _Kept) -> Lines:
    def lines() -> list[dict[str, Any]]:
        told = [json.loads(line) for line in kept.lines]
        return [line for line in told if line["message"] == "request"]

    return lines


def subset(line: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """Some fields of a line; None for one that is left out."""
    return tuple(line.get(name) for name in names)


async def test_a_line_for_each_request_but_plain_hits(lines: Lines) -> None:
    """A miss, a write, what no route takes and a refusal have one line each; the hit between them none."""
    async with bench() as one:
        await one.get("/users/3")
        await one.get("/users/3")
        await one.ask("PATCH", "/users/3", token=token_for(3), json={"bio": "b"})
        await one.get("/nowhere?x=1")
        await one.get("/auth/me", token="no.good.token")

    assert [
        ("GET", "GET /users/{id:int}", "lookup", 200, "MISS", "absent", 200),
        ("PATCH", "GET /users/{id:int}", "write", 200, "BYPASS", "write", 200),
        ("GET", None, "pass", 404, "BYPASS", "no-route", 404),
        ("GET", "GET /auth/me", "introspect", 401, "BYPASS", "token-malformed", None),
    ] == [
        subset(line, "method", "route", "kind", "status", "x_cache", "reason", "upstream_status")
        for line in lines()
    ]
    assert [1, True, False] == [*subset(lines()[1], "evicted_entries", "delivered", "evicted_everything")]


async def test_the_times_are_the_requests_own(lines: Lines) -> None:
    """Upstream's part is in the whole, and a slow upstream shows in it."""
    async with bench(latency=0.03) as one:
        await one.get("/users/3")

    (line,) = lines()
    assert 30 <= line["upstream_ms"] <= line["ms"] < 5000


async def test_a_failed_upstream_has_its_line(lines: Lines) -> None:
    """The write's answer never came: 502, and it was upstream's fault."""
    async with bench(drop_after_commit_rate=1.0) as one:
        await one.ask("PATCH", "/users/3", token=token_for(3), json={"bio": "b"})

    assert [(502, True, None)] == [
        subset(line, "status", "upstream_failed", "upstream_status") for line in lines()
    ]


async def test_the_clients_own_names_are_kept(lines: Lines) -> None:
    """X-Request-Id and the trace of traceparent are in the line; without them a name is made."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with bench() as one:
        await one.get(
            "/users/1", headers={"X-Request-Id": "abc-1", "traceparent": f"00-{trace}-{'1' * 16}-01"}
        )
        await one.get("/users/2", headers={"traceparent": f"00-{trace}-{'1' * 16}-01"})
        await one.get("/users/3")
        await one.get("/users/4")

    named = [subset(line, "request_id", "trace_id") for line in lines()]
    assert [("abc-1", trace), (trace, trace)] == named[:2]
    assert [None, None] == [trace_id for _, trace_id in named[2:]]
    assert 2 == len({made for made, _ in named[2:]} - {"", None})


async def test_nothing_personal_is_ever_logged(kept: _Kept) -> None:
    """Whatever comes in: no address, phone number, name, token, id of a user, body or URL is in any line."""
    token = token_for(7)
    async with bench(env={"LOG_HITS": "100%"}) as one:
        user = (await one.get("/users/7")).json()
        await one.get(
            f"/users/by-email/{user['email']}", token=token, headers={"X-Request-Id": user["email"]}
        )
        await one.get("/users?phone=" + user["phone"].replace("+", "%2B"), token=token)
        await one.get(f"/users/{user['username']}")
        await one.ask("PATCH", "/users/7", token=token, json={"bio": "a-secret-bio"})
        await one.get(f"/search?q={user['email']}", headers={"traceparent": user["email"]})
        await one.get("/auth/me", token=token + "x")

    told = "\n".join(kept.lines)
    assert 7 == told.count('"message": "request"')
    private = [
        user["email"],
        user["phone"],
        user["phone"][1:],
        user["username"],
        token,
        "a-secret-bio",
        "/users/7",
    ]
    assert [] == [value for value in private if value in told]


async def test_hits_are_sampled(lines: Lines) -> None:
    """LOG_HITS=25%: the first hit and every fourth after it."""
    async with bench(env={"LOG_HITS": "25%"}) as one:
        for _ in range(10):
            await one.get("/users/3")

    assert ["MISS", "HIT", "HIT", "HIT"] == [line["x_cache"] for line in lines()]
    assert {"memory"} == {line["tier"] for line in lines()[1:]}


async def test_the_log_can_be_switched_off(lines: Lines) -> None:
    """LOG_REQUESTS=off: not even the share of hits."""
    async with bench(env={"LOG_REQUESTS": "off", "LOG_HITS": "100%"}) as one:
        await one.get("/users/3")
        await one.get("/users/3")

    assert [] == lines()


@pytest.mark.parametrize(("sent", "ids"), [("off", [[], ["abc-1"]]), ("on", [["made"], ["abc-1"]])])
async def test_upstream_gets_an_id_if_it_is_asked_for(lines: Lines, sent: str, ids: list[list[str]]) -> None:
    """SEND_REQUEST_ID=on adds the line that the log names; a client's own line is never touched."""
    seen: list[list[str]] = []

    async def app(request: web.Request) -> web.Response:
        seen.append(request.headers.getall("X-Request-Id", []))
        return web.json_response({"id": 1})

    origin = web.Application()
    origin.router.add_get("/{rest:.*}", app)
    async with bench(env={"SEND_REQUEST_ID": sent}, upstream=origin) as one:
        await one.get("/users/1")
        await one.get("/users/2", headers={"X-Request-Id": "abc-1"})

    made = [line["request_id"] for line in lines()]
    assert [[made[0]] if one == ["made"] else one for one in ids] == seen
    assert "abc-1" == made[1]


async def test_a_client_that_hangs_up_has_its_line_too(kept: _Kept, lines: Lines) -> None:
    """The walk was cancelled: the line says what was known, with the status that stands for it (499)."""
    async with bench() as one:
        await one.control(hold="user_by_id")
        asking = asyncio.create_task(one.get("/users/3"))
        await one.held("user_by_id", 1)
        asking.cancel()
        await asyncio.wait((asking,))
        await one.control(release="all")
        async with asyncio.timeout(5):
            await kept.written.wait()

    assert [("GET /users/{id:int}", 499)] == [subset(line, "route", "status") for line in lines()]


def test_a_hit_without_a_share_costs_no_record(kept: _Kept) -> None:
    """The default on the hot path: nothing is made, nothing is written."""
    log = RequestLog(Observing())
    for _ in range(100):
        log.observe(Outcome(x_cache=XCache.HIT))

    assert ([], 0) == (kept.lines, log.every)
    assert (100, 0) == tuple(
        RequestLog(Observing(log_requests=on, log_hits=0.01)).every for on in (True, False)
    )


def test_a_stale_answer_is_no_plain_hit(lines: Lines) -> None:
    """STALE has a line, with the reason."""
    RequestLog(Observing()).observe(Outcome(x_cache=XCache.STALE, reason=Reason.EXPIRED))

    assert [("STALE", "expired")] == [subset(line, "x_cache", "reason") for line in lines()]


def test_a_line_says_all_that_is_known_and_nothing_else(lines: Lines) -> None:
    """Each field by its name; what a request was about, and whom, has none."""
    outcome = Outcome(
        route="GET /users/{id:int}",
        kind="lookup",
        method="GET",
        view="users",
        x_cache=XCache.MISS,
        reason=Reason.ABSENT,
        tier=Tier.REDIS,
        status=200,
        skipped=Reason.NO_STORE,
        collapsed=True,
        upstream_status=200,
        upstream_failed=True,
        evicted=Evicted(3, 2, delivered=False),
        everything=True,
        taken=("hashed_password",),
        seconds=0.0125,
        upstream_seconds=0.01,
        request_id="abc-1",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        evicted_ids=("42",),
    )
    RequestLog(Observing()).observe(outcome)

    (line,) = lines()
    about = {"time", "level", "logger", "message"}
    assert {
        "request_id": "abc-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "method": "GET",
        "route": "GET /users/{id:int}",
        "kind": "lookup",
        "status": 200,
        "x_cache": "MISS",
        "ms": 12.5,
        "reason": "absent",
        "not_stored": "no-store",
        "view": "users",
        "tier": "redis",
        "collapsed": True,
        "upstream_ms": 10.0,
        "upstream_status": 200,
        "upstream_failed": True,
        "evicted_entries": 3,
        "evicted_everything": True,
        "delivered": False,
    } == {name: value for name, value in line.items() if name not in about}


def test_nothing_is_made_for_a_line_that_nobody_writes(kept: _Kept) -> None:
    """At `LOG_LEVEL=warning`, and where the log is off: not even a name for the request."""

    def none() -> str:
        raise AssertionError("no name is wanted")

    logging.getLogger().setLevel(logging.WARNING)
    RequestLog(Observing(), none).observe(Outcome(x_cache=XCache.MISS))
    off = RequestLog(Observing(log_requests=False, log_hits=1.0), none)
    off.observe(Outcome(x_cache=XCache.MISS))
    assert ([], False) == (kept.lines, off.wants_next_hit())


def test_hits_that_are_seen_elsewhere_count_for_the_share(lines: Lines) -> None:
    """Whichever way they are answered: the first one is to be seen, and then every fourth."""
    log = RequestLog(Observing(log_hits=0.25))
    for _ in range(20):
        if log.wants_next_hit():
            log.observe(Outcome(x_cache=XCache.HIT))
    assert len((1, 4, 8, 12, 16, 20)) == len(lines())
