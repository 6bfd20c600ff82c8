"""A client that tries out ids, addresses and numbers, and what its look-ups leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.core.edgesettings import EdgeSettings
from proxy.core.headers import Headers
from proxy.core.misses import Misses, client_of
from proxy.core.model import Request
from tests.valkey import Valkey
from tests.walk import Bench, bench

ROUTES = """version: 1
user: {keys: {username: {path: username}}}
views: {users: {ttl: 60s, negative_ttl: 60s}}
limits: {not_found: 3%s}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users/{username}", lookup: {by: username, view: users}, access: anyone}
"""
REFUSE = ROUTES % ", over_not_found: refuse"


async def misses(b: Bench, first: int, count: int, client: str = "192.0.2.1") -> list[tuple[int, str, str]]:
    """Status, X-Cache and reason of look-ups of so many users who are not there."""
    found = []
    for number in range(first, first + count):
        answer = await b.get(f"/users/nobody{number}", headers={"X-Forwarded-For": client})
        found.append((answer.status, answer.x_cache, answer.cache_status.partition("detail=")[2]))
    return found


async def test_beyond_the_budget_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream is asked, as without the proxy; neither memory nor Redis has more to hold, and who is there is
    kept: others may be behind that address."""
    counted: list[str] = []
    count = Misses.count

    def counting(self: Misses, client: str, budget: int, now: float) -> None:
        counted.append(client)
        count(self, client, budget, now)

    monkeypatch.setattr(Misses, "count", counting)
    with Valkey() as valkey:
        async with bench(routes=ROUTES % "", tmp_path=tmp_path, redis=valkey.url) as b:
            # Whoever is there costs nothing.
            for user in range(1, 6):
                await b.get(f"/users/{user}", headers={"X-Forwarded-For": "192.0.2.1"})
            within = await misses(b, 0, 3)
            held = len(valkey.ask("KEYS", "user:username:*"))
            beyond = await misses(b, 100, 5)

            assert [(404, "MISS", "absent")] * 3 == within
            assert [(404, "MISS", "too-many-misses")] * 5 == beyond
            assert (8, 8) == (held, len(valkey.ask("KEYS", "user:username:*")))
            # What is known is still answered, and so is whoever is there.
            assert "HIT" == (await misses(b, 0, 1))[0][1]
            for x_cache in ("MISS", "HIT"):
                there = await b.get("/users/6", headers={"X-Forwarded-For": "192.0.2.1"})
                assert (200, x_cache) == (there.status, there.x_cache)
            assert 5 == b.app.telemetry.stats()["not_stored"]["too-many-misses"]
            # Another client has a budget of its own.
            assert [(404, "MISS", "absent")] * 3 == await misses(b, 200, 3, client="192.0.2.2")
    # What was beyond it took nothing of the next minute's.
    assert ["192.0.2.1"] * 3 + ["192.0.2.2"] * 3 == counted


async def test_beyond_the_budget_it_may_be_refused(tmp_path: Path) -> None:
    """429 costs upstream nothing, and says when to come again. Hits are not refused."""
    async with bench(routes=REFUSE, tmp_path=tmp_path) as b:
        await b.get("/users/7")
        await misses(b, 0, 3, client="2001:db8::1")
        before = await b.calls()
        # The same subscriber, with the next of 2^64 addresses.
        refused = await b.get("/users/nobody9", headers={"X-Forwarded-For": "2001:db8::2"})
        hit = await b.get("/users/7", headers={"X-Forwarded-For": "2001:db8::2"})

        assert (429, "20") == (refused.status, refused.headers["Retry-After"])
        assert "urn:user-cache-proxy:problem:too-many-misses" == refused.json()["type"]
        assert (200, "HIT") == (hit.status, hit.x_cache)
        assert before == await b.calls()


async def test_none_is_no_limit(tmp_path: Path) -> None:
    """`not_found: 0`."""
    async with bench(routes=REFUSE.replace("not_found: 3", "not_found: 0"), tmp_path=tmp_path) as b:
        assert [(404, "MISS", "absent")] * 9 == await misses(b, 0, 9)


def test_a_budget_fills_again() -> None:
    """With time, and never beyond what it was."""
    held = Misses(2)
    for _ in range(3):
        assert 0.0 == held.wait("a", 3, 0.0)
        held.count("a", 3, 0.0)
    assert 20.0 == held.wait("a", 3, 0.0)
    assert 0.0 == held.wait("a", 3, 20.0)
    held.count("b", 3, 0.0)
    held.count("c", 3, 0.0)
    assert (0.0, 0.0) == (held.wait("a", 3, 0.0), held.wait("b", 3, 10_000.0))
    for _ in range(3):
        held.count("b", 3, 10_000.0)
    assert 20.0 == held.wait("b", 3, 10_000.0)
    # A clock that is set back takes nothing away.
    assert 0.0 == held.wait("c", 3, -50.0)


@pytest.mark.parametrize(
    ("peer", "lines", "trusted", "client"),
    [
        ("192.0.2.9", "", False, "192.0.2.9"),
        ("192.0.2.9", "198.51.100.1", False, "192.0.2.9"),
        ("10.0.0.1", "198.51.100.1", True, "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1, 10.0.0.2", True, "198.51.100.1"),
        ("10.0.0.1", "10.0.0.7, 10.0.0.2", True, "10.0.0.7"),
        ("10.0.0.1", "198.51.100.1, garbage", True, "10.0.0.1"),
        ("10.0.0.1", "", True, "10.0.0.1"),
        (None, "", True, ""),
        ("fe80::1%eth0", "", False, "fe80::/64"),
    ],
)
def test_who_the_client_is(peer: str | None, lines: str, trusted: bool, client: str) -> None:
    """The last address that no trusted peer has; what an untrusted one says of others is not looked at."""
    raw: Any = ((b"X-Forwarded-For", lines.encode()),) if lines else ()
    request = Request("GET", "/", Headers(raw), peer=peer, trusted=trusted)
    assert client == client_of(request, EdgeSettings())
