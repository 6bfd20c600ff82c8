"""Hits in Redis without a walk, on real sockets and a real server: what they answer, and what they leave."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.core.errors import StoreError
from proxy.core.model import Batch, Ref, Tier
from proxy.store import codec
from proxy.store.glances import TAKEN_IN
from tests.http.test_fastpath import ALICE, Client, bearer, client, edge_of, get, replays
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

_MOVING = re.compile(rb"(Age: |ttl=)[^\r]*")
USERS = range(1, 31)


@asynccontextmanager
async def crowded(valkey: Valkey, **more: Any) -> AsyncIterator[Bench]:
    """A proxy whose memory has room for two of thirty users, all of whom are in Redis."""
    env = {"MEMORY_CACHE_ENTRIES": "2", **more.pop("env", {})}
    async with bench(redis=valkey.url, env=env, lease=30.0, **more) as at:
        await store(at)._feed.proven()
        # One by one: the service has a second for each connection, and shares this process.
        assert {200} == {(await at.get(f"/users/{user}")).status for user in USERS}
        yield at


def store(at: Bench) -> Any:
    """The tiers."""
    return at.app.cache.store


def forms(at: Bench) -> Any:
    """What is known of forms."""
    return replays(at)._forms


def taken(at: Bench) -> int:
    """Hits in Redis without a walk since the last call."""
    return sum(count for outcome, count in replays(at).counted() if outcome.tier is Tier.REDIS)


async def until(true: Callable[[], object]) -> None:
    """Waits for it, with a bound."""
    for _ in range(5000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def rewritten(valkey: Valkey, user: int, **changed: Any) -> None:
    """Another copy of a user, as somebody else may have stored it."""
    entry = codec.decode(valkey.ask("HGET", f"user:id:{user}", place(valkey, user)))
    assert entry is not None
    blob = codec.encode(msgspec.structs.replace(entry, **changed))
    valkey.ask("HSET", f"user:id:{user}", place(valkey, user), blob)


def place(valkey: Valkey, user: int) -> bytes:
    """The field of a user's copy."""
    fields: list[bytes] = valkey.ask("HKEYS", f"user:id:{user}")
    return next(one for one in fields if one.startswith(b"v:users"))


async def crowd_out(c: Client, *users: int) -> None:
    """Walks to others, until those before are not in memory any more."""
    for user in users:
        await c.ask(get(f"/users/{user}", "Cache-Control: max-age=200"))


async def slim(at: Bench, c: Client, target: str, *lines: str) -> bytes:
    """The answer without a walk: the form is known, the copy is not in memory, no look is to be walked."""
    await crowd_out(c, 29, 30)
    if not forms(at)._rights:
        await c.ask(get(target, *lines))
        await crowd_out(c, 29, 30)
    store(at).glances._turn = 0
    taken(at)
    answer = await c.ask(get(target, *lines))
    assert 1 == taken(at), answer
    return answer


async def not_slim(at: Bench, c: Client, head: bytes) -> bytes:
    """The answer of a walk."""
    store(at).glances._turn = 0
    taken(at)
    answer = await c.ask(head)
    assert 0 == taken(at), answer
    return answer


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/users/{id}", ()),
        ("/users/{id}", ("Accept: */*", "X-Request-Id: 1", "traceparent: x")),
        ("/users/by-email/{email}", (bearer(ALICE),)),
        ("/users?phone={phone}", (bearer(ALICE),)),
        ("/users/{username}", ()),
    ],
)
async def test_the_answer_is_the_walks_byte_for_byte(
    valkey: Valkey, target: str, lines: tuple[str, ...]
) -> None:
    """By each key, with and without a token, for every user; but for Age and ttl."""
    async with crowded(valkey, env={"MEMORY_CACHE_ENTRIES": "5"}) as at, client(at) as c:
        users = [(await at.get(f"/users/{user}", base=at.stub)).json() for user in USERS]
        heads = [
            get(target.format(**{**user, "phone": user["phone"].replace("+", "%2B")}), *lines)
            for user in users
        ]
        await at.get("/auth/me", token=ALICE)
        for _ in range(2):
            taken(at)
            fast = [await c.ask(head) for head in heads]
        assert taken(at) > 10
        for head, answer in zip(heads, fast, strict=True):
            forms(at)._rights.clear()
            replays(at).clear()
            walked = await not_slim(at, c, head)
            assert _MOVING.sub(rb"\1", walked) == _MOVING.sub(rb"\1", answer), head


async def test_a_copy_is_opened_where_copies_are_encrypted(valkey: Valkey, tmp_path: Path) -> None:
    """And one that was sealed for another place is none."""
    routes = _ALONE.replace("ACCESS", ", access: anyone") + "encrypt: true\n"
    env = {"CACHE_ENCRYPT_KEY": "0b" * 32}
    async with crowded(valkey, routes=routes, tmp_path=tmp_path, env=env) as at, client(at) as c:
        assert b'"id":1,' in (await slim(at, c, "/users/1")).replace(b" ", b"")
        valkey.ask("HSET", "user:id:1", place(valkey, 1), valkey.ask("HGET", "user:id:2", place(valkey, 2)))
        assert b'"id":1,' in (await not_slim(at, c, get("/users/1"))).replace(b" ", b"")


async def test_it_is_counted_as_a_hit_in_redis(valkey: Valkey) -> None:
    """By kind, route and tier, and as spared; each once."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        before = at.app.telemetry.stats()
        await c.ask(get("/users/2"))
        after = at.app.telemetry.stats()
        assert 1 == after["tiers"]["redis"] - before["tiers"]["redis"]
        assert 1 == after["hits"] - before["hits"]
        assert 1 == after["saved"] - before["saved"]
        assert 1 == after["requests"]["lookup"] - before["requests"]["lookup"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Cache-Control: no-cache",),
        ("Cache-Control: max-age=60",),
        ("Pragma: no-cache",),
        ("Connection: close",),
        ('If-None-Match: "a"',),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",),
        ("X-HTTP-Method-Override: DELETE",),
        ("Upgrade: h2c", "Connection: upgrade"),
        ("Transfer-Encoding: chunked", "", "0"),
    ],
)
async def test_what_asks_for_more_is_walked(valkey: Valkey, lines: tuple[str, ...]) -> None:
    """However often it comes, and though the plain form is known."""
    async with crowded(valkey) as at:
        async with client(at) as c:
            await slim(at, c, "/users/1")
        for user in (2, 3, 4):
            async with client(at) as c:
                await not_slim(at, c, get(f"/users/{user}", *lines))


async def test_other_methods_and_targets_are_walked(valkey: Valkey) -> None:
    """A HEAD, a write, another spelling of the path, a query, the absolute form, a route of another kind."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        place = "http://users/users/2"
        for target in ("/users/02", "/users/2?", "/users/%32", "/users//2", "/users/2/", place, "/nobody/2"):
            await not_slim(at, c, get(target))
        await at.ask("HEAD", "/users/2")
        assert 0 == taken(at)


_ALONE = """
version: 1
upstream: {url: "{stub}"}
tokens: {secret_env: JWT_SECRET}
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}ACCESS}
"""


@pytest.mark.parametrize("access", ["owner", "caller"])
async def test_what_depends_on_whose_it_is_is_walked(valkey: Valkey, tmp_path: Path, access: str) -> None:
    """One user's right to their copy in Redis is no right to the next one's."""
    routes = _ALONE.replace("ACCESS", f", access: {access}")
    async with crowded(valkey, routes=routes, tmp_path=tmp_path) as at, client(at) as c:
        tiers = at.app.telemetry.stats()["tiers"].get("redis", 0)
        for _ in range(3):
            for user in range(1, 6):
                for other in (1, user):
                    answer = await not_slim(at, c, get(f"/users/{user}", bearer(token_for(other))))
                    if access == "owner" and other != user:
                        assert b"X-Cache: HIT" not in answer
        assert at.app.telemetry.stats()["tiers"].get("redis", 0) > tiers, "copies were found in Redis"
        # Whose copy an owner may have is judged anew each time.
        assert (access == "owner") == len(forms(at))


async def test_credentials_of_which_no_rule_speaks_open_what_is_public(
    valkey: Valkey, tmp_path: Path
) -> None:
    """RFC 9111 §3.5: that one copy may be shared says nothing of the next."""
    routes = _ALONE.replace("ACCESS", "")
    async with crowded(valkey, routes=routes, tmp_path=tmp_path) as at, client(at) as c:
        public = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"public"))
        for user in (1, 3):
            rewritten(valkey, user, headers=public)
        await crowd_out(c, 29, 30)
        for user in (1, 3, 1, 3):
            assert b"X-Cache: HIT" in await not_slim(at, c, get(f"/users/{user}", bearer(ALICE)))
            await crowd_out(c, 29, 30)
        assert b"X-Cache: HIT" not in await not_slim(at, c, get("/users/2", bearer(ALICE)))


async def test_a_connection_may_be_idle_for_no_longer_after_a_look(valkey: Valkey) -> None:
    """Nothing ends it during the look; what comes then is awaited for as long as after any answer."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        left = edge_of(at, c)._deadline.due - asyncio.get_running_loop().time()
        assert 0 < left <= at.app.server.limits.idle_timeout


async def test_a_write_is_seen_and_a_fence_is_met(valkey: Valkey) -> None:
    """Those of another replica as well: what a look finds was true when it was looked at."""
    async with crowded(valkey) as at, client(at) as c, bench(redis=valkey.url) as other:
        await store(other)._feed.proven()
        await slim(at, c, "/users/1")
        fence = await store(other).fence(Batch(("1",)))
        assert b"X-Cache: HIT" not in await not_slim(at, c, get("/users/1"))
        await store(other).settle(fence, None)
        await slim(at, c, "/users/1")
        for one in (at, other):
            done = await one.ask("PUT", "/users/1", json={"bio": f"by {one.url}"}, token=ALICE)
            assert done.status in (200, 404, 405), done.body
            assert b"X-Cache: HIT" not in await not_slim(at, c, get("/users/1"))
            await slim(at, c, "/users/1")
        await store(other).evict([], everything=True)
        assert b"X-Cache: HIT" not in await not_slim(at, c, get("/users/1"))


async def test_a_fence_of_this_process_is_met_though_redis_lost_it(valkey: Valkey) -> None:
    """As memory does: the write under way is known here."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        fence = await store(at).fence(Batch(("1",)))
        valkey.ask("HDEL", "user:id:1", "fence")
        assert b"X-Cache: HIT" not in await not_slim(at, c, get("/users/1"))
        await store(at).settle(fence, None)


async def test_redis_is_looked_at_only_while_it_is_trusted_and_memory_is_full(valkey: Valkey) -> None:
    """What it holds may be older than writes that it was not told of: this is asked as the looks are sent."""
    async with crowded(valkey) as at:
        glances, memory, told = store(at).glances, store(at).memory, list[Any]()
        ref = Ref("id", "1", "users")
        await at.get("/users/29", headers={"Cache-Control": "max-age=200"})
        await at.get("/users/30", headers={"Cache-Control": "max-age=200"})
        for end in (None, lambda: store(at).recovery.failed(StoreError("lost"), write=True)):
            glances._turn = 0
            assert glances.ask(ref, told.append) is not None
            assert None is glances.ask(Ref("id", "\u00e9", "users"), told.append)
            if end is not None:
                end()
            await until(lambda: told)
            assert (told.pop() is None) is (end is not None)
        store(at).recovery.breaker.close()
        memory.drop((), everything=True)
        assert None is glances.ask(ref, told.append)


async def test_an_alias_proves_itself(valkey: Valkey) -> None:
    """It must lead there still, and the copy must carry it: what is known here is only where to look."""
    async with crowded(valkey, env={"MEMORY_CACHE_ENTRIES": "5"}) as at, client(at) as c:
        names = [(await at.get(f"/users/{user}", base=at.stub)).json()["username"] for user in (1, 2)]
        target = f"/users/{names[0]}"
        for _ in range(2):
            await c.ask(get(target))
            await crowd_out(c, *range(10, 20))
        store(at).glances._turn = 0
        taken(at)
        assert b'"id":1,' in (await c.ask(get(target))).replace(b" ", b"")
        assert 1 == taken(at)
        key = f"user:username:{names[0]}"
        for leads in (b"2", b"!w0", b"!f0", b"\xff"):
            await crowd_out(c, *range(10, 20))
            valkey.ask("SET", key, leads, "PX", 5000)
            answer = await not_slim(at, c, get(target))
            assert b'"id":2,' not in answer.replace(b" ", b""), leads
            assert b"X-Cache: HIT" not in answer, leads
            valkey.ask("SET", key, b"1", "PX", 50_000)
        for _ in range(2):
            await crowd_out(c, *range(10, 20))
            store(at).glances._turn = 0
            taken(at)
            await c.ask(get(target))
        assert 1 == taken(at)
        rewritten(valkey, 1, keys={"username": "another"})
        assert b"X-Cache: HIT" not in await not_slim(at, c, get(target))


async def test_whose_an_alias_is_is_known_from_the_answer_that_was_stored(valkey: Valkey) -> None:
    """The next request by it is a look, and no second walk."""
    async with crowded(valkey) as at, client(at) as c:
        names = [(await at.get(f"/users/{user}", base=at.stub)).json()["username"] for user in (1, 2)]
        await c.ask(get(f"/users/{names[0]}"))
        await at.app.cache.evict(["2"])
        await crowd_out(c, 29, 30)
        assert b"X-Cache: MISS" in await not_slim(at, c, get(f"/users/{names[1]}"))
        await slim(at, c, f"/users/{names[1]}")


@pytest.mark.parametrize(
    "damage", ["garbage", "number", "type", "another", "epoch", "epoch-type", "gone", "dead"]
)
async def test_what_is_not_a_plain_hit_is_walked(valkey: Valkey, damage: str) -> None:
    """And mended there, as ever: the client gets upstream's answer."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        match damage:
            case "garbage":
                valkey.ask("HSET", "user:id:1", place(valkey, 1), b"\x91")
            case "number":
                parts = msgspec.msgpack.decode(valkey.ask("HGET", "user:id:1", place(valkey, 1)))
                parts[6] = [99]
                valkey.ask("HSET", "user:id:1", place(valkey, 1), msgspec.msgpack.encode(parts))
            case "type":
                valkey.ask("SET", "user:id:1", b"x")
            case "another":
                other = valkey.ask("HGET", "user:id:2", place(valkey, 2))
                valkey.ask("HSET", "user:id:1", place(valkey, 1), other)
            case "epoch":
                valkey.ask("SET", "user:epoch", b"0000")
            case "epoch-type":
                valkey.ask("DEL", "user:epoch")
                valkey.ask("HSET", "user:epoch", "a", "b")
            case "gone":
                valkey.ask("DEL", "user:id:1")
            case "dead":
                store(at).glances._now = lambda: 1e12
        answer = await not_slim(at, c, get("/users/1"))
        assert b"HTTP/1.1 200" in answer
        assert b'"id":1,' in answer.replace(b" ", b"")
        assert (b"X-Cache: HIT" in answer) is (damage == "dead")


async def test_a_user_who_is_gone_is_walked(valkey: Valkey) -> None:
    """A stored 404 is one."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        rewritten(valkey, 1, status=404)
        assert (await not_slim(at, c, get("/users/1"))).startswith(b"HTTP/1.1 404 ")


async def test_an_answer_that_is_not_fresh_is_walked(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one from the future, as after a clock that was set back."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        for shift in (301.0, -10.0):
            with monkeypatch.context() as patch:
                patch.setattr("proxy.forms.time", lambda shift=shift: __import__("time").time() + shift)
                await not_slim(at, c, get("/users/1"))


async def test_a_callers_right_is_asked_for_when_the_copy_is_there(valkey: Valkey) -> None:
    """A logout and a deactivation end the form with them; nobody else's."""
    async with crowded(valkey, env={"MEMORY_CACHE_ENTRIES": "6"}) as at, client(at) as c:
        mail = {user: (await at.get(f"/users/{user}", base=at.stub)).json()["email"] for user in USERS}

        async def served(token: str) -> int:
            """How many of these are served without a walk."""
            taken(at)
            for user in range(10, 20):
                await c.ask(get(f"/users/by-email/{mail[user]}", bearer(token)))
            return taken(at)

        other = token_for(3)
        for token in (ALICE, other):
            await at.get("/auth/me", token=token)
            await served(token)
            assert await served(token) > 3
        await at.ask("POST", "/auth/logout", token=ALICE)
        await crowd_out(c, *range(21, 27))
        assert store(at).memory.full
        assert 0 == await served(ALICE)
        await at.get("/auth/me", token=other)
        await served(other)
        assert await served(other) > 3
        await at.app.cache.evict(["3"])
        await crowd_out(c, *range(21, 27))
        assert store(at).memory.full
        taken(at)
        await c.ask(get(f"/users/by-email/{mail[20]}", bearer(other)))
        assert 0 == taken(at)


async def test_a_mode_is_in_force_with_the_next_request(valkey: Valkey) -> None:
    """Off does not even look; shadow does, for its comparison."""
    async with (
        crowded(valkey) as at,
        client(at) as c,
        TestClient(TestServer(at.app.admin)) as admin,
    ):
        await slim(at, c, "/users/1")
        for mode in ("off", "shadow"):
            await admin.post("/mode", json={"mode": mode})
            before = _calls(valkey)["hmget"]
            await not_slim(at, c, get("/users/1"))
            assert mode == "shadow" or before == _calls(valkey)["hmget"]
        await admin.post("/mode", json={"mode": "serve"})
        await slim(at, c, "/users/1")


async def test_hits_that_are_to_be_logged_are_walked(valkey: Valkey) -> None:
    """A quarter of them is a quarter, whichever way they were answered."""
    async with crowded(valkey, env={"LOG_HITS": "25%"}) as at, client(at) as c:
        for user in range(1, 5):
            await c.ask(get(f"/users/{user}"))
        store(at).glances._turn = 0
        taken(at)
        for number in range(20):
            await c.ask(get(f"/users/{number + 5}"))
        assert 13 <= taken(at) <= 15


async def test_one_of_many_is_taken_into_memory(valkey: Valkey) -> None:
    """Who is asked for often gets there; the others do not push each other out."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        store(at).glances._turn = TAKEN_IN - 20
        taken(at)
        for _ in range(20):
            assert b"X-Cache: HIT" in await c.ask(get("/users/1"))
        assert 19 == taken(at)
        assert store(at).memory.has("1", "users")
        await c.ask(get("/users/1"))
        assert 0 == taken(at)


async def test_pipelined_requests_are_answered_in_order(valkey: Valkey) -> None:
    """Ready, looked at, walked and unknown ones mixed."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        asked = [1, 2, 29, 3, 30, 30, 4, 1, 29, 5, 6, 7, 8, 29, 1] * 4
        heads = [
            get(f"/users/{user}", *(("X-Unknown: 1",) if n % 7 == 6 else ())) for n, user in enumerate(asked)
        ]
        await c.send(b"".join(heads))
        found = [re.search(rb'"id": ?(\d+)', await c.answer()) for _ in asked]
        assert asked == [int(one[1]) for one in found if one]
        assert taken(at) > 10


async def test_looks_of_one_tick_are_one_round(valkey: Valkey) -> None:
    """The epoch is asked for once, behind all of them."""
    async with crowded(valkey) as at:
        async with client(at) as c:
            await slim(at, c, "/users/1")
        glances = store(at).glances
        found: list[Any] = []
        before = _calls(valkey)
        for user in range(2, 12):
            assert glances.ask(Ref("id", str(user), "users"), found.append) is not None
        await until(lambda: len(found) == 10)
        after = _calls(valkey)
        assert [str(user) for user in range(2, 12)] == [entry.user_id for entry in found]
        assert 10 == after["hmget"] - before["hmget"]
        assert 1 == after["get"] - before["get"]


def _calls(valkey: Valkey) -> dict[str, int]:
    lines = valkey.ask("INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in lines.items()}


async def test_a_silent_redis_costs_the_deadline_and_then_nothing(
    valkey_server: Callable[..., Valkey],
) -> None:
    """Each look counts as a failure; what was asked is answered by upstream, and trust comes back."""
    valkey = valkey_server()
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        errors = store(at).redis.stats.errors
        store(at).redis.link.deadline = 0.25
        valkey.pause()
        try:
            found: list[Any] = []
            for user in (11, 12, 13):
                assert store(at).glances.ask(Ref("id", str(user), "users"), found.append) is not None
            await until(lambda: len(found) == 3)
            assert [None] * 3 == found
            assert store(at).redis.stats.errors >= errors + 3
            assert store(at).recovery.down
            answers = await asyncio.gather(*(_once(at, get(f"/users/{user}")) for user in range(2, 8)))
            assert all(b"HTTP/1.1 200" in answer for answer in answers)
        finally:
            valkey.resume()


async def test_another_server_process_is_not_believed(valkey: Valkey) -> None:
    """It may have answered from an older copy: what was asked of the one before is walked."""
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        found: list[Any] = []
        assert store(at).glances.ask(Ref("id", "2", "users"), found.append) is not None
        await asyncio.sleep(0)
        assert store(at).redis.link.mux.wire._asked, "it is on its way"
        store(at).redis.link.process.changes += 1
        await until(lambda: found)
        assert [None] == found


async def test_a_redis_that_is_gone_leaves_it_to_the_walk(valkey_server: Callable[..., Valkey]) -> None:
    """Also what was under way."""
    valkey = valkey_server()
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        valkey.pause()
        asking = [asyncio.ensure_future(_once(at, get(f"/users/{user}"))) for user in range(2, 8)]
        await until(lambda: store(at).redis.link.mux.wire._asked)
        valkey.kill()
        assert all(b"HTTP/1.1 200" in answer for answer in await asyncio.gather(*asking))
        assert b"HTTP/1.1 200" in await not_slim(at, c, get("/users/9"))


async def _once(at: Bench, head: bytes) -> bytes:
    async with client(at) as c:
        return await c.ask(head)


async def test_who_has_gone_is_not_answered_and_who_ends_is_told(
    valkey_server: Callable[..., Valkey],
) -> None:
    """A client that hangs up takes its look along; at the end of the server the answer is the last one."""
    valkey = valkey_server()
    async with crowded(valkey) as at, client(at) as c:
        await slim(at, c, "/users/1")
        wire = store(at).redis.link.mux.wire
        valkey.pause()
        try:
            async with client(at) as gone:
                await gone.send(get("/users/2"))
                await until(lambda: wire._asked)
            await c.send(get("/users/3"))
            await until(lambda: len(wire._asked) == 2)
            taken(at)
            at.app.server.pre_shutdown()
        finally:
            valkey.resume()
        assert b"\r\nConnection: close\r\n" in await c.answer()
        assert 0 == taken(at)


@pytest.mark.parametrize("hashed", [False, True])
async def test_addresses_are_not_kept_where_keys_are_hashed(
    valkey: Valkey, tmp_path: Path, hashed: bool
) -> None:
    """What a request line was read as is remembered otherwise, for users whom memory has no room for."""
    routes = (
        f"version: 1\nhash_keys: {str(hashed).lower()}\nupstream: {{url: '{{stub}}'}}\n"
        "views: {users: {ttl: 60s}}\nuser: {keys: {email: {path: email}}, active: is_active}\n"
        "routes:\n  - {match: 'GET /users/{id:int}', lookup: {by: id, view: users}, access: anyone}\n"
        "  - {match: 'GET /users/by-email/{email}', lookup: {by: email, view: users}, access: anyone}\n"
    )
    env = {"CACHE_HASH_KEY": "0a" * 32} if hashed else {}
    async with crowded(valkey, env=env, routes=routes, tmp_path=tmp_path) as at, client(at) as c:
        mail = [(await at.get(f"/users/{user}", base=at.stub)).json()["email"] for user in range(1, 20)]
        for _ in range(3):
            for one in mail:
                await c.ask(get(f"/users/by-email/{one}"))
        assert taken(at) > 10
        assert bool(forms(at)._targets) is not hashed


async def test_forms_are_bounded_and_hold_no_token(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first; what is kept is a hash."""
    monkeypatch.setattr("proxy.forms.MOST", 3)
    async with crowded(valkey) as at, client(at) as c:
        for number in range(9):
            for user in (1, 2, 3):
                await c.ask(get(f"/users/{user}", f"X-N: {number}"))
        assert 3 == len(forms(at))
        assert all(32 == len(form) for form in forms(at)._rights)
