"""The admin socket: who may ask, what it tells, and that an eviction that failed says so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from proxy.admin.api import Admin, Duties, guard
from proxy.admin.dashboard import PAGE
from proxy.admin.modes import Modes, Note
from proxy.admin.peers import Peers, merged
from proxy.cache import UserCache
from proxy.core.errors import ConfigError, UpstreamRefused
from proxy.core.model import Evicted, Outcome, Request, Tier, XCache
from proxy.core.rolloutsettings import Mode
from proxy.rollout import Rollout
from proxy.store.memory import MemoryStore
from proxy.telemetry import Telemetry
from tests.walk import bench

USER = {"id": 42, "email": "Ada@Example.com", "username": "ada", "phone": "+49151", "is_active": True}
TOKEN = "of-operators"


class Worker:
    """One worker's admin with a memory cache of its own; `reachable` and `delivers` can be turned off."""

    def __init__(self, peers: Iterable[str] = (), token: str | None = None) -> None:
        self.store = Undelivered(100)
        self.cache = UserCache(self.store)
        self.telemetry = Telemetry()
        self.reachable = True
        self.explained: list[Request] = []
        self.admin = Admin(
            Duties(self.cache, self.ping, self.explain),
            telemetry=self.telemetry,
            token=token,
            peers=Peers(tuple(peers)),
        )

    async def ping(self) -> None:
        """Upstream answers, or does not."""
        if not self.reachable:
            raise UpstreamRefused("connection refused", executed=False)

    async def explain(self, request: Request) -> dict[str, Any]:
        """Remembers what was asked."""
        self.explained.append(request)
        return {"would_be": "HIT"}


class Undelivered(MemoryStore):
    """A memory that can say that Redis behind it was not told."""

    delivers = True

    async def evict(
        self, user_ids: Iterable[str], aliases: Iterable[tuple[str, str]] = (), *, everything: bool = False
    ) -> Evicted:
        """As memory does it."""
        evicted = await super().evict(user_ids, aliases, everything=everything)
        return Evicted(evicted.entries, evicted.aliases, delivered=self.delivers)


@asynccontextmanager
async def client_of(worker: Worker) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A client of that worker's admin socket."""
    async with worker.cache, TestClient(TestServer(worker.admin.app())) as client:
        yield client


@asynccontextmanager
async def listening(worker: Worker, path: Path) -> AsyncIterator[None]:
    """The worker's admin on a unix socket, as the first worker asks it."""
    runner = web.AppRunner(worker.admin.app(), access_log=None)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        async with worker.cache:
            yield
    finally:
        await runner.cleanup()


def hit() -> Outcome:
    """A look-up that was answered from memory."""
    return Outcome(kind="lookup", view="users", x_cache=XCache.HIT, tier=Tier.MEMORY, status=200)


async def test_alive_and_ready_are_two_questions() -> None:
    """Alive whatever happens outside; ready while upstream takes connections."""
    worker = Worker()
    async with client_of(worker) as client:
        alive = [(await client.get("/healthz")).status]
        ready = [(await client.get("/readyz")).status]
        worker.reachable = False
        alive.append((await client.get("/healthz")).status)
        answer = await client.get("/readyz")
        told = await answer.json()

    assert ([200, 200], [200], 503) == (alive, ready, answer.status)
    assert {"status": "unready", "upstream": "connection refused"} == told


async def test_health_tells_of_the_store() -> None:
    """Status, backend, latency and the counters, in one answer that nobody may keep."""
    async with client_of(Worker()) as client:
        answer = await client.get("/health")
        told = await answer.json()

    assert (200, "no-store") == (answer.status, answer.headers["Cache-Control"])
    assert ("ok", "memory", 0) == (told["status"], told["backend"], told["stats"]["hits"])
    assert told["latency_ms"] >= 0


async def test_stats_count_what_was_observed() -> None:
    """The documented names, with the rate in percent."""
    worker = Worker()
    worker.telemetry.observe(hit())
    worker.telemetry.observe(Outcome(kind="lookup", view="users", x_cache=XCache.MISS))
    async with client_of(worker) as client:
        told = await (await client.get("/stats")).json()

    names = ("hits", "misses", "invalidations", "hit_rate_percent", "total_lookups", "workers")
    assert (1, 1, 0, 50.0, 2, 1) == tuple(told[name] for name in names)
    assert ({"users": {"hits": 1, "misses": 1}}, {"memory": 1}) == (told["views"], told["tiers"])
    assert told["uptime_seconds"] >= 0


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"id": 42}, False),
        ({"id": "42"}, False),
        ({"email": "ADA@example.com"}, False),
        ({"username": "ada"}, False),
        ({"phone": "+49151"}, False),
        ({"all": True}, False),
        ({"id": 43}, True),
        ({"username": "ADA"}, True),
    ],
    ids=str,
)
async def test_an_eviction_by_any_key(asked: dict[str, Any], left: bool) -> None:
    """Whichever key names the user, the user is gone under all of them; somebody else's leaves it alone."""
    worker = Worker()
    async with client_of(worker) as client:
        await worker.cache.cache_user(USER)
        answer = await client.post("/evict", json=asked)
        told = await answer.json()
        found = [
            await worker.cache.get_user_by_id(42),
            await worker.cache.get_user_by_email("ada@example.com"),
            await worker.cache.get_user_by_username("ada"),
            await worker.cache.get_user_by_phone("+49151"),
        ]
        stats = await (await client.get("/stats")).json()

    assert 200 == answer.status
    assert [left] * 4 == [one is not None for one in found]
    assert ("all" in asked, 0 if left else 1) == (told["evicted"]["everything"], told["evicted"]["entries"])
    assert (1, int("all" in asked)) == (stats["invalidations"], stats["epochs_raised"])


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"id": 42}, ["42"]),
        ({"id": "ada@example.com"}, ["(hidden)"]),
        ({"id": "+49151"}, ["(hidden)"]),
        ({"email": "ada@example.com"}, []),
        ({"username": "ada"}, []),
        ({"phone": "+49151"}, []),
        ({"all": True}, []),
    ],
    ids=str,
)
async def test_an_eviction_is_told_of_by_id_alone(asked: dict[str, Any], shown: list[str]) -> None:
    """What else leads to a user is personal, and so is an id that is an address or a number to call."""
    async with client_of(Worker()) as client:
        await client.post("/evict", json=asked)
        told = await (await client.get("/stats")).json()

    assert [("operator", shown)] == [(one["cause"], one["ids"]) for one in told["recent_evictions"]]


def test_a_chosen_mode_holds_until_the_settings_ask_for_another(tmp_path: Path) -> None:
    """Over a restart of the worker, and not over a change of `MODE`; a note that can't be read is none."""
    for note in (Note(), Note(tmp_path / "mode")):
        assert "serve" == Modes(Rollout(), note).told["mode"]
        Modes(Rollout(), note).switch({"mode": "off"})
        assert {"mode": "off", "configured": "serve"} == Modes(Rollout(), note).told
        assert "shadow" == Modes(Rollout(Mode.SHADOW), note).told["mode"]
    for text in ("serve of", "serve", "", "shadow off", "\u00fc"):
        (tmp_path / "mode").write_text(text, encoding="utf-8")
        assert "serve" == Modes(Rollout(), Note(tmp_path / "mode")).told["mode"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"id=42", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b"[42]", 'give exactly one of id, email, username, phone, or "all": true'),
        (b"{}", 'give exactly one of id, email, username, phone, or "all": true'),
        (b'{"id": 1, "email": "a"}', 'give exactly one of id, email, username, phone, or "all": true'),
        (b'{"name": "a"}', 'unknown key; give exactly one of id, email, username, phone, or "all": true'),
        (b'{"all": false}', '"all" takes the value true'),
        (b'{"all": "yes"}', '"all" takes the value true'),
        (b'{"id": true}', '"id" takes a string or a whole number'),
        (b'{"id": 4.2}', '"id" takes a string or a whole number'),
        (b'{"id": null}', '"id" takes a string or a whole number'),
        (b'{"email": ["a"]}', '"email" takes a string or a whole number'),
        (b'{"email": ""}', "that can't be a user's email: empty, longer than 256 characters, or unprintable"),
    ],
)
async def test_an_eviction_that_is_not_understood_evicts_nobody(body: bytes, sentence: str) -> None:
    """400 with a sentence that does not repeat what was sent, and the user is still there."""
    worker = Worker()
    async with client_of(worker) as client:
        await worker.cache.cache_user(USER)
        answer = await client.post("/evict", data=body, headers={"Content-Type": "application/json"})
        told = await answer.json()
        kept = await worker.cache.get_user_by_id(42)

    assert (400, "application/problem+json", sentence) == (answer.status, answer.content_type, told["detail"])
    assert kept is not None
    assert 0 == worker.telemetry.invalidations


async def test_a_web_page_can_not_evict() -> None:
    """What a form or a script of some page can send without asking (text/plain, no type) is refused."""
    worker = Worker()
    async with client_of(worker) as client:
        await worker.cache.cache_user(USER)
        plain = await client.post("/evict", data=b'{"all": true}', headers={"Content-Type": "text/plain"})
        form = await client.post("/evict", data={"all": "true"})
        read = await client.get("/evict")
        kept = await worker.cache.get_user_by_id(42)

    assert (415, 415, 405) == (plain.status, form.status, read.status)
    assert kept is not None


async def test_an_eviction_that_redis_did_not_get_fails_loudly() -> None:
    """503 with what was done here and what may still be served elsewhere."""
    worker = Worker()
    worker.store.delivers = False
    async with client_of(worker) as client:
        await worker.cache.cache_user(USER)
        answer = await client.post("/evict", json={"id": 42})
        told = await answer.json()

    assert (503, 1) == (answer.status, told["evicted"]["entries"])
    assert told["error"].startswith("Redis can't be reached")


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_the_first_worker_speaks_for_all(tmp_path: Path, token: str | None) -> None:
    """Counters are added up and an eviction reaches each worker's memory, with and without a token."""
    path = tmp_path / "1.sock"
    first, second = Worker([str(path)], token), Worker(token=token)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(listening(second, path))
        client = await stack.enter_async_context(client_of(first))
        await second.cache.cache_user(USER)
        first.telemetry.observe(hit())
        second.telemetry.observe(hit())
        stats = await (await client.get("/stats", headers=headers)).json()
        health = await (await client.get("/health", headers=headers)).json()
        answer = await client.post("/evict", json={"id": 42}, headers=headers)
        gone = await second.cache.get_user_by_id(42)

    assert (2, 100.0, 2, {"memory": 2}) == tuple(
        stats[name] for name in ("hits", "hit_rate_percent", "workers", "tiers")
    )
    assert (2, 200, None) == (health["stats"]["hits"], answer.status, gone)


async def test_a_silent_worker_is_told_of_but_does_not_hide_the_others(tmp_path: Path) -> None:
    """Its figures are missing; an eviction that it may not know of is a failure."""
    first = Worker([str(tmp_path / "nobody.sock")])
    async with client_of(first) as client:
        stats = await (await client.get("/stats")).json()
        answer = await client.post("/evict", json={"id": 42})
        told = await answer.json()

    assert (1, 503) == (stats["workers"], answer.status)
    assert "a worker of this process did not answer" in told["error"]


async def test_workers_are_told_even_where_redis_is_not(tmp_path: Path) -> None:
    """Redis is gone: the memories within reach are dropped all the same, and it is still a failure."""
    path = tmp_path / "1.sock"
    first, second = Worker([str(path)]), Worker()
    first.store.delivers = second.store.delivers = False
    async with listening(second, path), client_of(first) as client:
        await second.cache.cache_user(USER)
        answer = await client.post("/evict", json={"id": 42})
        gone = await second.cache.get_user_by_id(42)
        told = await answer.json()

    assert (503, None) == (answer.status, gone)
    assert told["error"].startswith("Redis can't be reached")


def test_rates_are_made_again_and_not_added() -> None:
    """What is a rate, a time or shared by all workers is not a sum."""
    one = {
        "hits": 3,
        "misses": 1,
        "hit_rate_percent": 75.0,
        "uptime_seconds": 9,
        "views": {"users": {"hits": 3}},
        "checks": {"truth": {"r": {"agree": 990}}},
    }
    two = {
        "hits": 0,
        "misses": 4,
        "hit_rate_percent": 0.0,
        "uptime_seconds": 2,
        "views": {"users": {"misses": 4}},
        "checks": {"truth": {"r": {"disagree": 10}}},
    }

    assert {
        "hits": 3,
        "misses": 5,
        "hit_rate_percent": 37.5,
        "uptime_seconds": 9,
        "views": {"users": {"hits": 3, "misses": 4}},
        "checks": {"truth": {"r": {"agree": 990, "disagree": 10}}},
        "agreement": {"truth": {"r": {"compared": 1000, "percent": 99.0, "nines": 2.0}}},
        "workers": 2,
    } == merged([one, two])


GUARDED = [("GET", "/health"), ("GET", "/stats"), ("GET", "/explain?url=/users/1"), ("POST", "/evict")]
OPEN = {"/healthz", "/readyz", "/metrics", *PAGE}


async def test_what_is_not_open_is_guarded() -> None:
    """Each route that there is, whoever adds one: by the token, or on loopback against web pages."""
    asked = 0
    for token, headers, status in ((TOKEN, {}, 401), (None, {"Origin": "https://evil.example"}, 403)):
        worker = Worker(token=token)
        async with client_of(worker) as client:
            routes = [(one.method, one.resource) for one in worker.admin.app().router.routes()]
            for method, resource in routes:
                path = "" if resource is None else resource.canonical
                guarded = status if path not in OPEN else 200
                async with client.request(method, path, json={"mode": "off"}, headers=headers) as answer:
                    assert guarded == answer.status, (method, path)
                asked += guarded != 200
            assert "serve" == worker.admin.duties.modes.told["mode"]
    # HEAD comes with each GET.
    assert 2 * len({"health", "stats", "explain", "mode", "events"}) * 2 + 2 * 2 == asked


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "given", [None, "Bearer", "Bearer ", f"bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer ü"], ids=str
)
async def test_only_the_token_opens_what_is_guarded(method: str, path: str, given: str | None) -> None:
    """Anything but the exact token: 401, and what was asked for does not happen."""
    worker = Worker(token=TOKEN)
    async with client_of(worker) as client:
        await worker.cache.cache_user(USER)
        headers = {} if given is None else {"Authorization": given}
        answer = await client.request(method, path, json={"all": True}, headers=headers)
        kept = await worker.cache.get_user_by_id(42)

    assert (401, "application/problem+json") == (answer.status, answer.content_type)
    assert kept is not None
    assert [] == worker.explained


async def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes says nothing of how much was guessed."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return True

    monkeypatch.setattr("proxy.admin.api.hmac.compare_digest", compare)
    async with client_of(Worker(token=TOKEN)) as client:
        assert 200 == (await client.get("/stats", headers={"Authorization": "Bearer guess"})).status

    assert [(b"Bearer guess", f"Bearer {TOKEN}".encode())] == compared


async def test_the_token_opens_and_health_checks_need_none() -> None:
    """Kubernetes knows no token; whoever has it may do everything."""
    async with client_of(Worker(token=TOKEN)) as client:
        probes = [(await client.get(path)).status for path in ("/healthz", "/readyz")]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        opened = [
            (
                await client.request(
                    method, path, json={"all": True} if method == "POST" else None, headers=headers
                )
            ).status
            for method, path in GUARDED
        ]

    assert ([200, 200], [200] * 4) == (probes, opened)


async def test_explain_gets_the_request_as_it_was_written() -> None:
    """Method in capitals, the URL with its query untouched, and each header line."""
    worker = Worker()
    question = {"method": "get", "url": "/users?ids=1,2&x=%2F"}
    async with client_of(worker) as client:
        params = [*question.items(), ("header", "X-A: 1"), ("header", "X-A:2")]
        answer = await client.get("/explain", params=params)
        told = await answer.json()
        await client.get("/explain", params={"url": "/x"})

    asked, default = worker.explained
    assert (200, {"would_be": "HIT"}) == (answer.status, told)
    assert ("GET", "/users?ids=1,2&x=%2F", ["1", "2"]) == (
        asked.method,
        asked.target,
        asked.headers.get_all("x-a"),
    )
    assert ("GET", "/x", 0) == (default.method, default.target, len(default.headers))


@pytest.mark.parametrize(
    "question",
    ["", "url=", "url=users/1", "url=http://h/users/1", "url=/x&header=nothing", "url=/x&header=:v"],
)
async def test_explain_of_something_else_is_a_mistake(question: str) -> None:
    """400, and nobody is asked."""
    worker = Worker()
    async with client_of(worker) as client:
        answer = await client.get(f"/explain?{question}")

    assert (400, "application/problem+json", []) == (answer.status, answer.content_type, worker.explained)


@pytest.mark.parametrize(
    ("host", "token", "asked"),
    [
        ("127.0.0.1", None, None),
        ("::1", None, None),
        ("localhost", None, None),
        ("127.0.0.1", TOKEN, None),
        ("0.0.0.0", TOKEN, TOKEN),
        ("pod.internal", TOKEN, TOKEN),
    ],
)
def test_loopback_asks_for_no_token(host: str, token: str | None, asked: str | None) -> None:
    """Only this machine can reach it."""
    assert asked == guard(host, token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pod.internal", ""])
def test_an_open_socket_needs_a_token(host: str) -> None:
    """Without one the proxy does not start."""
    with pytest.raises(ConfigError):
        guard(host, None)


async def test_a_huge_question_is_refused() -> None:
    """A body beyond 64 KiB is not read to its end."""
    async with client_of(Worker()) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/evict", data=b" " * 70_000, headers=headers)

    assert 413 == answer.status


async def test_metrics_are_what_prometheus_reads() -> None:
    """Counters by bounded labels, in the text format, open without the token."""
    async with bench() as b:
        await b.get("/users/5")
        await b.get("/users/5")
        admin = TestServer(b.app.admin)
        async with TestClient(admin) as client:
            answer = await client.get("/metrics")
            text = await answer.text()

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'user_cache_proxy_lookups_total{result="hits",view="users"} 1.0' in text.replace(
        '{view="users",result="hits"}', '{result="hits",view="users"}'
    )
    assert 'user_cache_proxy_responses_total{x_cache="HIT"} 1.0' in text
    assert "user_cache_proxy_invalidations_total 0.0" in text


async def test_openmetrics_are_given_to_whom_asks_for_them() -> None:
    """In the format that ends with a mark, and parses."""
    async with bench() as b, TestClient(TestServer(b.app.admin)) as client:
        answer = await client.get(
            "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        text = await answer.text()

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("\n# EOF\n")
    assert {"counter", "gauge", "histogram"} == {one.type for one in text_string_to_metric_families(text)}


async def test_what_clients_send_makes_no_series() -> None:
    """Methods, paths, queries, keys, tokens and hosts that nobody has seen: the labels stay as they are."""
    found = []
    async with bench() as b, TestClient(TestServer(b.app.admin)) as client:
        for seed in ("a", "b"):
            for n in range(1, 4):
                name = f"{seed}{n}"
                odd = {"Host": f"{name}.example", "X-Request-Id": name, "Cookie": name}
                paths = (name, f"users/{n}", f"users/{name}", f"users/{n}?{name}=1", f"users?ids={n},9")
                for method in ("GET", "PUT", f"M{name.upper()}"):
                    for path in paths:
                        await b.ask(method, f"/{path}", headers=odd, token=name)
            text = await (await client.get("/metrics")).text()
            found.append(set(re.findall(r"(?m)^(?!.*_bucket)(\w\S*) ", text)))

    assert found[0] == found[1]
    assert len(found[0]) > 60


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9090"}, 200),
        ({"Host": "[::1]:9090", "Origin": "http://[::1]:9090", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "127.0.0.1:9090", "Origin": "http://127.0.0.1:9090"}, 200),
        ({"Host": "evil.example:9090"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "evillocalhost"}, 403),
        ({"Host": "evil.localhost:9090"}, 403),
        ({"Host": "LocalHost:9090", "Origin": "http://localhost:9090"}, 200),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "127.0.0.1:9090", "Origin": "http://127.0.0.1:8080"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_a_web_page_in_the_operators_browser_gets_nothing(headers: dict[str, str], status: int) -> None:
    """Neither by DNS rebinding nor from another origin: not the counters, and above all no eviction."""
    async with client_of(Worker()) as client:
        for method, path in (("POST", "/evict"), ("GET", "/stats"), ("GET", "/explain?url=/users/1")):
            sent = headers | ({"Content-Type": "application/json"} if method == "POST" else {})
            data = b'{"all": true}' if method == "POST" else None
            async with client.request(method, path, headers=sent, data=data) as answer:
                assert status == answer.status, path
        async with client.get("/healthz", headers=headers) as answer:
            assert 200 == answer.status


async def test_a_token_is_proof_enough() -> None:
    """No page has it, and a gateway in front may ask under any name."""
    async with client_of(Worker(token=TOKEN)) as client:
        sent = {"Host": "proxy.example", "Authorization": f"Bearer {TOKEN}"}
        async with client.get("/stats", headers=sent) as answer:
            assert 200 == answer.status
