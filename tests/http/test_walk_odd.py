"""Answers that are not what a route expects, and the options that the packaged routes don't use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from proxy.core.model import Ref
from tests.walk import bench, token_for

ROUTES = """
version: 1
user: {id: id, keys: {email: {path: email, ignore_case: true}}, active: is_active, max_size: 2KiB}
views:
  users: {ttl: 300s, negative_ttl: 10s%s}
  short: {ttl: 60s, fields: [id, email]}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /short/{id:int}", lookup: {by: id, view: short}, access: anyone}
  - {match: "GET /raw/{id:int}", lookup: {by: id, view: users}, access: anyone, secrets: bypass}
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /careful/{id:int}", lookup: {by: id, view: users}}
  - {match: "POST /changes", write: {evict: [{id: request.user.id}]}}
  - {match: "POST /results", write: {evict: [{id: response.changed}]}}
  - {match: "POST /on/{id}", write: {evict: [{id: path.id}]}}
"""


class Service:
    """Answers every GET with `answer`, counts them, and answers writes with `written`."""

    def __init__(self, answer: Callable[[web.Request], web.Response]) -> None:
        self.answer = answer
        self.written: Any = {}
        self.asked = 0

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()

        async def get(request: web.Request) -> web.Response:
            self.asked += 1
            return self.answer(request)

        async def post(request: web.Request) -> web.Response:
            await request.read()
            return web.json_response(self.written)

        app.router.add_get("/{tail:.*}", get)
        app.router.add_post("/{tail:.*}", post)
        return app


def said(value: Any, **more: Any) -> Callable[[web.Request], web.Response]:
    """The same JSON for every request."""
    return lambda _: web.Response(body=orjson.dumps(value), content_type="application/json", **more)


USER = {"id": 5, "email": "a@example.com", "is_active": True}

ODD: dict[str, tuple[Callable[[web.Request], web.Response], str]] = {
    "not JSON": (lambda _: web.Response(text="<p>hello</p>"), "not-json"),
    "no id": (said({"email": "a@example.com"}), "not-a-user"),
    "an array": (said([USER]), "not-a-user"),
    "id is null": (said({**USER, "id": None}), "not-a-user"),
    "id is a float": (said({**USER, "id": 5.0}), "not-a-user"),
    "another user": (said({**USER, "id": 6}), "other-user"),
    "a cookie": (said(USER, headers={"Set-Cookie": "a=1"}), "set-cookie"),
    "private": (said(USER, headers={"Cache-Control": "private"}), "private"),
    "no-store": (said(USER, headers={"Cache-Control": "no-store"}), "no-store"),
    "varies": (said(USER, headers={"Vary": "*"}), "vary"),
    "varies by language": (said(USER, headers={"Vary": "Accept-Language"}), "vary"),
    "encoded": (said(USER, headers={"Content-Encoding": "x-odd"}), "content-encoding"),
    "an error": (said({"detail": "no"}, status=500), "status"),
    "partial": (said(USER, status=206), "status"),
    "already old": (said(USER, headers={"Cache-Control": "max-age=5", "Age": "9"}), "no-ttl"),
    "too large": (said({**USER, "bio": "x" * 4000}), "too-large"),
}


@pytest.mark.parametrize("name", sorted(ODD))
async def test_an_odd_answer_is_passed_on_and_not_stored(name: str, tmp_path: Path) -> None:
    """As it came, each time, with the reason in Cache-Status and in a counter."""
    answer, reason = ODD[name]
    service = Service(answer)
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        for _ in range(2):
            direct = await b.ask("GET", "/users/5", base=b.stub)
            through = await b.get("/users/5")

            assert (direct.status, direct.body) == (through.status, through.body)
            assert "MISS" == through.x_cache
            assert f"detail={reason}" in through.cache_status
        assert 4 == service.asked
        assert 2 == b.app.telemetry.stats()["not_stored"][reason]


async def test_upstreams_own_lifetime_is_a_ceiling(tmp_path: Path) -> None:
    """A view keeps an answer no longer than upstream allows."""
    service = Service(said(USER, headers={"Cache-Control": "max-age=20"}))
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        assert "ttl=20;" in (await b.get("/users/5")).cache_status


async def test_an_answer_with_an_unlisted_field_is_not_stored(tmp_path: Path) -> None:
    """`fields` is an allowlist: what nobody thought of is passed on, not stored."""
    service = Service(said({"id": 5, "email": "a@example.com"}))
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        listed = await b.get("/short/5")
        service.answer = said({"id": 6, "email": "a@example.com", "phone": "+1"})
        other = await b.get("/short/6")

        assert "; stored; ttl=60" in listed.cache_status
        assert "detail=field-not-listed" in other.cache_status


async def test_bypass_leaves_secrets_and_stores_nothing(tmp_path: Path) -> None:
    """`secrets: bypass` forwards such an answer untouched."""
    secret = {**USER, "password_hash": "scrypt$x"}
    service = Service(said(secret))
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        raw, again = await b.get("/raw/5"), await b.get("/raw/5")
        stripped = await b.get("/users/5")

        assert secret == raw.json() == again.json()
        assert "detail=secret-found" in again.cache_status
        assert USER == stripped.json()


async def test_credentials_meet_no_shared_copy_without_a_rule(tmp_path: Path) -> None:
    """Without `access`, a request with credentials is neither answered from nor stored in the shared copy."""
    service = Service(said(USER))
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        with_token = [await b.get("/careful/5", token=token_for(5)) for _ in range(2)]
        without = [await b.get("/careful/5") for _ in range(2)]
        again = await b.get("/careful/5", headers={"Cookie": "a=1"})

        assert ["MISS", "MISS"] == [one.x_cache for one in with_token]
        assert "detail=authorization" in with_token[0].cache_status
        assert ["MISS", "HIT"] == [one.x_cache for one in without]
        assert ("MISS", 4) == (again.x_cache, service.asked)


async def test_a_header_of_ones_own_may_be_a_credential(tmp_path: Path) -> None:
    """`credential_headers`: it shares nothing without a rule, and tells the callers of `caller` apart."""
    service = Service(said(USER))
    routes = f"{ROUTES % ''}credential_headers: [X-Api-Key]\n"
    caller = '  - {match: "GET /mine/{id:int}", lookup: {by: id, view: users}, access: caller}\n'
    routes = routes.replace("routes:\n", f"routes:\n{caller}")
    async with bench(routes=routes, tmp_path=tmp_path, upstream=service.app()) as b:

        async def seen(path: str, *keys: str) -> list[str]:
            return [(await b.get(path, headers={"X-Api-Key": key} if key else {})).x_cache for key in keys]

        assert ["MISS", "HIT"] == await seen("/careful/5", "", "")
        assert ["MISS", "MISS"] == await seen("/careful/5", "one", "one")
        assert ["MISS", "HIT", "MISS", "HIT"] == await seen("/mine/5", "one", "one", "two", "two")


async def test_a_public_answer_may_be_shared_all_the_same(tmp_path: Path) -> None:
    """RFC 9111 §3.5: upstream says so itself."""
    service = Service(said(USER, headers={"Cache-Control": "public, max-age=60"}))
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        answers = [await b.get("/careful/5", token=token_for(n)) for n in (5, 6)]

        assert ["MISS", "HIT"] == [one.x_cache for one in answers]


@pytest.mark.parametrize(
    ("target", "sent", "written"),
    [
        ("/changes", {"user": {"id": 5}}, {}),
        ("/changes", {"user": {"id": "5"}}, {}),
        ("/results", {}, {"changed": [5, 9]}),
        ("/on/5", {}, {}),
        ("/on/%35", {}, {}),
    ],
)
async def test_a_write_names_its_user_in_many_places(
    target: str, sent: Any, written: Any, tmp_path: Path
) -> None:
    """In the request's JSON, in the answer's, in the path; other users stay."""
    service = Service(lambda r: said({**USER, "id": int(r.path.split("/")[-1])})(r))
    service.written = written
    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=service.app()) as b:
        for user in (5, 6):
            await b.get(f"/users/{user}")
        await b.ask("POST", target, json=sent)

        assert ["MISS", "HIT"] == [(await b.get(f"/users/{user}")).x_cache for user in (5, 6)]


async def test_stale_while_revalidate_answers_and_fetches(tmp_path: Path) -> None:
    """A copy that ran out is served once more, and upstream is asked behind the answer, once."""
    service = Service(said(USER, headers={"Cache-Control": "max-age=1"}))
    options = ", stale_while_revalidate: 100s"
    async with bench(routes=ROUTES % options, tmp_path=tmp_path, upstream=service.app()) as b:
        await b.get("/users/5")
        await _run_out(b)
        stale = await b.get("/users/5")
        for _ in range(500):
            if service.asked == 2:
                break
            await asyncio.sleep(0.005)

        assert ("STALE", 2) == (stale.x_cache, service.asked)
        assert "hit; ttl=-" in stale.cache_status


async def test_stale_if_error_stands_in_for_a_failure(tmp_path: Path) -> None:
    """Upstream fails: the copy that ran out is served; a write in between makes that impossible."""
    service = Service(said(USER, headers={"Cache-Control": "max-age=1"}))
    options = ", stale_if_error: 100s"
    async with bench(routes=ROUTES % options, tmp_path=tmp_path, upstream=service.app()) as b:
        await b.get("/users/5")
        await _run_out(b)
        service.answer = said({"detail": "down"}, status=503)
        stale = await b.get("/users/5")
        await b.ask("POST", "/on/5", json={})
        after = await b.get("/users/5")

        assert ("STALE", 200) == (stale.x_cache, stale.status)
        assert ("MISS", 503) == (after.x_cache, after.status)


async def test_the_time_that_a_request_took_is_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the answer may be as old as the request when it arrives (RFC 9111 §4.2.3)."""
    ahead, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def slow(request: web.Request) -> web.Response:
        ahead[0] += 20
        lines = {"Age": "10", "Cache-Control": "max-age=60", "Date": "Thu, 01 Jan 2099 00:00:00 GMT"}
        return said(USER, headers=lines)(request)

    async with bench(routes=ROUTES % "", tmp_path=tmp_path, upstream=Service(slow).app()) as b:
        await b.get("/users/5")
        hit = await b.get("/users/5")

    assert "HIT" == hit.x_cache
    assert 30 <= int(hit.headers["Age"]) < 40
    assert int(hit.cache_status.rpartition("ttl=")[2]) <= 30


async def _run_out(b: Any) -> None:
    """Until the copy of a second ago is no hit any more."""
    for _ in range(1000):
        answer = await b.get("/users/5", headers={"Cache-Control": "only-if-cached, min-fresh=1"})
        if answer.status == 504:
            break
        await asyncio.sleep(0.005)
    stored = (await b.app.cache.get(Ref("id", "5", "users"))).entry
    while time.time() < stored.expires:  # noqa: ASYNC110 - the wall clock sets no Event
        await asyncio.sleep(0.005)
