"""The fast path on real sockets: what it answers, byte for byte, and what it must leave to the walk."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.client import AHEAD
from proxy.core.model import Batch, Ref
from proxy.core.tokenkeys import Key, KeySet
from proxy.fastpath import Replays
from proxy.readytext import LONGEST
from proxy.store.codec import is_note
from tests.contract.kit import Clock, until
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

_MOVING = re.compile(rb"(Age: |ttl=|Date: )[^\r]*")
ALICE = token_for(1)
# What asyncio reads at once.
READ = 256 * 1024


class Client:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> bytes:
        """The next answer: head and body."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            return head + (await self.reader.readexactly(int(length[1])) if length else b"")

    async def ask(self, data: bytes) -> bytes:
        """Sends, and the answer."""
        await self.send(data)
        return await self.answer()


@asynccontextmanager
async def client(at: Bench) -> AsyncIterator[Client]:
    """A connection to the proxy."""
    place = urlsplit(at.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def edge_of(at: Bench, c: Client) -> Any:
    """The proxy's end of it."""
    name = c.writer.get_extra_info("sockname")
    (one,) = (each for each in at.app.server.connections if each.transport.get_extra_info("peername") == name)
    return one


def get(target: str, *lines: str) -> bytes:
    """A request head."""
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: users", *lines, "", "")).encode()


def bearer(token: str) -> str:
    """The line of a token."""
    return f"Authorization: Bearer {token}"


def replays(at: Bench) -> Replays:
    """The ready answers of a proxy."""
    found: Any = at.app.server
    return found.replays  # type: ignore[no-any-return]


@asynccontextmanager
async def counting(at: Bench, expected: int) -> AsyncIterator[None]:
    """Asserts how many requests are answered without a walk meanwhile."""
    before = dict(at.app.telemetry.stats()["requests"])
    yield
    counted = sum(count for _, count in replays(at).counted())
    assert expected == counted, before


async def warm(c: Client, head: bytes) -> bytes:
    """Three times: a miss, a hit that is offered, a hit that is ready; the second answer."""
    await c.ask(head)
    walked = await c.ask(head)
    assert b"X-Cache: HIT" in walked, walked
    return walked


async def test_the_fast_answer_is_the_walks_byte_for_byte() -> None:
    """But for Age, ttl and Date, which are right for the moment."""
    async with bench() as at, client(at) as c:
        me = await at.get("/users/1")
        email = str(me.json()["email"])
        heads = [
            get("/users/1"),
            get(f"/users/by-email/{email}", bearer(ALICE)),
            get("/auth/me", bearer(ALICE)),
            get("/auth/introspect", bearer(ALICE)),
        ]
        for head in heads:
            walked = await warm(c, head)
            async with counting(at, 3):
                again = [await c.ask(head) for _ in range(3)]
            assert {_MOVING.sub(b"", walked)} == {_MOVING.sub(b"", one) for one in again}, head


async def test_fast_hits_are_counted() -> None:
    """By kind, view and tier, as /stats and /metrics show them."""
    async with bench() as at, client(at) as c:
        await warm(c, get("/users/1"))
        before = at.app.telemetry.stats()
        for _ in range(5):
            await c.ask(get("/users/1"))
        after = at.app.telemetry.stats()
        assert 5 == after["hits"] - before["hits"]
        assert 5 == after["requests"]["lookup"] - before["requests"]["lookup"]
        assert 5 == after["x_cache"]["HIT"] - before["x_cache"]["HIT"]
        assert 5 == after["tiers"]["memory"] - before["tiers"]["memory"]


BATCH = get("/users?ids=3,1,2")


async def ready_batch(at: Bench, c: Client) -> bytes:
    """A batch that is ready; the walk's answer."""
    for ids in ("1,2,3", "3,2,1", "2,3,1"):
        await at.get(f"/users?ids={ids}")
    walked = await c.ask(BATCH)
    assert b"X-Cache: HIT" in walked, walked
    return walked


async def test_a_batch_is_the_walks_byte_for_byte() -> None:
    """The oldest of its users is its Age; it is counted as a batch."""
    async with bench() as at, client(at) as c:
        walked = await ready_batch(at, c)
        before = at.app.telemetry.stats()["requests"]["batch"]
        async with counting(at, 3):
            again = [await c.ask(BATCH) for _ in range(3)]
        assert {_MOVING.sub(b"", walked)} == {_MOVING.sub(b"", one) for one in again}
        await c.ask(BATCH)
        assert before + 1 == at.app.telemetry.stats()["requests"]["batch"]


async def test_the_times_of_a_batch_are_those_of_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which one is older than the others: it ends first, too."""
    clock = [0.0]
    monkeypatch.setattr("proxy.fastpath.time", lambda: time.time() + clock[0])
    async with bench() as at, client(at) as c:
        await ready_batch(at, c)
        store: Any = at.app.cache.store
        for number, older in ((1, 20.4), (2, 7.7), (3, 0.0)):
            user = store._users[str(number)]
            slot = user.slots["users"]
            changed = {"stored": slot.entry.stored - older, "expires": slot.entry.expires - older}
            entry = msgspec.structs.replace(slot.entry, **changed)
            assert None is store.put(Ref("id", str(number), "users"), entry, store.begin())
        walked = await c.ask(BATCH)
        assert b"\r\nAge: 20\r\n" in walked
        async with counting(at, 2):
            assert re.search(rb"\r\nAge: 2[01]\r\n", await c.ask(BATCH))
            clock[0] = 100.0
            later = await c.ask(BATCH)
        assert re.search(rb"\r\nAge: 12[01]\r\n", later), later
        assert re.search(rb"; ttl=1(79|78)\r\n", later), later
        clock[0] = 280.0
        async with counting(at, 0):
            await c.ask(BATCH)


async def test_a_batch_ends_with_each_of_its_users() -> None:
    """Evicted, fenced, refilled or written: the next request of the batch is walked."""
    async with bench() as at, client(at) as c:
        store: Any = at.app.cache.store
        await ready_batch(at, c)
        async with counting(at, 1):
            await c.ask(BATCH)
        await store.evict(["2"])
        async with counting(at, 0):
            assert b"X-Cache: HIT" not in await c.ask(BATCH)
        await ready_batch(at, c)
        fence = await store.fence(Batch(("3",)))
        async with counting(at, 0):
            await c.ask(BATCH)
        await store.settle(fence, None)
        await ready_batch(at, c)
        await at.ask("PUT", "/profile", token=ALICE, json={"bio": "changed"})
        async with counting(at, 0):
            assert b"changed" in await c.ask(BATCH)
        await ready_batch(at, c)
        await at.get("/users/1", headers={"Cache-Control": "no-cache"})
        async with counting(at, 0):
            await c.ask(BATCH)


async def test_a_batch_ends_with_what_was_known_of_the_order() -> None:
    """Upstream answers in another order now: what it wrote before is nobody's answer any more."""
    async with bench() as at, client(at) as c:
        await ready_batch(at, c)
        ready = next(one for one in replays(at)._ready.values() if one.offer.users == 3)
        rules: Any = ready.offer.holds[-1].source
        await c.ask(BATCH)
        rules.learn(["1", "2"], ["2", "1"], b"[2,1]", [b"2", b"1"])
        async with counting(at, 0):
            await c.ask(BATCH)


_TOKENS = """
version: 1
upstream: {url: "{stub}"}
tokens: {secret_env: JWT_SECRET}
user: {active: is_active}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users?ids={ids:list}", lookup: {by: id, many: ids, view: users}, access: token}
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: token}
"""


@pytest.mark.parametrize("what", ["user", "caller", "keys", "order"])
async def test_a_batch_by_a_token_ends_with_each_thing_it_rests_on(tmp_path: Path, what: str) -> None:
    """The whole answer was kept, and a counter of one of three has moved."""
    async with bench(routes=_TOKENS, tmp_path=tmp_path) as at, client(at) as c:
        head = get("/users?ids=3,1,2", bearer(token_for(5)))
        await at.get("/users/5", token=token_for(5))
        for ids in ("1,2,3", "3,2,1", "2,3,1"):
            await at.get(f"/users?ids={ids}", token=token_for(5))
        assert b"X-Cache: HIT" in await c.ask(head)
        async with counting(at, 2):
            await c.ask(head)
            await c.ask(head)
        ready = next(one for one in replays(at)._ready.values() if one.offer.users == 3)
        match what:
            case "user":
                await at.app.cache.evict(["2"])
            case "caller":
                await at.app.cache.evict(["5"])
            case "keys":
                keys: Any = ready.offer.holds[-2].source
                keys.use(KeySet(()))
            case "order":
                rules: Any = ready.offer.holds[-1].source
                rules.learn(["1", "2"], ["2", "1"], b"[2,1]", [b"2", b"1"])
        async with counting(at, 0):
            await c.ask(head)


async def test_batches_count_by_their_users() -> None:
    """One of three takes the room of three; one that is larger than all the room is not kept."""
    async with bench(env={"MEMORY_CACHE_ENTRIES": "3"}) as at, client(at) as c:
        await ready_batch(at, c)
        for number in (1, 2, 3):
            await warm(c, get(f"/users/{number}"))
        assert 6 == sum(one.offer.users for one in replays(at)._ready.values())
        await warm(c, get("/users/1", "X-N: 1"))
        assert 4 == sum(one.offer.users for one in replays(at)._ready.values())


async def test_a_whole_answer_is_kept_for_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not longer, and not where the clock was set back; Age and ttl are those of each second."""
    clock = [0.0]
    monkeypatch.setattr("proxy.fastpath.time", lambda: time.time() + clock[0])
    async with bench() as at, client(at) as c:
        await warm(c, get("/users/1"))
        seen = []
        for shift in (0.0, 2.0, 4.5, 60.0, 7.0):
            clock[0] = shift
            age = re.search(rb"\r\nAge: (\d+)\r\n", await c.ask(get("/users/1")))
            assert age is not None
            seen.append(int(age[1]) - int(shift))
        assert set(seen) <= {0, 1}, seen


async def test_names_of_requests_do_not_matter() -> None:
    """A trace and an id per request; a line that nobody knows does matter."""
    async with bench() as at, client(at) as c:
        trace = "traceparent: 00-{0:032x}-{0:016x}-01"
        await warm(c, get("/users/1", "Accept: */*", "X-Request-Id: 0", trace.format(1)))
        async with counting(at, 10):
            for number in range(2, 12):
                head = get("/users/1", "Accept: */*", f"X-Request-Id: {number}", trace.format(number))
                assert b"X-Cache: HIT" in await c.ask(head)
        async with counting(at, 4):
            for name in ((), ("X-Request-Id: a",), (), ("X-Request-Id: b",)):
                await c.ask(get("/users/1", "Accept: */*", *name))
        async with counting(at, 0):
            await c.ask(get("/users/1", "Accept: */*", "X-Unknown: 1"))


@pytest.mark.parametrize(
    "lines",
    [
        ("Cache-Control: no-cache",),
        ("Pragma: no-cache",),
        ("Cache-Control: max-age=60",),
        ("If-None-Match: *",),
        ("Connection: close",),
        ("X-HTTP-Method-Override: DELETE",),
        ("X_HTTP_Method_Override: DELETE",),
        ("Upgrade: h2c", "Connection: upgrade"),
        ("Transfer-Encoding: chunked", "", "0"),
    ],
)
async def test_what_asks_for_more_is_walked(lines: tuple[str, ...]) -> None:
    """However often it comes, and however hot the plain request is."""
    async with bench() as at:
        async with client(at) as c:
            await warm(c, get("/users/1"))
        async with counting(at, 0):
            for _ in range(3):
                async with client(at) as c:
                    await c.ask(get("/users/1", *lines))


async def test_an_eviction_is_seen_by_the_next_request() -> None:
    """By id, by alias, everything, a fence, and a fresh copy under the old head."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        store: Any = at.app.cache.store
        email = str((await at.get("/users/1")).json()["email"])
        for drop in (
            lambda: store.evict(["1"]),
            lambda: store.evict([], everything=True),
            lambda: store.evict([], [("email", email)]),
        ):
            await warm(c, head)
            await drop()
            assert b"X-Cache: MISS" in await c.ask(head)
        await warm(c, head)
        fence = await store.fence(Batch(("1",)))
        assert b"X-Cache: HIT" not in await c.ask(head)
        await store.settle(fence, None)


async def test_a_write_is_seen_by_the_next_request() -> None:
    """The body is the new one, on the same head and connection."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        await warm(c, head)
        await c.ask(head)
        done = await at.ask("PUT", "/profile", token=ALICE, json={"bio": "changed"})
        assert 200 == done.status, done.body
        assert b"changed" in await c.ask(head)


async def test_a_deactivated_user_is_refused_at_once() -> None:
    """The caller's own state is asked for on each hit, though the answer is about somebody else."""
    async with bench() as at, client(at) as c:
        email = str((await at.get("/users/2")).json()["email"])
        head = get(f"/users/by-email/{email}", bearer(ALICE))
        await at.get("/auth/me", token=ALICE)
        await warm(c, head)
        async with counting(at, 1):
            await c.ask(head)
        await at.app.cache.evict(["1"])
        async with counting(at, 0):
            await c.ask(head)


async def test_a_token_is_not_good_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back, to a time at which the copy was there already."""
    clock = Clock(float(int(time.time()) - 100))
    monkeypatch.setattr("proxy.app.time", SimpleNamespace(time=clock))
    monkeypatch.setattr("proxy.fastpath.time", clock)
    async with bench() as at, client(at) as c:
        await warm(c, get("/auth/me", bearer(ALICE)))
        for claim in ("nbf", "iat"):
            clock.time += 20
            head = get("/auth/me", bearer(token_for(1, **{claim: int(clock.time)})))
            await warm(c, head)
            async with counting(at, 1):
                await c.ask(head)
            clock.time -= 10
            async with counting(at, 0):
                assert b"HTTP/1.1 401" in await c.ask(head)


async def test_a_token_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a second later."""
    clock = Clock(float(int(time.time())))
    monkeypatch.setattr("proxy.app.time", SimpleNamespace(time=clock))
    monkeypatch.setattr("proxy.fastpath.time", clock)
    async with bench() as at, client(at) as c:
        ends = clock.time + 200
        head = get("/auth/me", bearer(token_for(1, exp=int(ends))))
        await warm(c, head)
        clock.time = ends - 0.001
        async with counting(at, 1):
            assert b"HTTP/1.1 200" in await c.ask(head)
        clock.time = ends
        async with counting(at, 0):
            assert b"HTTP/1.1 401" in await c.ask(head)


@pytest.mark.parametrize("keys", [(), (Key(None, frozenset({"HS256"}), "other", b"another-secret" * 3),)])
async def test_other_keys_end_all_tokens(keys: tuple[Key, ...]) -> None:
    """What the old key signed is not believed once there is another, or none."""
    async with bench() as at, client(at) as c:
        head = get("/auth/me", bearer(ALICE))
        await warm(c, head)
        await c.ask(head)
        for ready in replays(at)._ready.values():
            for hold in ready.offer.holds:
                verifier = getattr(hold, "_verifier", None)
                if verifier is not None:
                    verifier.use(KeySet(keys))
        async with counting(at, 0):
            assert b"X-Cache: HIT" not in await c.ask(head)


async def test_a_copy_that_was_refilled_replaces_the_old_one() -> None:
    """Nothing was evicted: somebody asked for a fresh answer, and the known head gets that one."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        await warm(c, head)
        changed = await at.ask("PUT", "/profile", token=ALICE, json={"bio": "fresh"}, base=at.stub)
        assert 200 == changed.status
        async with counting(at, 1):
            assert b"fresh" not in await c.ask(head)
        await at.get("/users/1", headers={"Cache-Control": "no-cache"})
        async with counting(at, 0):
            assert b"fresh" in await c.ask(head)
        async with counting(at, 1):
            assert b"fresh" in await c.ask(head)


async def test_an_alias_that_moved_leads_to_its_new_owner() -> None:
    """The former owner is still there, under the id and with the copy of before."""
    async with bench() as at, client(at) as c:
        users = [(await at.get(f"/users/{number}")).json() for number in (1, 2)]
        head = get(f"/users/by-email/{users[0]['email']}", bearer(ALICE))
        await at.get("/auth/me", token=ALICE)
        await warm(c, head)
        async with counting(at, 1):
            assert b'"id":1,' in (await c.ask(head)).replace(b" ", b"")
        assert await at.app.cache.cache_user({**users[1], "email": users[0]["email"]})
        async with counting(at, 0):
            assert b'"id":2,' in (await c.ask(head)).replace(b" ", b"")


async def test_a_mode_is_in_force_with_the_next_request() -> None:
    """Off and shadow: what is ready stays where it is, and serves again when the proxy does."""
    async with bench() as at, client(at) as c, TestClient(TestServer(at.app.admin)) as admin:
        head = get("/users/1")
        await warm(c, head)
        for mode in ("off", "shadow"):
            await admin.post("/mode", json={"mode": mode})
            async with counting(at, 0):
                await c.ask(head)
        await admin.post("/mode", json={"mode": "serve"})
        await warm(c, head)
        async with counting(at, 1):
            await c.ask(head)


@pytest.mark.parametrize("target", ["/users/by-email/{}", "/auth/me", "/auth/introspect"])
async def test_a_logout_ends_what_is_ready_for_its_token(target: str) -> None:
    """Hits are ready though there is a route that revokes, and the one after it is not; others' stay."""
    async with bench() as at, client(at) as c:
        target = target.format((await at.get("/users/2")).json()["email"])
        one, other = (get(target, bearer(token_for(user))) for user in (1, 3))
        for user, head in ((1, one), (3, other)):
            await at.get("/auth/me", token=token_for(user))
            await warm(c, head)
        async with counting(at, 2):
            await c.ask(one)
            await c.ask(other)
        await at.ask("POST", "/auth/logout", token=ALICE)
        async with counting(at, 1):
            assert b"X-Cache: HIT" not in await c.ask(one)
            await c.ask(other)


_OWNERS = """
version: 1
upstream: {url: "{stub}"}
tokens: {secret_env: JWT_SECRET}
user: {keys: {email: {path: email}, username: {path: username}}, active: is_active}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: owner,
     allow: {claim: role, any: [support]}}
  - {match: "GET /users/by-email/{email}", lookup: {by: email, view: users}, access: owner}
  - {match: "GET /users/{username}", lookup: {by: username, view: users}, access: token,
     require: {scope: read}}
"""


async def test_owners_and_who_is_allowed_get_ready_answers_and_nobody_else(tmp_path: Path) -> None:
    """What a token is asked for is in the token: another one for the same copy is walked."""
    async with bench(routes=_OWNERS, tmp_path=tmp_path) as at, client(at) as c:
        user = (await at.get("/users/1", base=at.stub)).json()
        support, reader = token_for(3, role="support"), token_for(3, scope="read")
        email, name = f"/users/by-email/{user['email']}", f"/users/{user['username']}"
        ready = [("/users/1", ALICE), (email, ALICE), ("/users/1", support), (name, reader)]
        # The first request of a user is judged by upstream, and brings a new copy.
        for target, token in reversed(ready):
            await c.ask(get(target, bearer(token)))
        for target, token in ready:
            head = get(target, bearer(token))
            await warm(c, head)
            async with counting(at, 1):
                await c.ask(head)
        for target, token in ((name, ALICE), ("/users/1", reader), (email, support), (email, reader)):
            async with counting(at, 0):
                for _ in range(3):
                    assert b"X-Cache: HIT" not in await c.ask(get(target, bearer(token)))
        # The allowed one is no more active, the copy is there.
        await at.app.cache.evict(["3"])
        for (target, token), count in zip(ready, (1, 1, 0, 0), strict=True):
            async with counting(at, count):
                await c.ask(get(target, bearer(token)))


async def test_what_upstream_shows_of_somebody_else_is_not_kept(tmp_path: Path) -> None:
    """By an alias that nobody knows: whose it is comes with the answer, and who else may see it does not."""
    async with bench(routes=_OWNERS, tmp_path=tmp_path) as at:
        email = (await at.get("/users/2", base=at.stub)).json()["email"]
        await at.get("/users/1", token=ALICE)
        shown = await at.get(f"/users/by-email/{email}", token=ALICE)
        assert (200, 2) == (shown.status, shown.json()["id"])
        assert "not-owner" in shown.cache_status
        assert "HIT" != (await at.get(f"/users/by-email/{email}", token=token_for(2))).x_cache


async def test_a_token_is_asked_about_again_where_its_note_is_gone() -> None:
    """Nobody knows then whether it was logged out: one walk finds out, and is not spared."""
    async with bench() as at, client(at) as c:
        head = get("/auth/me", bearer(ALICE))
        await warm(c, head)
        store: Any = at.app.cache.store
        user = store._users["1"]
        (note,) = (name for name in user.slots if is_note(name))
        store._remove_slot(user, note)
        async with counting(at, 0):
            await c.ask(head)
        async with counting(at, 1):
            await c.ask(head)


async def test_an_expired_answer_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after its time, nor before it, as after a clock that was set back."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        for shift in (301.0, -10.0):
            await warm(c, head)
            with monkeypatch.context() as patch:
                patch.setattr("proxy.fastpath.time", lambda shift=shift: time.time() + shift)
                async with counting(at, 0):
                    await c.ask(head)


async def test_an_answer_may_end_in_the_middle_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole answers are kept for a second, and this one is not good for all of it."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        await warm(c, head)
        (ready,) = replays(at)._ready.values()
        ends = ready.offer.ends
        for moment, hit in ((math.floor(ends) - 0.5, True), (math.floor(ends), True), (ends, False)):
            monkeypatch.setattr("proxy.fastpath.time", lambda moment=moment: moment)
            assert hit is (replays(at).answer(head) is not None), moment


async def test_memory_without_a_lease_is_not_used(valkey: Valkey) -> None:
    """The feed's lease is read from the clock on each hit (trap 44)."""
    async with bench(redis=valkey.url) as at, client(at) as c:
        store: Any = at.app.cache.store
        await store._feed.proven()
        head = get("/users/1")
        await warm(c, head)
        async with counting(at, 1):
            await c.ask(head)
        store._feed._clock = lambda: time.monotonic() + 60
        async with counting(at, 0):
            await c.ask(head)


async def test_a_body_that_looks_like_a_known_head_is_a_body() -> None:
    """In its own segment, with a length, in chunks; the requests behind it are answered once each."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        await warm(c, head)
        length = f"POST /auth/login HTTP/1.1\r\nHost: users\r\nContent-Length: {len(head)}\r\n\r\n".encode()
        chunked = (
            b"POST /auth/login HTTP/1.1\r\nHost: users\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n"
            % len(head)
        )
        one = edge_of(at, c)
        for start, end in ((length, b""), (chunked, b"\r\n0\r\n\r\n")):
            async with counting(at, 0):
                # Each in a segment of its own.
                await c.send(start)
                await until(lambda: one.body is not None)
                await c.send(head)
                if end:
                    await until(lambda: one.body._received == len(head))
                await c.send(end)
                assert b"X-Cache: HIT" not in await c.answer()
            assert b"X-Cache: HIT" in await c.ask(head)
            async with counting(at, 1):
                await c.ask(head)


async def test_half_a_head_is_not_forgotten() -> None:
    """A known head that comes in two pieces, and one that follows half of another."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        await warm(c, head)
        one = edge_of(at, c)
        for cut in range(1, len(head)):
            await c.send(head[:cut])
            await until(lambda cut=cut: one._buffer == head[:cut])
            await c.send(head[cut:])
            assert b"X-Cache: HIT" in await c.answer()
        assert b"X-Cache: HIT" in await c.ask(b"\r\n" + head), "RFC 9112 §2.2"
        await c.send(b"GET /users/2 HTTP/1.1\r\nHost: users\r\nX: ")
        await until(lambda: one._buffer.endswith(b"X: "))
        assert b"HTTP/1.1 400" in await c.ask(head), "it has two Host lines"


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Known and unknown ones mixed, more than are answered at once."""
    async with bench() as at, client(at) as c:
        heads = [get(f"/users/{number}") for number in (1, 2, 3)]
        for head in heads:
            await warm(c, head)
        unknown = get("/users/4", "X-Unknown: 1")
        mixed = [*heads, unknown, *heads * 10, unknown, *heads]
        await c.send(b"".join(mixed))
        ids = [re.search(rb'"id": ?(\d+)', await c.answer()) for _ in mixed]
        expected = [1, 2, 3, 4, *[1, 2, 3] * 10, 4, 1, 2, 3]
        assert expected == [int(found[1]) for found in ids if found]


async def test_a_client_that_does_not_read_leaves_the_fast_path() -> None:
    """What waits for it stays bounded, and it gets all its answers in the end."""
    async with bench() as at, client(at) as c:
        head = get("/users/1")
        answer = await warm(c, head)
        count = 20_000
        sending = asyncio.ensure_future(c.send(head * count))
        one = edge_of(at, c)
        await until(lambda: one._stuck and one._paused)  # neither written to nor read
        assert len(one._buffer) <= AHEAD + READ
        assert one.transport.get_write_buffer_size() < 64 * 1024 + 300 * len(answer)
        for _ in range(count):
            await c.answer()
        await sending


async def test_a_client_that_is_far_ahead_of_its_answers_is_not_read() -> None:
    """However fast it sends and takes: what is kept of it is bounded by one read, with and without a walk."""
    for env in ({}, {"FAST_PATH": "off"}):
        async with bench(env=env) as at, client(at) as c:
            head = get("/users/1")
            await warm(c, head)
            sending = asyncio.ensure_future(c.send(head * 40_000))
            one = edge_of(at, c)
            for _ in range(500):
                await c.answer()
                assert len(one._buffer) <= AHEAD + READ
            sending.cancel()


async def test_the_switch_turns_it_off() -> None:
    """`FAST_PATH=off`: everything is walked."""
    async with bench(env={"FAST_PATH": "off"}) as at, client(at) as c:
        assert b"X-Cache: HIT" in await warm(c, get("/users/1"))
        assert None is replays(at)


async def test_hits_that_are_to_be_logged_are_walked() -> None:
    """A quarter of them is a quarter, whichever way they were answered."""
    async with bench(env={"LOG_HITS": "25%"}) as at, client(at) as c:
        await warm(c, get("/users/1"))
        async with counting(at, 15):
            for _ in range(20):
                await c.ask(get("/users/1"))


async def test_idle_time_begins_anew_with_a_fast_answer() -> None:
    """The connection's timer finds it used."""
    async with bench() as at, client(at) as c:
        await warm(c, get("/users/1"))
        (one,) = at.app.server.connections
        before = one._deadline.due
        await asyncio.sleep(0.01)
        await c.ask(get("/users/1"))
        assert one._deadline.due > before


async def test_ready_answers_are_bounded() -> None:
    """The oldest go first; long heads are never kept."""
    async with bench(env={"MEMORY_CACHE_ENTRIES": "2"}) as at, client(at) as c:
        for number in range(10):
            await warm(c, get("/users/1", f"X-N: {number}"))
        await warm(c, get("/users/1", "X: " + "x" * LONGEST))
        assert 4 == len(replays(at))


@settings(max_examples=30)
@given(data=st.data())
def test_a_changed_head_is_never_taken_for_the_known_one(data: st.DataObject) -> None:
    """One byte more, less or other anywhere: nothing is ready for it but what a trace's value may hold."""
    ready = Replays(10, lambda: b"")
    known = get("/users/1", bearer(ALICE), "X-Request-Id: a")
    asked: list[bytes] = []

    class Spy(dict[bytes, Any]):
        def get(self, key: bytes, default: Any = None) -> Any:
            asked.append(key)
            return default

    ready._ready = Spy()
    ready.answer(known)
    own = asked[-1]
    asked.clear()
    at = data.draw(st.integers(0, len(known) - 1))
    byte = data.draw(st.binary(min_size=0, max_size=2))
    changed = known[:at] + byte + known[at + 1 :]
    ready.answer(changed)
    value = known.index(b"X-Request-Id: ") + 13
    if own in asked:
        harmless = changed == known or (at >= value and re.fullmatch(rb"[\t -~]*", changed[value:-4]))
        assert harmless or changed.lower() == known.lower(), changed
