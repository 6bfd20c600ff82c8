"""Introspection by POST over two replicas: what ends through one has ended on both by the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.answer import Answer
from tests.introspecting import Service, basic, post
from tests.valkey import Valkey
from tests.walk import Bench, bench, token_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVEN = """version: 1
user: {keys: {}, active: is_active}
views: {users: {ttl: 300s, negative_ttl: 60s}, told: {ttl: 300s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "POST /introspect", introspect: {answer: rfc7662, view: users}}
  - {match: "POST /told", introspect: {answer: upstream, view: told}}
  - {match: "POST /logout", write: {revoke: token}}
"""
OPAQUE = PROVEN.replace("tokens: {secret_env: JWT_SECRET}\n", "")
OPAQUE = OPAQUE.replace("answer: rfc7662, view: users", "answer: upstream, view: told")
TARGETS = ("/introspect", "/told")


class Fleet:
    """Two replicas on one Valkey, in front of one service. Each test has users and callers of its own."""

    def __init__(self, service: Service, replicas: list[Bench], kind: str) -> None:
        self.service = service
        self.one, self.two = replicas
        self.kind = kind
        self._user = 10

    def user(self) -> tuple[int, str]:
        """A user, and a token of theirs."""
        self._user += 1
        return self._user, token_for(self._user) if self.kind == "proven" else f"t-{self._user}-a"

    async def asked(self, target: str, token: str, caller: dict[str, str]) -> list[Answer]:
        """By both."""
        return [await post(b, target, f"token={token}", caller) for b in (self.one, self.two)]

    async def warm(self, target: str, token: str, caller: dict[str, str]) -> None:
        """Both answer this caller from here."""
        for _ in range(4):
            last = await self.asked(target, token, caller)
        assert [(True, "HIT")] * 2 == [(one.json()["active"], one.x_cache) for one in last]

    async def deactivate(self, number: int) -> None:
        """Through the first."""
        answer = await self.one.ask("PATCH", f"/users/{number}", json={"is_active": False})
        assert 200 == answer.status

    async def log_out(self, token: str) -> None:
        """Through the second."""
        answer = await self.two.ask("POST", "/logout", headers={"Authorization": f"Bearer {token}"})
        assert 204 == answer.status


@pytest_asyncio.fixture(name="f", scope="module", loop_scope="module", params=["proven", "opaque"])
async def _f(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Fleet]:
    service = Service()
    routes = PROVEN if request.param == "proven" else OPAQUE
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        replicas = []
        for _ in range(2):
            path: Path = tmp_path_factory.mktemp("replica")
            started = bench(redis=valkey.url, upstream=service.app(), routes=routes, tmp_path=path)
            replicas.append(await stack.enter_async_context(started))
        yield Fleet(service, replicas, request.param)


@pytest.mark.parametrize("target", TARGETS)
async def test_a_user_is_deactivated(f: Fleet, target: str) -> None:
    """A caller who was answered on the other replica hears of it with the next question."""
    number, token = f.user()
    caller = basic(f"app-{number}")
    await f.warm(target, token, caller)
    await f.deactivate(number)

    assert [{"active": False}] * 2 == [one.json() for one in await f.asked(target, token, caller)]
    for b in (f.one, f.two):
        await b.get(f"/users/{number}")
    assert [{"active": False}] * 2 == [one.json() for one in await f.asked(target, token, caller)]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_token_is_logged_out(f: Fleet, target: str) -> None:
    """The same; another token of that user is good still."""
    number, token = f.user()
    caller = basic(f"app-{number}")
    await f.warm(target, token, caller)
    await f.log_out(token)
    for b in (f.one, f.two):
        await b.get(f"/users/{number}")

    assert [{"active": False}] * 2 == [one.json() for one in await f.asked(target, token, caller)]
    other = token_for(number, jti="other") if f.kind == "proven" else f"t-{number}-b"
    assert [True] * 2 == [one.json()["active"] for one in await f.asked(target, other, caller)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("end", ["deactivated", "logged out"])
async def test_a_callers_own_token_ends(f: Fleet, target: str, end: str) -> None:
    """They are nobody any more, says upstream. Opaque ones can't be looked at, and keep what they had."""
    (number, mine), (_, token) = f.user(), f.user()
    caller = {"Authorization": f"Bearer {mine}"}
    await f.warm(target, token, caller)
    await (f.deactivate(number) if end == "deactivated" else f.log_out(mine))

    left = 401 if f.kind == "proven" else 200
    assert [left, left] == [one.status for one in await f.asked(target, token, caller)]


async def test_what_the_service_said_is_one_callers(f: Fleet) -> None:
    """On every replica: another caller is another question."""
    number, token = f.user()
    for name in ("app", "other"):
        caller = basic(f"{name}-{number}")
        first = await post(f.one, "/told", f"token={token}", caller)
        second = await post(f.two, "/told", f"token={token}", caller)
        assert ("MISS", "HIT") == (first.x_cache, second.x_cache)
        assert f"{name}-{number}" == second.json()["seen"]


async def test_many_callers_of_one_cold_token(f: Fleet) -> None:
    """Each has an answer of their own, and waits for nobody else's."""
    number, token = f.user()
    names = [f"caller-{n}-of-{number}" for n in range(4)]
    async with asyncio.timeout(2):
        answers = await asyncio.gather(*(f.asked("/told", token, basic(name)) for name in names))

    assert [[name] * 2 for name in names] == [[one.json()["seen"] for one in each] for each in answers]
