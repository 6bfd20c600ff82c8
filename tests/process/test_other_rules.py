"""A replica with stricter rules starts beside one with weaker ones, over the Redis that this one filled."""

from __future__ import annotations

import json
from pathlib import Path

from tests.processes import Proxy, Stub
from tests.valkey import Valkey

ROUTES = """version: 1
user: {keys: {username: {path: username}}, active: is_active%s}
views: {users: {ttl: 300s, negative_ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users/{username}", lookup: {by: username, view: users}, access: anyone}
  - {match: "POST /users", write: {evict: [{id: response.id}]}}
"""
JSON = {"Content-Type": "application/json"}
ALSO = {"CACHE_ENCRYPT_KEY": "0b" * 32}


def test_a_new_secret_is_not_shown_from_an_old_copy(valkey: Valkey, tmp_path: Path) -> None:
    """Not for one request; and while both are at work each has its hits, for a few calls in all."""
    weak, strict = tmp_path / "weak.yaml", tmp_path / "strict.yaml"
    weak.write_text(ROUTES % "")
    strict.write_text(ROUTES % ", secrets: [display_name]" + "encrypt: true\n")
    with (
        Stub.start() as stub,
        Proxy.start(stub.url, valkey.url, ROUTES_FILE=str(weak)) as old,
    ):
        users = [f"/users/{number}" for number in range(1, 6)]
        assert all(b"display_name" in old.get(path).body for path in users)
        with Proxy.start(stub.url, valkey.url, ROUTES_FILE=str(strict), **ALSO) as new:
            first = [new.get(path) for path in users]
            before = stub.get("/__stats").json()["requests"]["total"]
            later = [(old.get(path), new.get(path)) for _ in range(10) for path in users]
            calls = stub.get("/__stats").json()["requests"]["total"] - before
            # The name of somebody who is not there has one place, and neither reads the other.
            absent = [each.get("/users/newbie").status for _ in range(2) for each in (old, new)]
            born = {"email": "n@example.com", "username": "newbie", "password": "password-x"}
            created = old.ask("POST", "/users", JSON, json.dumps(born))
            found = [each.get("/users/newbie").status for each in (new, old)]
        stored = [repr(valkey.ask("HGETALL", f"user:id:{number}")).encode() for number in range(1, 6)]

    assert ([404] * 4, 201, [200] * 2) == (absent, created.status, found)
    assert ["MISS"] * 5 == [answer.x_cache for answer in first]
    assert not any(b"display_name" in answer.body for answer in first)
    assert all(b"display_name" in one.body and b"display_name" not in other.body for one, other in later)
    assert {"HIT"} == {other.x_cache for _, other in later}
    # The old one has its copies in memory, or reads each user once again.
    assert calls <= 5, calls
    assert stored
