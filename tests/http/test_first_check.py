"""The first request of a token that was never seen, without a walk: what the walk would say, or nothing."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy import forms
from proxy.core.bearer import bearer as read_bearer
from proxy.core.headers import Headers
from proxy.core.identity import Rejected
from proxy.core.model import Batch
from proxy.core.tokenkeys import KeySet
from proxy.seen import Seen
from proxy.store.codec import is_note
from tests.badtokens import BAD_TOKENS
from tests.contract.kit import Clock
from tests.http.test_fastpath import Client, bearer, client, counting, get, replays
from tests.valkey import Valkey
from tests.walk import SECRET, Bench, bench, token_for

_MOVING = re.compile(rb"(Age: |ttl=|Date: )[^\r]*")
_ROUTES = """
version: 1
upstream: {url: "{stub}"}
tokens: {secret_env: JWT_SECRET}
user: {keys: {email: {path: email}, username: {path: username}}, active: is_active}
views: {users: {ttl: 60s}, told: {ttl: 60s}}
routes:
  - {match: "GET /open/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /users/by-email/{email}", lookup: {by: email, view: users}, access: owner,
     allow: {claim: role, any: [support]}}
  - {match: "GET /users/{username}", lookup: {by: username, view: users}, access: token,
     require: {scope: read}}
  - {match: "GET /profiles/{username}", lookup: {by: username, view: users}, access: caller}
  - {match: "GET /auth/me", introspect: {answer: view, view: users}, require: {scope: read}}
  - {match: "GET /auth/introspect", introspect: {answer: upstream, view: told}}
  - {match: "POST /auth/logout", write: {revoke: token}}
"""
USERS = range(1, 6)
_count = iter(range(10**9))


def new(user: int, **claims: Any) -> str:
    """A good token that nobody has seen."""
    return token_for(user, jti=str(next(_count)), scope="read", **claims)


async def taught(at: Bench, c: Client, *targets: str) -> None:
    """All users are in memory, and the walk has shown what the form of these heads opens."""
    for user in USERS:
        await at.get(f"/users/{user}", token=new(user))
    for target in ("/users/1", *targets):
        head = get(target, bearer(new(1)))
        for _ in range(4):
            answer = await c.ask(head)
        assert b"X-Cache: HIT" in answer, answer


def known(at: Bench) -> Any:
    """What proves tokens there."""
    found: Any = replays(at)._forms
    return found._judge._services.verifier


async def test_it_is_the_walks_answer_byte_for_byte(tmp_path: Path) -> None:
    """On each kind of route, for each user; and each is counted once, as what it is."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        user = (await at.get("/users/3", base=at.stub)).json()
        email, name = f"/users/by-email/{user['email']}", f"/users/{user['username']}"
        await taught(at, c, "/auth/me", name)
        await c.ask(get(email, bearer(new(3))))
        await c.ask(get(email, bearer(new(3))))
        before = at.app.telemetry.stats()
        asked = 0
        for target in ("/auth/me", "/users/3", name, email):
            for whose in (3, 3) if target == email else USERS:
                head = get(target, bearer(new(whose)))
                async with counting(at, 1):
                    first = await c.ask(head)
                async with counting(at, 0):
                    walked = await c.ask(head)
                assert _MOVING.sub(b"", walked) == _MOVING.sub(b"", first), head
                assert b'"id":%d,' % (whose if target == "/auth/me" else 3) in first.replace(b" ", b"")
                asked += 2
        after = at.app.telemetry.stats()
        # `counting` takes what was counted before it is added up.
        assert asked // 2 == after["x_cache"]["HIT"] - before["x_cache"]["HIT"]


async def test_the_second_use_makes_it_ready_and_the_first_keeps_nothing(tmp_path: Path) -> None:
    """Neither a note nor an answer: most tokens that come once never come again."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c)
        store: Any = at.app.cache.store

        def kept() -> tuple[int, int]:
            return len(replays(at)), sum(map(is_note, store._users["2"].slots))

        before = kept()
        heads = [get("/users/2", bearer(new(2))) for _ in range(20)]
        async with counting(at, 20):
            for head in heads:
                await c.ask(head)
        assert before == kept()
        async with counting(at, 0):
            await c.ask(heads[0])
        assert (before[0] + 1, before[1] + 1) == kept()
        async with counting(at, 1):
            await c.ask(heads[0])


def test_heads_are_remembered_by_little_and_few_too_briefly() -> None:
    """Each is new once; hardly one is forgotten while there is room, and beyond it the oldest are."""
    keys = [sha256(b"%d" % number).digest() for number in range(6000)]
    seen = Seen(2000)
    assert not any(map(seen.again, keys[:2000]))
    assert sum(map(seen.again, keys[:2000])) > 1900
    assert sum(map(seen.again, keys)) < 3000
    assert sum(map(seen.again, keys[-500:])) > 400


@pytest.mark.parametrize("what", BAD_TOKENS)
async def test_a_bad_token_is_the_walks(tmp_path: Path, what: str) -> None:
    """Refused where the proxy refuses, left to upstream where it only looks up; never a hit."""
    bad = BAD_TOKENS[what]
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        async with counting(at, 0):
            for _ in range(3):
                assert (await c.ask(get("/auth/me", bearer(bad)))).startswith(b"HTTP/1.1 401")
                assert b"X-Cache: HIT" not in await c.ask(get("/users/2", bearer(bad)))


async def test_a_bad_token_is_judged_once_and_by_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends many of them has no more than that done for it: a signature may be dear."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        verifier, judged = known(at), []
        verify = verifier.verify
        monkeypatch.setattr(verifier, "verify", lambda *told: judged.append(told) or verify(*told))
        await c.ask(get("/auth/me", bearer(BAD_TOKENS["wrong key"])))
        assert 2 == len(judged)


async def test_what_a_route_asks_of_a_token_is_asked_of_each(tmp_path: Path) -> None:
    """A scope, a role, whose it is: one token's right is not the next one's."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        users = {n: (await at.get(f"/users/{n}", base=at.stub)).json() for n in (1, 2, 3)}
        emails = {n: f"/users/by-email/{user['email']}" for n, user in users.items()}
        name = f"/users/{users[1]['username']}"
        await taught(at, c, "/auth/me", name)
        for _ in range(2):
            await c.ask(get(emails[1], bearer(new(1))))
        for target, token, hit in (
            (emails[2], new(2), True),
            (emails[2], new(3), False),
            (emails[3], new(2, role="support"), True),
            (emails[3], new(2, role="guest"), False),
            (name, new(2), True),
            (name, token_for(2, jti="a", scope="write"), False),
            ("/auth/me", token_for(2, jti="b"), False),
            ("/auth/me", new(2), True),
        ):
            async with counting(at, int(hit)):
                assert (b"X-Cache: HIT" in await c.ask(get(target, bearer(token)))) is hit, target


async def test_copies_of_callers_own_are_walked(tmp_path: Path) -> None:
    """As are answers of upstream's about one token: there is none for a new one."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        name = (await at.get("/users/1", base=at.stub)).json()["username"]
        await taught(at, c, "/auth/introspect")
        for target in (f"/profiles/{name}", "/auth/introspect"):
            async with counting(at, 0):
                for _ in range(4):
                    assert b"X-Cache: HIT" not in await c.ask(get(target, bearer(new(1))))


@pytest.mark.parametrize("how", ["logout", "password", "inactive", "gone", "evicted", "fenced"])
async def test_what_has_happened_to_its_user_counts(tmp_path: Path, how: str) -> None:
    """With the first request after it, for a token that was not seen before either."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        mine, others = new(2, iat=int(time.time())), new(3, iat=int(time.time()))
        store: Any = at.app.cache.store
        fence = None
        match how:
            case "logout":
                assert (await at.ask("POST", "/auth/logout", token=mine)).status < 300
                await at.get("/users/2", token=new(2))
            case "password":
                await store.revoke_user("2", time.time() + 1, time.time() + 1000, "", sure=True)
                await store.evict(["2"])
                await at.get("/users/2", token=new(2))
            case "inactive" | "gone":
                slot = store._users["2"].slots["users"]
                slot.entry = _changed(slot.entry, how)
            case "evicted":
                await store.evict(["2"])
            case "fenced":
                fence = await store.fence(Batch(("2",)))
        async with counting(at, 0):
            told = await c.ask(get("/auth/me", bearer(mine)))
        if how in ("logout", "inactive", "gone"):
            assert told.startswith(b"HTTP/1.1 401"), told
        else:
            assert b"X-Cache: HIT" not in told
        if how not in ("logout", "evicted"):
            async with counting(at, 0):
                assert b"X-Cache: HIT" not in await c.ask(get("/users/3", bearer(new(2, iat=1))))
        async with counting(at, 1):
            assert b"X-Cache: HIT" in await c.ask(get("/auth/me", bearer(others)))
        if fence is not None:
            await store.settle(fence, None)


def _changed(entry: Any, how: str) -> Any:
    return replace(entry, active=False) if how == "inactive" else replace(entry, status=404)


async def test_its_times_are_judged_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is over, or not yet good; to the second."""
    clock = Clock(float(int(time.time())))
    monkeypatch.setattr("proxy.app.time", SimpleNamespace(time=clock))
    for where in ("proxy.fastpath.time", "proxy.forms.time"):
        monkeypatch.setattr(where, clock)
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        now = int(clock.time)
        for claims, good in (
            ({"exp": now + 1}, True),
            ({"exp": now}, False),
            ({"nbf": now}, True),
            ({"nbf": now + 1}, False),
            ({"iat": now + 1}, False),
        ):
            async with counting(at, int(good)):
                answer = await c.ask(get("/auth/me", bearer(new(2, **claims))))
            assert answer.startswith(b"HTTP/1.1 200" if good else b"HTTP/1.1 401"), claims
        clock.time += 60
        async with counting(at, 0):
            assert b"X-Cache: HIT" not in await c.ask(get("/auth/me", bearer(new(2))))


async def test_without_keys_and_with_others_it_is_walked(tmp_path: Path) -> None:
    """Nobody is believed by a key that is in use no more."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        verifier = known(at)
        for keys in (KeySet(()), KeySet(verifier._keys.keys, dead=1.0)):
            verifier.use(keys)
            async with counting(at, 0):
                assert b"X-Cache: HIT" not in await c.ask(get("/auth/me", bearer(new(2))))


async def test_modes_and_samples_are_asked(tmp_path: Path) -> None:
    """Off and shadow are in force with the next request; hits that are to be logged are walked."""
    env = {"LOG_HITS": "25%"}
    async with (
        bench(routes=_ROUTES, tmp_path=tmp_path, env=env) as at,
        client(at) as c,
        TestClient(TestServer(at.app.admin)) as admin,
    ):
        await taught(at, c)
        async with counting(at, 15):
            for _ in range(20):
                await c.ask(get("/users/2", bearer(new(2))))
        for mode in ("off", "shadow"):
            await admin.post("/mode", json={"mode": mode})
            async with counting(at, 0):
                await c.ask(get("/users/2", bearer(new(2))))


@pytest.mark.parametrize(
    "lines",
    [
        ("Authorization: Bearer {}", "Authorization: Bearer {}"),
        ("Authorization: Bearer {}", "Authorization: Basic eDp5"),
        ("Authorization: Bearer\t{}",),
        ("Authorization: Bearer {} {}",),
        ("Authorization: Bearer {},",),
        ("Authorization : Bearer {}",),
        ("Authorization: Bearer \x00",),
        ("Authorization: \x00",),
        ("Authorization: DPoP {}",),
        ("Proxy-Authorization: Bearer {}",),
        ("X: y", "Authorization: Bearer {}"),
        ("Authorization: Bearer {}", "Cache-Control: no-cache"),
        ("Authorization: Bearer {}", 'If-None-Match: "x"'),
        ("Cookie: a=b", "Authorization: Bearer {}"),
    ],
)
async def test_another_line_is_another_form(tmp_path: Path, lines: tuple[str, ...]) -> None:
    """Nothing but the one token in its one place may differ."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at:
        async with client(at) as c:
            await taught(at, c)
        for turn in range(2):
            # Shown by the walk, two of them are known forms.
            fast = turn * (lines[0] in ("X: y", "Cookie: a=b"))
            token = new(2)
            async with client(at) as c, counting(at, fast):
                await c.ask(get("/users/2", *(line.format(token, token) for line in lines)))


async def test_a_head_that_looks_like_one_without_its_token_is_none(tmp_path: Path) -> None:
    """Where nobody is asked who they are, either."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c)
        for user in (1, 2):
            await c.ask(get(f"/open/{user}", bearer(new(1))))
        async with counting(at, 0):
            assert b"HTTP/1.1 400" in await c.ask(get("/open/3", "Authorization: Bearer \x00"))


async def test_a_longer_line_than_is_allowed_is_refused(tmp_path: Path) -> None:
    """Though its form is known."""
    routes = _ROUTES + "limits: {field: 1KiB}\n"
    async with bench(routes=routes, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c)
        async with counting(at, 1):
            await c.ask(get("/users/2", bearer(new(2))))
        async with counting(at, 0):
            assert b"HTTP/1.1 431" in await c.ask(get("/users/2", bearer(new(2, pad="x" * 1000))))


async def test_spellings_of_the_line_that_mean_the_same(tmp_path: Path) -> None:
    """Small letters, more blanks; each is a form of its own, and its token is read."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c)
        for line in (
            "authorization: bearer {}",
            "AUTHORIZATION:Bearer   {}",
            "Authorization: \t Bearer {}\t ",
        ):
            for user in (2, 3, 4):
                head = get("/users/2", line.format(new(user)))
                if user == 2:
                    # The first one shows the form.
                    await c.ask(head)
                    continue
                async with counting(at, 1):
                    assert b"X-Cache: HIT" in await c.ask(head)


@given(
    name=st.sampled_from(["Authorization", "authorization", "Authorisation"]),
    value=st.text(st.sampled_from('Bearer bearer\t ~+/=.-_09azAZ,;"é'), max_size=30)
    | st.tuples(
        st.text("\t ", max_size=2),
        st.sampled_from(["Bearer", "bEARER", "Bearer."]),
        st.text("\t ", max_size=3),
        st.text("azAZ09-._~+/=", max_size=9),
        st.text("\t ", max_size=2),
    ).map("".join),
)
def test_the_token_that_is_cut_out_is_the_one_that_the_walk_reads(name: str, value: str) -> None:
    """Or there is none, and the line stands as it is."""
    line = f"{name}: {value}".encode("latin-1")
    head = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\nX: y\r\n\r\n" % line
    read = read_bearer(Headers([(name.encode(), value.strip(" \t").encode("latin-1"))]))
    _, token = forms._taken_apart(head)
    assert token == (None if isinstance(read, Rejected) else read)


async def test_a_logout_elsewhere_is_asked_of_redis(valkey: Valkey, tmp_path: Path) -> None:
    """What no process but another one knows: a new token is good here once Redis has been asked."""
    async with (
        bench(routes=_ROUTES, tmp_path=tmp_path, redis=valkey.url) as at,
        client(at) as c,
        bench(routes=_ROUTES, tmp_path=tmp_path, redis=valkey.url) as other,
    ):
        await taught(at, c, "/auth/me")
        ended = new(2)
        await at.get("/users/2", token=new(2))
        assert (await other.ask("POST", "/auth/logout", token=ended)).status < 300
        await at.get("/users/2", token=new(2))
        assert (await c.ask(get("/auth/me", bearer(ended)))).startswith(b"HTTP/1.1 401")
        assert b"HTTP/1.1 200" in await c.ask(get("/auth/me", bearer(new(2))))


async def test_redis_is_not_asked_for_a_user_who_is_in_memory(valkey: Valkey, tmp_path: Path) -> None:
    """Only whether the token was logged out: that its user is active, the copy says."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path, redis=valkey.url) as at, client(at) as c:
        await taught(at, c)
        # Nothing is noted of what the service said to this user's tokens.
        await at.app.cache.evict(["2"])
        assert await at.app.cache.cache_user((await at.get("/users/2", base=at.stub)).json())
        before = _asked(valkey)
        for _ in range(3):
            assert b"X-Cache: HIT" in await c.ask(get("/users/2", bearer(new(2))))
        assert before == _asked(valkey)


def _asked(valkey: Valkey) -> int:
    """How often copies were asked for."""
    calls: int = valkey.ask("INFO", "commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
    return calls


async def test_a_padded_spelling_of_a_logged_out_token_is_bad(tmp_path: Path) -> None:
    """One hash stands for all of them here as well."""
    async with bench(routes=_ROUTES, tmp_path=tmp_path) as at, client(at) as c:
        await taught(at, c, "/auth/me")
        token = jwt.encode({"sub": "2", "exp": 4_000_000_000, "scope": "read", "n": 1}, SECRET)
        assert (await at.ask("POST", "/auth/logout", token=token)).status < 300
        await at.get("/users/2", token=new(2))
        async with counting(at, 0):
            assert (await c.ask(get("/auth/me", bearer(token + "=")))).startswith(b"HTTP/1.1 401")
