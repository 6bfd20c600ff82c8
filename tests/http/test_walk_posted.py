"""Introspection by POST through the whole proxy: whose answer is whose, and who gets none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest

from proxy.core.headers import Headers
from proxy.core.model import Request
from tests.answer import Answer
from tests.introspecting import Service, basic, dripped, post
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

ROUTES = """version: 1
user: {keys: {}, active: is_active}
views: {users: {ttl: 300s, negative_ttl: 60s}, told: {ttl: 300s, stale_while_revalidate: 60s}}
tokens: {secret_env: JWT_SECRET}
credential_headers: [X-Api-Key]
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users/{username}", lookup: {by: id, var: username, view: users}, access: anyone}
  - {match: "POST /introspect", introspect: {answer: rfc7662, view: users}}
  - {match: "POST /told", introspect: {answer: upstream, view: told}}
  - {match: "POST /shown", introspect: {answer: view, view: users}}
  - {match: "POST /users/introspect", introspect: {answer: rfc7662, view: users}}
  - {match: "POST /assets/introspect", introspect: {answer: rfc7662, view: users}}
  - {match: "GET /assets/{file:path}", resource: {}}
  - {match: "POST /logout", write: {revoke: token}}
""".replace("by: id, var: username", "by: id").replace("/users/{username}", "/users/{id}")

ME = basic("app")
GOOD = token_for(5)


async def ask(
    b: Bench, token: str, headers: dict[str, str] | None = None, target: str = "/introspect"
) -> Answer:
    """About a token; as the client `app` unless other headers are given."""
    return await post(b, target, f"token={token}", ME if headers is None else headers)


def user_of(valkey: Valkey) -> list[bytes]:
    """All that Redis has of user 5: names of slots, and what is in them."""
    return [*valkey.ask("HKEYS", "user:id:5"), *valkey.ask("HVALS", "user:id:5")]


def outcome(answer: Answer) -> tuple[int, str, str]:
    """Status, X-Cache, and the reason."""
    return answer.status, answer.x_cache, answer.cache_status.partition("detail=")[2]


async def test_who_was_answered_once_is_answered_from_here(b: Bench, s: Service) -> None:
    """About every token, out of claims and the copy of the user."""
    first, second = await ask(b, GOOD), await ask(b, GOOD)
    others = [await ask(b, token_for(5, jti=str(n))) for n in range(3)]

    assert ((200, "BYPASS", "caller-unknown"), "app") == (outcome(first), first.json()["seen"])
    # Nothing was looked up or learnt of the user while nobody knew who asks.
    assert ((200, "MISS", "absent"), "app") == (outcome(second), second.json()["seen"])
    assert ["0", "1", "2"] == [one.json()["jti"] for one in others]
    assert {("HIT", "u5", "no-store")} == {
        (one.x_cache, one.json()["username"], one.headers["Cache-Control"]) for one in others
    }
    assert 2 == len(s.asked)


@pytest.mark.parametrize("target", ["/introspect", "/told", "/shown"])
async def test_a_stranger_gets_nothing_from_here(b: Bench, s: Service, target: str) -> None:
    """However warm the cache is and whatever they ask about: upstream says what it says, all looks alike."""
    await b.get("/users/5")
    for _ in range(3):
        await ask(b, GOOD, target=target)
    s.asked.clear()
    tokens = [GOOD, token_for(5, exp=1), "garbage", token_for(5, jti="new"), token_for(404)]
    only = [{"Cache-Control": "only-if-cached"}]
    words = [{}, {"Cache-Control": "no-store"}, {"Cache-Control": "no-cache"}, {"Accept": "a/jwt"}, *only]
    strangers = [
        {},
        basic("app", "guess"),
        {"Authorization": "Bearer x"},
        {"X-Api-Key": "x"},
        {"Cookie": "a=b"},
    ]
    for headers, more in itertools.product(strangers, words):
        answers = [await ask(b, token, {**headers, **more}, target) for token in tokens]
        assert ({504} if more in only and headers else {401}) == {one.status for one in answers}
        heads = {tuple((k, v) for k, v in one.headers.items() if k != "Date") for one in answers}
        assert 1 == len(heads)

    assert "HIT" == (await ask(b, GOOD, target=target)).x_cache


async def test_two_callers_and_one_token(b: Bench, s: Service) -> None:
    """Each gets what upstream said to them, whatever proves them."""
    secret = f"token={GOOD}&client_id=form&client_secret={s.secret}"
    callers = [
        ("app", f"token={GOOD}", ME),
        ("other", f"token={GOOD}", basic("other")),
        ("key-1", f"token={GOOD}", {"X-Api-Key": "key-1"}),
        ("key-2", f"token={GOOD}", {"X-Api-Key": "key-2"}),
        ("form", secret, {}),
        ("form", f"client_id=form&client_secret={s.secret}&token={GOOD}", {}),
        ("form", secret + "&token_type_hint=access_token", {}),
        ("app", secret, ME),
    ]
    for _ in range(2):
        for name, body, headers in callers:
            assert name == (await post(b, "/told", body, headers)).json()["seen"]
    # Only the order of the parameters made no difference.
    assert len(callers) - 1 == len(s.asked)


async def test_one_caller_and_two_tokens(b: Bench, s: Service) -> None:
    """Two answers of two users; one that is alike but for a letter is a third."""
    for _ in range(2):
        for number in (5, 6):
            answer = await ask(b, token_for(number), target="/told")
            assert str(number) == answer.json()["sub"]
    assert 2 == len(s.asked)


@pytest.mark.parametrize(
    "token",
    [
        token_for(5, exp=1),
        token_for(5, nbf=3_900_000_000),
        jwt.encode({"sub": "5"}, "another-secret-that-is-long-enough-1234"),
        jwt.encode({"sub": "5"}, None, algorithm="none"),
        token_for(7),
        token_for(8),
    ],
)
@pytest.mark.parametrize("target", ["/introspect", "/told"])
async def test_a_bad_token_costs_upstream_nothing(b: Bench, s: Service, token: str, target: str) -> None:
    """For a caller who may ask it is inactive: the same bytes whatever is wrong with it."""
    s.active.discard(7)
    await b.get("/users/7")
    await b.ask("POST", "/logout", token=token_for(8))
    await ask(b, GOOD, target=target)
    s.asked.clear()

    answer = await ask(b, token, target=target)
    assert (200, "BYPASS", "token-inactive") == outcome(answer)
    assert b'{"active":false}' == answer.body
    assert [] == s.asked


async def test_a_view_for_callers(b: Bench, s: Service) -> None:
    """The user of the token out of the shared copy; what a bad token gets, only upstream knows."""
    await b.get("/users/5")
    first, second = [await ask(b, GOOD, target="/shown") for _ in range(2)]
    bad = await ask(b, token_for(5, exp=1), target="/shown")

    assert ("BYPASS", "HIT", 5) == (first.x_cache, second.x_cache, second.json()["id"])
    assert (200, "BYPASS", "token-inactive") == outcome(bad)
    assert 2 == len(s.asked)


async def test_somebody_elses_user_is_no_answer(b: Bench, s: Service) -> None:
    """What is made here would show the token's."""
    s.more = {"id": 6}
    await b.get("/users/5")
    for _ in range(2):
        assert ("BYPASS", "caller-unknown") == outcome(await ask(b, GOOD, target="/shown"))[1:]


async def test_a_refusal_is_one_of_all_tokens(b: Bench, s: Service) -> None:
    """Who is answered again about one kind of token was not answered about the others since."""
    await b.get("/users/5")
    one, other = token_for(5, aud="a"), token_for(5, aud="b")
    assert ["BYPASS", "HIT"] == [(await ask(b, one)).x_cache for _ in range(2)]
    secret, s.secret = s.secret, "another"
    assert 401 == (await ask(b, token_for(6, aud="a"))).status
    s.secret = secret
    await ask(b, other)

    assert "HIT" != (await ask(b, one)).x_cache


async def test_an_audience_that_the_caller_may_not_see(b: Bench, s: Service) -> None:
    """Upstream's word on tokens of one audience says nothing of those of another, nor does one issuer's."""
    await ask(b, token_for(5, aud="a"))
    assert "HIT" == (await ask(b, token_for(6, aud="a"))).x_cache or len(s.asked) == 2
    await b.get("/users/6")
    assert "HIT" == (await ask(b, token_for(6, aud="a"))).x_cache
    s.hidden.add("app")
    for claims in ({"aud": "b"}, {"aud": ["a"]}, {}, {"aud": "a", "iss": "i"}):
        answer = await ask(b, token_for(6, **claims))
        assert ({"active": False}, "MISS") == (answer.json(), answer.x_cache)


async def test_a_caller_who_is_refused_has_no_answers_left(b: Bench, s: Service) -> None:
    """From that refusal on; and an answer to an earlier question does not bring them back."""
    for target in ("/introspect", "/told"):
        for _ in range(2):
            await ask(b, GOOD, target=target)
        assert "HIT" == (await ask(b, GOOD, target=target)).x_cache
        s.secret = "another"
        assert 401 == (await ask(b, token_for(9), target=target)).status
        assert 401 == (await ask(b, GOOD, target=target)).status
        s.secret = "s3cret-of-a-client"


async def test_a_form_travels_as_it_came(b: Bench, s: Service) -> None:
    """Byte for byte, on every way through, with a length and in chunks."""
    forms = [
        f"token={GOOD}&scope=%7e%2F&empty=&token_type_hint=access_token".encode(),
        f"token=%{ord(GOOD[0]):02x}{GOOD[1:]}".encode(),
        b"token=a&token=b",
        b"token=a;token=b",
        b"token=",
        b"nothing=here",
        b"\xff\x00",
        b"",
        b"token=" + b"x" * 200_000,
    ]
    for form in forms:
        for send in (post, dripped):
            await send(b, "/introspect", form, basic(f"caller-{len(s.asked)}"))

    assert [form for form in forms for _ in range(2)] == [body for _, body in s.asked]


@pytest.mark.parametrize(
    "form",
    [
        b"token=%s&token=%s",
        b"token=%s;token=%s",
        b"token=%s&Token=%s",
        b"token=%s&token[]=%s",
        b"token=%s&%%74oken=%s",
    ],
)
async def test_a_form_that_may_be_read_differently_is_upstreams(b: Bench, s: Service, form: bytes) -> None:
    """A caller who may ask is not answered from here either."""
    await ask(b, GOOD)
    answer = await post(b, "/introspect", form % (GOOD.encode(), b"other"), ME)

    assert ("BYPASS", "request-form") == outcome(answer)[1:]
    assert 2 == len(s.asked)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("application/json", {}),
        ("text/plain", {}),
        ("application/x-www-form-urlencoded; charset=utf-16", {}),
        ("application/x-www-form-urlencoded", {"Content-Encoding": "gzip"}),
        ("application/x-www-form-urlencoded", {"Accept": "application/token-introspection+jwt"}),
        ("application/x-www-form-urlencoded", {"X-HTTP-Method-Override": "DELETE"}),
    ],
)
async def test_another_kind_of_request_is_upstreams(
    b: Bench, s: Service, kind: str, more: dict[str, str]
) -> None:
    """Other types, codings, answers and methods."""
    await ask(b, GOOD)
    answer = await post(b, "/introspect", f"token={GOOD}", {**ME, **more}, kind=kind)

    assert "BYPASS" == answer.x_cache
    # The service can't read two of them.
    assert 2 == len(s.asked) or answer.status in (400, 500)


@pytest.mark.parametrize("target", ["/introspect?token=x", "/introspect/", "/%69ntrospect"])
async def test_another_spelling_is_upstreams(b: Bench, s: Service, target: str) -> None:
    """A token in the URL as well, say: which of them counts is not known here."""
    await ask(b, GOOD)
    answer = await ask(b, GOOD, target=target)

    assert ("BYPASS", "no-route") == outcome(answer)[1:]


async def test_a_question_is_no_write(b: Bench, s: Service) -> None:
    """On the path of a look-up, and in the body the id of a user: nothing is fenced or evicted."""
    for number in (5, 6):
        await b.get(f"/users/{number}")
    s.gate = asyncio.Event()
    form = f"token={GOOD}&id=6"
    asking = asyncio.ensure_future(post(b, "/users/introspect", form, ME))
    await s.waiting.wait()
    during = [(await b.get(f"/users/{number}")).x_cache for number in (5, 6)]
    s.gate.set()
    await asking
    after = [(await b.get(f"/users/{number}")).x_cache for number in (5, 6)]

    assert (["HIT", "HIT"], ["HIT", "HIT"]) == (during, after)
    assert "HIT" == (await post(b, "/users/introspect", form, ME)).x_cache
    # Any other POST there is one.
    await b.ask("POST", "/users/6", json={"id": 6, "is_active": True})
    assert "MISS" == (await b.get("/users/6")).x_cache


async def test_a_question_invalidates_no_resource(b: Bench) -> None:
    """Any other POST of that URL does."""
    for _ in range(2):
        await b.get("/assets/introspect")
    await ask(b, GOOD, target="/assets/introspect")
    assert "HIT" == (await b.get("/assets/introspect")).x_cache

    await b.ask("POST", "/assets/introspect?x=y", json={})
    await b.ask("POST", "/assets/introspect/", json={})
    await b.ask("DELETE", "/assets/introspect")
    assert "MISS" == (await b.get("/assets/introspect")).x_cache


async def test_a_client_has_no_answer_yet(b: Bench, s: Service) -> None:
    """A POST is answered whole, whatever copy the client says it has."""
    s.headers = {"ETag": '"x"'}
    for _ in range(3):
        last = await ask(b, GOOD, {**ME, "If-None-Match": '"x"'}, "/told")

    assert (200, "HIT", "app") == (last.status, last.x_cache, last.json()["seen"])


async def test_an_answer_ends_with_the_earlier_exp(b: Bench, s: Service) -> None:
    """Of the token or of the answer, and reading renews nothing."""
    import time

    s.more = {"exp": int(time.time()) + 20}
    answer = await ask(b, GOOD, target="/told")
    ttl = int(answer.cache_status.split("ttl=")[1].split(";")[0])

    assert 15 <= ttl <= 20
    s.more = {"exp": int(time.time()) - 20}
    for _ in range(2):
        assert "no-ttl" in (await ask(b, token_for(6), target="/told")).cache_status


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_errors_are_not_kept(b: Bench, s: Service, status: int) -> None:
    """Nor is anybody accepted by one."""
    s.status = status
    for target in ("/introspect", "/told", "/introspect", "/told"):
        assert status == (await ask(b, GOOD, target=target)).status
    assert 4 == len(s.asked)


async def test_a_no_is_not_kept(b: Bench, s: Service) -> None:
    """A token that is not good yet may be in a moment."""
    s.active.clear()
    for target in ("/introspect", "/told"):
        for _ in range(2):
            assert {"active": False} == (await ask(b, GOOD, target=target)).json()
    assert 4 == len(s.asked)
    s.active.add(5)
    assert (await ask(b, GOOD)).json()["active"]


@pytest.mark.parametrize("repeated", [GOOD, "s3cret-of-a-client"])
async def test_an_answer_that_repeats_the_token_is_not_kept(b: Bench, s: Service, repeated: str) -> None:
    """Raw tokens are stored nowhere, nor what in the form proves who is asking."""
    s.more = {"said": repeated}
    form = f"token={GOOD}&client_id=app&client_secret=s3cret-of-a-client"
    for _ in range(2):
        answer = await post(b, "/told", form)
    assert ("MISS", "credentials-reflected") == outcome(answer)[1:]


async def test_a_stale_answer_is_asked_for_again_by_the_same_form(
    b: Bench, s: Service, tmp_path: Path
) -> None:
    """Behind the answer that is served meanwhile, as POST and with its body."""
    routes = ROUTES.replace("told: {ttl: 300s", "told: {ttl: 10ms")
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as short:
        await ask(short, GOOD, target="/told")
        await asyncio.sleep(0.02)
        assert "STALE" == (await ask(short, GOOD, target="/told")).x_cache
        for _ in range(500):
            if len(s.asked) > 1:
                break
            await asyncio.sleep(0.01)
    assert [("app", f"token={GOOD}".encode())] * 2 == s.asked


async def test_a_caller_by_a_token_of_their_own(b: Bench, s: Service) -> None:
    """It is looked at each time: logged out, expired or of an inactive user, it opens nothing."""
    mine = token_for(9)
    headers = {"Authorization": f"Bearer {mine}"}
    for _ in range(2):
        await ask(b, GOOD, headers)
    assert "HIT" == (await ask(b, GOOD, headers)).x_cache
    await b.ask("PATCH", "/users/9", json={"is_active": False}, token=token_for(1))
    assert 401 == (await ask(b, GOOD, headers)).status
    await b.ask("PATCH", "/users/9", json={"is_active": True}, token=token_for(1))
    for _ in range(3):
        last = await ask(b, GOOD, headers)
    assert "HIT" == last.x_cache
    await b.ask("POST", "/logout", token=mine)
    assert (401, "BYPASS", "caller-unknown") == outcome(await ask(b, GOOD, headers))


async def test_a_callers_token_beside_a_cookie_with_tokens(s: Service, tmp_path: Path) -> None:
    """Where tokens are in a cookie, that in Authorization is looked at as well."""
    routes = ROUTES + "token_from: {cookie: session}\n"
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        await b.get("/users/5")
        headers = {"Authorization": f"Bearer {token_for(9)}"}
        for _ in range(3):
            last = await ask(b, GOOD, headers)
        assert "HIT" == last.x_cache
        await b.ask("PATCH", "/users/9", json={"is_active": False})

        assert 401 == (await ask(b, GOOD, headers)).status


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ({"DPoP": "proof"}, ""),
        ({"Signature": "sig1=:x:", "Signature-Input": "sig1=()"}, ""),
        ({"Authorization": "DPoP t-9-a"}, ""),
        ({"Authorization": 'Digest username="app"'}, ""),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, ""),
        ({"Authorization": "Negotiate abc"}, ""),
        ({}, "&client_assertion=a.b.c&client_assertion_type=jwt-bearer"),
    ],
)
async def test_a_proof_that_is_good_once_is_not_taken_twice(
    b: Bench, s: Service, headers: dict[str, str], more: str
) -> None:
    """Whoever repeats it may be somebody else: upstream, which accepts each of these, sees it each time."""
    if "Authorization" in headers:
        s.secret = ""
    await b.get("/users/5")
    for _ in range(3):
        last = await post(b, "/introspect", f"token={GOOD}{more}", {**ME, **headers})

    assert ("BYPASS", "caller-unknown") == outcome(last)[1:]
    assert b'"active": true' in last.body
    assert 3 == len(s.asked)


async def test_a_token_without_the_scope_is_upstreams(s: Service, tmp_path: Path) -> None:
    """What is less than a route requires is not bad: what to say of it the service knows."""
    routes = ROUTES.replace("rfc7662, view: users}}\n", "rfc7662, view: users}, require: {scope: read}}\n", 1)
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        await b.get("/users/5")
        seen = [outcome(await ask(b, token_for(5, scope=one)))[1:] for one in ("read", "read", "", "write")]

    assert [("BYPASS", "caller-unknown"), ("HIT", ""), *[("BYPASS", "token-scope")] * 2] == seen


async def test_another_name_for_the_token(s: Service, tmp_path: Path) -> None:
    """`form` says which parameter it is; what else is called a token says who asks."""
    routes = ROUTES.replace('POST /told", introspect: {', 'POST /told", introspect: {form: access_token, ')
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        form = f"token={token_for(6)}&access_token={GOOD}"
        seen = [(await post(b, "/told", form, ME)).x_cache for _ in range(2)]
        other = await post(b, "/told", f"token={token_for(7)}&access_token={GOOD}", ME)
        plain = await post(b, "/told", f"token={GOOD}", ME)

    assert (["MISS", "HIT"], "MISS") == (seen, other.x_cache)
    assert ("BYPASS", "token-missing") == outcome(plain)[1:]


async def test_nobody_is_remembered_for_no_time(s: Service, tmp_path: Path) -> None:
    """`caller_ttl: 0s`: each question goes on."""
    routes = ROUTES.replace(
        'POST /introspect", introspect: {', 'POST /introspect", introspect: {caller_ttl: 0s, '
    )
    async with bench(routes=routes, tmp_path=tmp_path, upstream=s.app()) as b:
        for _ in range(3):
            assert "BYPASS" == (await ask(b, GOOD)).x_cache
    assert 3 == len(s.asked)


@pytest.mark.parametrize("mode", ["shadow", "off"])
async def test_other_modes_forward(s: Service, tmp_path: Path, mode: str) -> None:
    """And keep nothing."""
    async with bench(routes=ROUTES, tmp_path=tmp_path, upstream=s.app(), env={"MODE": mode}) as b:
        for _ in range(3):
            assert "BYPASS" == (await ask(b, GOOD, target="/told")).x_cache
    assert 3 == len(s.asked)


async def test_a_hit_that_is_left_to_upstream(s: Service, tmp_path: Path) -> None:
    """`holdback` sends the form that was read already."""
    async with bench(routes=ROUTES + "holdback: 100%\n", tmp_path=tmp_path, upstream=s.app()) as b:
        for _ in range(3):
            last = await ask(b, GOOD, target="/told")
    assert ("BYPASS", "holdback") == outcome(last)[1:]
    assert [f"token={GOOD}".encode()] * 3 == [body for _, body in s.asked]


OPAQUE = """version: 1
user: {keys: {}}
views: {users: {ttl: 300s}, told: {ttl: 300s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "POST /introspect", introspect: {answer: upstream, view: told}}
  - {match: "POST /logout", write: {revoke: token}}
"""


async def test_opaque_tokens(s: Service, tmp_path: Path) -> None:
    """Per caller and token, under the user's hash; a write of the user and the token's logout end it."""
    with Valkey() as valkey:
        async with bench(routes=OPAQUE, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            for caller in (ME, basic("other"), ME, basic("other")):
                assert "5" == (await ask(b, "t-5-a", caller)).json()["sub"]
            assert ["app", "other"] == [name for name, _ in s.asked]
            keys = valkey.ask("KEYS", "*")
            held = b" ".join([*keys, *user_of(valkey)])
            assert 1 == sum(key.startswith(b"user:token:") for key in keys)
            for raw in (b"t-5-a", b"app:s3cret", ME["Authorization"].encode()[6:]):
                assert raw not in held
            assert 401 == (await ask(b, "t-5-a", basic("app", "guess"))).status

            await b.ask("PATCH", "/users/5", json={"is_active": False})
            assert {"active": False} == (await ask(b, "t-5-a")).json()
            await ask(b, "t-6-a")
            await b.ask("POST", "/logout", headers={"Authorization": "Bearer t-6-a"})
            assert {"active": False} == (await ask(b, "t-6-a")).json()


async def test_nothing_raw_is_in_redis(s: Service, tmp_path: Path) -> None:
    """Neither the token that is asked about nor what the caller proves themselves with."""
    with Valkey() as valkey:
        async with bench(routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=s.app()) as b:
            form = f"token={GOOD}&client_id=form&client_secret={s.secret}"
            for target in ("/introspect", "/told", "/introspect", "/told"):
                await post(b, target, form)
        held = b" ".join([*valkey.ask("KEYS", "*"), *user_of(valkey)])
    for raw in (GOOD, s.secret, GOOD.split(".")[2]):
        assert raw.encode() not in held
    assert b'"username":"u5"' in held


async def test_a_caller_who_may_not_see_one_token(b: Bench, s: Service) -> None:
    """A good token that upstream calls inactive to this caller is not called active from here."""
    await b.get("/users/5")
    s.ended |= {GOOD, GOOD + "="}
    assert {"active": False} == (await ask(b, GOOD)).json()
    await ask(b, token_for(5, jti="other"))
    for _ in range(2):
        hidden, shown = await ask(b, GOOD), await ask(b, token_for(5, jti="third"))
        assert ({"active": False}, "HIT") == (hidden.json(), shown.x_cache)
    # The padding that was left away: another spelling of it.
    assert "MISS" == (await ask(b, GOOD + "%3D")).x_cache
    s.ended.clear()
    assert ["MISS", "HIT"] == [(await ask(b, GOOD)).x_cache for _ in range(2)]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("token=no-jwt-at-all", "token-malformed"),
        (f"token={GOOD}&token_type_hint=refresh_token", "request-form"),
        (f"token={'x' * 9000}", "request-form"),
        (f"token={token_for(5)}.a.b", "token-malformed"),
    ],
)
async def test_tokens_of_another_kind_are_upstreams(b: Bench, s: Service, form: str, reason: str) -> None:
    """A refresh token, say: that it can't be proven here does not make it bad."""
    await b.get("/users/5")
    await ask(b, GOOD)
    for _ in range(3):
        last = await post(b, "/introspect", form, ME)

    assert 4 == len(s.asked)
    assert ("BYPASS", reason) == outcome(last)[1:]


async def test_settings_that_are_read_again_forget_who_was_accepted(b: Bench, s: Service) -> None:
    """Who may ask may be another question now; the copies of users stay."""
    for _ in range(3):
        last = await ask(b, GOOD)
    assert "HIT" == last.x_cache
    await b.app.change(b.app._version.settings)

    assert [("BYPASS", "caller-unknown"), ("HIT", "")] == [outcome(await ask(b, GOOD))[1:] for _ in range(2)]


@asynccontextmanager
async def connected(b: Bench) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of one's own, with patience."""
    host, port = b.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


HEAD = (
    b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Authorization: " + ME["Authorization"].encode() + b"\r\n"
)


async def test_forms_one_behind_the_other(b: Bench, s: Service) -> None:
    """Pipelined, each with its own length, on one connection: each gets the answer about its own token."""
    for number in (5, 6, 7):
        await b.get(f"/users/{number}")
        await ask(b, token_for(number))
    tokens = [token_for(number, jti="p") for number in (5, 6, 7)]
    forms = [f"token={token}".encode() for token in tokens]
    sent = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % len(form) + form for form in forms)
    found = b""
    async with connected(b) as (reader, writer):
        writer.write(sent)
        while found.count(b'"jti":"p"') < 3:
            found += await reader.read(65536)

    subjects = [found.index(b'"sub":"%d"' % number) for number in (5, 6, 7)]
    assert (sorted(subjects), 3) == (subjects, found.count(b"X-Cache: HIT"))


async def test_a_client_waits_to_be_asked_for_its_form(b: Bench, s: Service) -> None:
    """`Expect: 100-continue` (RFC 9110 §10.1.1)."""
    form = f"token={GOOD}".encode()
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(form)
    async with connected(b) as (reader, writer):
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(form)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert [("app", form)] == s.asked


async def test_a_form_that_breaks_off_reaches_nobody(b: Bench, s: Service) -> None:
    """A chunk that is none, and a client who goes away in the middle."""
    async with connected(b) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\ntoken=\r\nzz\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    async with connected(b) as (_, writer):
        writer.write(HEAD + b"Content-Length: 500\r\n\r\ntoken=")
        await writer.drain()
    for _ in range(500):
        if not b.app.server.connections:
            break
        await asyncio.sleep(0.01)
    assert [] == s.asked


async def test_explain_asks_for_no_form(b: Bench) -> None:
    """A token and a secret belong into no URL of the admin socket."""
    told = await b.app.operators.duties.explain(Request("POST", "/introspect", Headers(())))

    assert ("UNKNOWN", "token", "rfc7662") == (told["would_be"], told["form"], told["answer"])
