"""Hashed keys and sealed answers through the whole proxy, over a real Valkey: no person is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.app import compose
from proxy.config import load
from proxy.core.credentials import fingerprint
from proxy.core.headers import Headers
from tests.valkey import Valkey
from tests.walk import bench, token_for

PACKAGED = Path(__file__).resolve().parents[2] / "proxy" / "routes.yaml"
KEYS = {"CACHE_HASH_KEY": "0a" * 32, "CACHE_ENCRYPT_KEY": "0b" * 32}
BOTH = PACKAGED.read_text().replace("\nroutes:\n", "\nhash_keys: true\nencrypt: true\n\nroutes:\n")


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A server of its own, whose every key is looked at."""
    with Valkey() as valkey:
        yield valkey


def dump(server: Valkey) -> bytes:
    """Every key with all that it holds."""
    found: list[bytes] = []
    for key in server.ask("KEYS", "*"):
        kind = server.ask("TYPE", key)
        read: Any = server.ask("HGETALL", key) if kind == b"hash" else server.ask("GET", key)
        found += [
            key,
            *([part for pair in read.items() for part in pair] if isinstance(read, dict) else [read]),
        ]
    return b"\n".join(found)


async def person(at: Any, user_id: int) -> list[bytes]:
    """What the service knows of a user, and Redis must not show."""
    user = (await at.ask("GET", f"/users/{user_id}", base=at.stub)).json()
    told = [str(user[name]).encode() for name in ("email", "username", "phone", "display_name")]
    return [text for text in told if text]


async def test_nothing_of_a_person_is_in_redis(server: Valkey, tmp_path: Path) -> None:
    """Look-ups by each key, a batch, an introspection, "nobody", writes: every key and value is searched."""
    async with bench(routes=BOTH, tmp_path=tmp_path, redis=server.url, env=KEYS) as at:
        secrets = [text for user_id in (1, 2, 3) for text in await person(at, user_id)]
        user = (await at.get("/users/1")).json()
        token = token_for(1)
        for _ in range(2):
            for target in (
                "/users/1",
                "/users?ids=1,2,3",
                f"/users/by-email/{user['email']}",
                f"/users?phone={user['phone'].replace('+', '%2B')}",
                f"/users/{user['username']}",
                f"/profiles/{user['username']}",
                "/auth/me",
                "/auth/introspect",
                "/users/by-email/nobody@canary.example",
                "/users/nobody-canary",
            ):
                await at.get(target, token=token)
        stored = dump(server)
        assert b"user:id:1" in stored
        assert b"user:email:" in stored
        assert b"!n" in stored
        hit = await at.get(f"/users/by-email/{user['email']}", token=token)
        assert ("HIT", user["email"]) == (hit.x_cache, hit.json()["email"])
        new = {"display_name": "Canary", "email": "new@canary.example"}
        assert 200 == (await at.ask("PUT", "/profile", token=token, json=new)).status
        stored += dump(server)
        assert [] == [text for text in [*secrets, b"canary", b"Canary", token.encode()] if text in stored]


async def test_a_user_is_evicted_by_the_plain_value(server: Valkey, tmp_path: Path) -> None:
    """Operators and embedders need not know the hash."""
    async with bench(routes=BOTH, tmp_path=tmp_path, redis=server.url, env=KEYS) as at:
        user = (await at.get("/users/1")).json()
        assert "HIT" == (await at.get("/users/1")).x_cache
        evicted = await at.app.cache.invalidate_user(email=user["email"].upper())
        assert (1, 3) == (evicted.entries, evicted.aliases)
        assert "MISS" == (await at.get("/users/1")).x_cache


async def test_a_value_put_elsewhere_is_a_miss(server: Valkey, tmp_path: Path) -> None:
    """Another user's sealed answer, an older key's, a plain one: unreadable, deleted, counted."""
    async with bench(routes=BOTH, tmp_path=tmp_path, redis=server.url, env=KEYS) as at:
        for user_id in (1, 2):
            await at.get(f"/users/{user_id}")
        field = server.field("user:id:2", "v:users")
        other = server.ask("HGET", "user:id:2", field)
        for planted in (other, b"\x96\x01", b"{}"):
            server.ask("HSET", "user:id:1", field, planted)
            await at.app.cache.store.memory.close()  # type: ignore[attr-defined]
            answer = await at.get("/users/1")
            assert ("MISS", 1) == (answer.x_cache, answer.json()["id"])
            assert planted != server.ask("HGET", "user:id:1", field)
        assert 3 == at.app.cache.store.redis.stats.corrupt  # type: ignore[attr-defined]


async def test_replicas_with_another_first_key_hear_of_a_create(server: Valkey, tmp_path: Path) -> None:
    """In the middle of a change of keys, "not found" does not outlive the write that gives the key away."""
    async with bench(routes=BOTH, tmp_path=tmp_path, redis=server.url, env={
        **KEYS, "CACHE_HASH_KEY": f"plain,{'0a' * 32}"
    }) as at, AsyncExitStack() as stack:  # fmt: skip
        # The reader's own state must outlive the write, or the service is asked anyway.
        reader = token_for(2)
        await at.get("/users/2")
        target = "/users/by-email/new@canary.example"
        assert 404 == (await at.get(target, token=reader)).status
        assert "HIT" == (await at.get(target, token=reader)).x_cache
        environ = {
            **KEYS,
            "CACHE_HASH_KEY": f"{'0a' * 32},plain",
            "JWT_SECRET": "a-secret-of-tests-that-is-long-enough-0",
            "ROUTES_FILE": str(tmp_path / "routes.yaml"),
            "REDIS_URL": server.url,
            "UPSTREAM_URL": at.stub,
            "ADMIN_LISTEN": "127.0.0.1:1",
        }
        other = await stack.enter_async_context(compose(load(environ)))
        listening = await asyncio.get_running_loop().create_server(other.server, "127.0.0.1", 0)
        stack.push_async_callback(other.server.shutdown, 1.0)
        stack.callback(listening.close)
        base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        new = {"email": "new@canary.example"}
        written = await at.ask("PUT", "/profile", token=token_for(1), json=new, base=base)
        assert 200 == written.status
        answer = await at.get(target, token=reader)
        assert (200, 1) == (answer.status, answer.json()["id"])


async def test_a_callers_own_copy_is_known_by_an_hmac(tmp_path: Path) -> None:
    """`hash_keys`: a password in a Basic line can't be guessed from what Redis holds of it."""
    routes = """version: 1
views: {users: {ttl: 60s}}
hash_keys: true
routes: [{match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: caller}]
"""
    basic = "Basic dXNlcjpwYXNzd29yZA=="
    plain = fingerprint(Headers([(b"Authorization", basic.encode())]))
    with Valkey() as valkey:
        async with bench(redis=valkey.url, routes=routes, tmp_path=tmp_path, env=KEYS) as b:
            seen = [(await b.get("/users/5", headers={"Authorization": basic})).x_cache for _ in range(2)]
        held = b" ".join(valkey.ask("HKEYS", "user:id:5"))
    assert ["MISS", "HIT"] == seen
    assert b"v:users#" in held
    assert plain.encode() not in held
