"""Opaque tokens: upstream's answer per token, kept with the user it names, on every replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from proxy.core.bearer import token_hash
from proxy.core.headers import Headers
from proxy.core.model import Request
from tests.http.test_fastpath import Client, bearer, client, counting, get, warm
from tests.http.tokenservice import TokenService
from tests.introspecting import basic, post
from tests.valkey import Valkey
from tests.walk import Bench, bench

ROUTES = """version: 1
user: {keys: {email: {path: email, ignore_case: true}}}
views: {users: {ttl: 60s}, introspection: {ttl: 60s, negative_ttl: 30s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}}
  - {match: "GET /auth/introspect", introspect: {answer: upstream, view: introspection}}
  - {match: "POST /auth/logout", write: {revoke: token}}
"""


class Service(TokenService):
    """A service whose tokens are `t-{user}-{n}`; what it says of them is the test's to change."""

    def __init__(self) -> None:
        super().__init__()
        self.more: dict[str, Any] = {}
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()

    def told(self, token: str) -> dict[str, Any] | None:
        """Of its own tokens, and what the test adds."""
        return {"active": True, "sub": token.split("-")[1], **self.more} if token.startswith("t-") else None

    async def introspect(self, request: web.Request) -> web.Response:
        """Decided when it came in; answered when the gate opens."""
        answer = await super().introspect(request)
        if self.gate is not None and answer.status == 200:
            self.waiting.set()
            await self.gate.wait()
        return answer


class Fleet:
    """Two replicas on one Valkey, in front of one service."""

    def __init__(self, service: Service, valkey: Valkey, replicas: list[Bench]) -> None:
        self.service = service
        self.valkey = valkey
        self.one, self.two = replicas

    async def seen(self, b: Bench, token: str) -> tuple[int, str]:
        """Status and X-Cache of the introspection."""
        answer = await b.get("/auth/introspect", token=token)
        return answer.status, answer.x_cache

    async def warm(self, token: str) -> None:
        """Both replicas have the answer in memory."""
        assert (200, "MISS") == await self.seen(self.one, token)
        for b in (self.one, self.two, self.two):
            assert (200, "HIT") == await self.seen(b, token)


@pytest_asyncio.fixture(name="f")
async def _f(tmp_path: Path) -> AsyncIterator[Fleet]:
    service = Service()
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        replicas = []
        for n in range(2):
            path = tmp_path / str(n)
            path.mkdir()
            started = bench(
                redis=valkey.url, lease=30.0, upstream=service.app(), routes=ROUTES, tmp_path=path
            )
            replicas.append(await stack.enter_async_context(started))
        yield Fleet(service, valkey, replicas)


async def test_an_answer_is_kept_per_token(f: Fleet) -> None:
    """One call a token over all replicas; Redis has the hash of the token, and no token."""
    await f.warm("t-5-a")
    assert (200, "MISS") == await f.seen(f.two, "t-5-b")

    assert 2 == f.service.asked
    keys = f.valkey.ask("KEYS", "*")
    assert 2 == sum(key.startswith(b"user:token:") for key in keys)
    held = b" ".join([*keys, *f.valkey.ask("HKEYS", "user:id:5"), *f.valkey.ask("HVALS", "user:id:5")])
    assert b"t-5-a" not in held
    assert b"user:id:5" in keys


async def test_a_write_of_the_user_takes_the_answers_along(f: Fleet) -> None:
    """On every replica; another user's stay."""
    await f.warm("t-5-a")
    await f.warm("t-6-a")
    await f.one.ask("PATCH", "/users/5", json={"is_active": False})

    assert (200, "MISS") == await f.seen(f.two, "t-5-a")
    assert (200, "HIT") == await f.seen(f.two, "t-6-a")


async def test_a_logout_drops_the_answer_everywhere_first(f: Fleet) -> None:
    """After the logout was answered no replica gives the answer again."""
    for n in range(4):
        token = f"t-5-{n}"
        await f.warm(token)
        assert 204 == (await (f.one, f.two)[n % 2].ask("POST", "/auth/logout", token=token)).status
        assert [401, 401] == [(await f.seen(b, token))[0] for b in (f.one, f.two)]


async def test_a_form_may_name_the_token(f: Fleet) -> None:
    """RFC 7009: the client that asks is somebody else."""
    await f.warm("t-5-a")
    f.service.ended.add("t-5-a")
    answer = await post(f.one, "/auth/logout", "token=t-5-a", basic("app"))

    assert 204 == answer.status
    assert [401, 401] == [(await f.seen(b, "t-5-a"))[0] for b in (f.one, f.two)]


async def test_a_refused_logout_drops_nothing(f: Fleet) -> None:
    """4xx: nothing has changed."""
    await f.warm("t-5-a")
    f.service.logout = 403
    await f.one.ask("POST", "/auth/logout", token="t-5-a")
    assert (200, "HIT") == await f.seen(f.two, "t-5-a")


async def test_an_answer_from_before_a_logout_is_not_stored(f: Fleet) -> None:
    """Nobody knew whose the token was, so no user could be fenced: the fill under way is refused."""
    f.service.gate = asyncio.Event()
    under_way = asyncio.ensure_future(f.seen(f.one, "t-5-a"))
    await asyncio.wait_for(f.service.waiting.wait(), 5)
    await f.two.ask("POST", "/auth/logout", token="t-5-a")
    f.service.gate.set()
    assert 200 == (await under_way)[0]
    f.service.gate = None

    assert [401, 401] == [(await f.seen(b, "t-5-a"))[0] for b in (f.one, f.two)]


async def test_a_logout_ends_nobody_elses_token(f: Fleet) -> None:
    """Nor does one without a token, or with one that nobody knows."""
    await f.warm("t-5-a")
    await f.one.ask("POST", "/auth/logout", token="t-9-x")
    await f.one.ask("POST", "/auth/logout", headers={"Authorization": "Basic eA=="})
    assert (200, "HIT") == await f.seen(f.two, "t-5-a")


async def test_bad_tokens_are_not_remembered(f: Fleet) -> None:
    """Neither 401 nor `active: false`: upstream is asked each time."""
    assert [401, 401] == [(await f.seen(f.one, "garbage"))[0] for _ in range(2)]
    f.service.more = {"active": False}
    assert [(200, "MISS")] * 2 == [await f.seen(f.one, "t-5-a") for _ in range(2)]
    assert 4 == f.service.asked


async def test_an_answer_ends_with_its_exp(f: Fleet) -> None:
    """RFC 7662: `exp` in the answer bounds the copy; one that is over or no time is not kept."""
    f.service.more = {"exp": int(time.time()) + 20}
    answer = await f.one.get("/auth/introspect", token="t-5-a")
    assert 15 <= int(answer.cache_status.split("ttl=")[1].split(";")[0]) <= 20
    for n, exp in enumerate((1, "soon", True)):
        f.service.more = {"exp": exp}
        assert [(200, "MISS")] * 2 == [await f.seen(f.one, f"t-6-{n}") for _ in range(2)]


async def test_an_answer_that_names_two_users_is_not_kept(f: Fleet) -> None:
    """A write would reach it under one of the names only; nor is one kept that names nobody."""
    f.service.more = {"id": 7}
    assert [(200, "MISS")] * 2 == [await f.seen(f.one, "t-5-a") for _ in range(2)]
    f.service.more = {"id": 5}
    assert [(200, "MISS"), (200, "HIT")] == [await f.seen(f.one, "t-5-b") for _ in range(2)]
    f.service.more = {"sub": None}
    assert [(200, "MISS")] * 2 == [await f.seen(f.one, "t-5-c") for _ in range(2)]


async def test_without_a_good_header_upstream_answers(f: Fleet) -> None:
    """Two tokens in one request might be anybody's."""
    answer = await f.one.get("/auth/introspect")
    assert (401, "BYPASS") == (answer.status, answer.x_cache)
    odd = await f.one.get("/auth/introspect", headers={"Authorization": "Bearer a b"})
    assert (401, "BYPASS", "token-malformed") == (odd.status, odd.x_cache, odd.cache_status[-15:])


async def test_what_would_become_of_an_opaque_token(f: Fleet) -> None:
    """`explain` names the key by the token's hash, and says what is missing."""
    await f.warm("t-5-a")
    told = []
    for line in ((b"Authorization", b"Bearer t-5-a"),), ((b"Authorization", b"Bearer t-9-z"),), ():
        explained = await f.one.app.operators.duties.explain(
            Request("GET", "/auth/introspect", Headers(line))
        )
        told.append((explained["would_be"], explained["reason"], "t-5-a" in str(explained)))

    assert [("HIT", None, False), ("MISS", "absent", False), ("BYPASS", "token-missing", False)] == told


async def raw(f: Fleet, replica: Bench, *lines: str) -> tuple[Client, bytes, AsyncExitStack]:
    """A connection on which the answer to this head is ready, and the head."""
    stack = AsyncExitStack()
    c = await stack.enter_async_context(client(replica))
    head = get("/auth/introspect", *lines)
    await warm(c, head)
    return c, head, stack


async def test_an_answer_is_ready_and_goes_with_its_token(f: Fleet) -> None:
    """Answered without a walk; a logout through one replica ends it on the other before it is answered, and
    leaves another user's."""
    mine, other = "t-5-1", "t-6-1"
    await f.warm(mine)
    await f.warm(other)
    c, head, stack = await raw(f, f.two, bearer(mine))
    d, another, more = await raw(f, f.two, bearer(other))
    async with stack, more:
        async with counting(f.two, 3):
            for _ in range(3):
                assert b'"sub":"5"' in (await c.ask(head)).replace(b" ", b"")
        await f.one.ask("POST", "/auth/logout", token=mine)
        assert (await c.ask(head)).startswith(b"HTTP/1.1 401")
        async with counting(f.two, 1):
            assert b'"sub":"6"' in (await d.ask(another)).replace(b" ", b"")


async def test_a_write_of_the_user_ends_what_is_ready(f: Fleet) -> None:
    """Whoever writes the user, and wherever: upstream is asked about the token again."""
    token = "t-5-1"
    await f.warm(token)
    c, head, stack = await raw(f, f.two, bearer(token))
    async with stack:
        async with counting(f.two, 1):
            await c.ask(head)
        await f.one.ask("PATCH", "/users/5", json={"id": 5, "email": "new@example.com"})
        assert b"X-Cache: MISS" in await c.ask(head)


async def test_a_short_token_is_not_found_from_what_redis_holds(tmp_path: Path) -> None:
    """With hash_keys a token's hash is an HMAC; a logout ends it under the key before as well."""
    token, old, new = "t-5-1", "0a" * 32, "0b" * 32
    service = Service()
    digest = token_hash(token).encode()
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey())

        async def started(name: str, keys: str) -> Bench:
            path = tmp_path / name
            path.mkdir()
            one = bench(
                routes=ROUTES + "hash_keys: true\n",
                tmp_path=path,
                redis=valkey.url,
                env={"CACHE_HASH_KEY": keys},
                upstream=service.app(),
            )
            return await stack.enter_async_context(one)

        before, after = await started("old", old), await started("new", f"{new},{old}")
        # Of this one only the replica with the old key knows whose it is.
        for _ in range(2):
            assert 200 == (await before.get("/auth/introspect", token="t-6-1")).status
        await after.ask("POST", "/auth/logout", token="t-6-1")
        assert 401 == (await before.get("/auth/introspect", token="t-6-1")).status
        for b in (before, before, after, after):
            await b.get("/auth/introspect", token=token)
        assert 4 == service.asked
        held = [repr((key, valkey.ask("TYPE", key))).encode() for key in valkey.ask("KEYS", "user:*")]
        held += [repr(valkey.ask("HKEYS", "user:id:5")).encode()]
        assert not any(digest in one for one in held)
        assert 2 == len(valkey.ask("KEYS", "user:token:*"))
        await after.ask("POST", "/auth/logout", token=token)
        for b in (before, after):
            assert 401 == (await b.get("/auth/introspect", token=token)).status
