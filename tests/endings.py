"""What ends a user's tokens, on three replicas over one Valkey, under readers that never stop asking."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.processes import SECRET, Proxy
from tests.valkey import Valkey

OTHER = 1  # a user whom nothing happens to
PATHS = ("/auth/me", "/auth/introspect", f"/users/by-email/user{OTHER}@example.com")
STANDARD = "/auth/standard"
# By a client of its own, who asks about the token in a form.
POSTED = ("/auth/posted", "/auth/told")
QUESTIONS = (*PATHS, STANDARD, *POSTED)
ENDINGS = ("deactivated", "deleted", "password", "logout")
COMMON = """version: 1
user: {keys: {email: {path: email}}, active: is_active}
views: {users: {ttl: 300s}, introspection: {ttl: 300s}}
tokens: {secret_env: JWT_SECRET}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /users/by-email/{email}", lookup: {by: email, view: users}, access: token}
  - {match: "GET /auth/me", introspect: {answer: view, view: users}}
  - {match: "GET /auth/introspect", introspect: {answer: upstream, view: introspection}}
"""
ROUTES = (
    COMMON
    + """\
  - {match: "GET /auth/standard", introspect: {answer: rfc7662, view: users, fields: []}}
  - {match: "POST /auth/posted", introspect: {answer: rfc7662, view: users, fields: [], caller_ttl: 1h}}
  - {match: "POST /auth/told", introspect: {answer: upstream, view: introspection}}
  - {match: "POST /auth/password", write: {revoke: user}}
  - {match: "POST /auth/logout", write: {revoke: token}}
"""
)


@dataclass
class Service:
    """Users by id. A token is good for as long as its user is there, active, has the password of then, and
    has not logged out."""

    users: dict[int, dict[str, Any]] = field(default_factory=dict)
    passwords: dict[int, int] = field(default_factory=dict)
    out: set[int] = field(default_factory=set)

    def add(self, number: int) -> str:
        """A new user, and a token of theirs."""
        self.users[number] = {"id": number, "email": f"user{number}@example.com", "is_active": True}
        self.passwords[number] = 0
        claims = {"sub": str(number), "exp": 4_000_000_000, "iat": int(time.time()), "password": 0}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def caller(self, request: web.Request, token: str = "") -> dict[str, Any]:
        """Whose token it is. Raises 401."""
        token = token or request.headers.get("Authorization", "").removeprefix("Bearer ")
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        user = self.users.get(int(claims["sub"]))
        if user is None or not user["is_active"] or claims["password"] != self.passwords[user["id"]]:
            raise web.HTTPUnauthorized
        if user["id"] in self.out:
            raise web.HTTPUnauthorized
        return user

    async def me(self, request: web.Request) -> web.Response:
        """The caller."""
        return web.json_response(self.caller(request))

    async def standard(self, request: web.Request) -> web.Response:
        """RFC 7662, by GET and by POST."""
        try:
            user = self.caller(request, str((await request.post()).get("token", "")))
        except web.HTTPUnauthorized:
            return web.json_response({"active": False})
        return web.json_response({"active": True, "sub": str(user["id"])})

    async def by_email(self, request: web.Request) -> web.Response:
        """Anybody, for those with a good token."""
        self.caller(request)
        email = request.match_info["email"]
        return web.json_response(next(one for one in self.users.values() if one["email"] == email))

    async def write(self, request: web.Request) -> web.Response:
        """GET, PUT or DELETE of a user."""
        number = int(request.match_info["id"])
        if request.method == "GET":
            found = self.users.get(number)
            return web.json_response(found or {"detail": "nobody"}, status=200 if found else 404)
        if request.method == "DELETE":
            del self.users[number]
            return web.Response(status=204)
        self.users[number] = {**self.users[number], **await request.json()}
        return web.json_response(self.users[number])

    async def password(self, request: web.Request) -> web.Response:
        """A new one: tokens of before are good no more."""
        self.passwords[self.caller(request)["id"]] += 1
        return web.Response(status=204)

    async def logout(self, request: web.Request) -> web.Response:
        """The token is good no more."""
        self.out.add(self.caller(request)["id"])
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/auth/me", self.me)
        app.router.add_get("/auth/introspect", self.me)
        app.router.add_get(STANDARD, self.standard)
        for path in POSTED:
            app.router.add_post(path, self.standard)
        app.router.add_get("/users/by-email/{email}", self.by_email)
        app.router.add_route("*", "/users/{id}", self.write)
        app.router.add_post("/auth/password", self.password)
        app.router.add_post("/auth/logout", self.logout)
        return app


class Raw:
    """A kept-alive connection that sends the same bytes again and again, so that the fast path may answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    async def ask(self) -> tuple[int, bool]:
        """The status, 401 also where a standard answer says it, and whether it was a hit."""
        self.writer.write(self.head)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        status = 401 if re.search(rb'"active": ?false', body) else int(head.split(b" ", 2)[1])
        return status, b"X-Cache: HIT" in head


def head_of(method: str, path: str, token: str = "", body: bytes = b"") -> bytes:
    """A request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: users"]
    kind = "json"
    if path in POSTED:
        lines += ["Authorization: Basic YXBwOnMzY3JldC1vZi1hLWNsaWVudA=="]
        kind, body, token = "x-www-form-urlencoded", f"token={token}".encode(), ""
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {len(body)}", f"Content-Type: application/{kind}"] if body else []
    return "\r\n".join((*lines, "", "")).encode() + body


@dataclass
class Seen:
    """What the readers saw of one ending; times in seconds after the write was answered.

    `hits` of before, `late` answers of 200 to requests that were sent after the answer, `last` when the last
    200 came in (of a request that was sent before), `after` answers to requests sent after the answer.
    """

    ending: str
    hits: int = 0
    after: int = 0
    late: list[tuple[str, float]] = field(default_factory=list)
    last: float | None = None


class World:
    """A service, a Valkey and three proxies in processes of their own."""

    def __init__(self, service: Service, urls: list[str]) -> None:
        self.service, self.urls = service, urls
        self._next = 100

    async def connect(self, stack: AsyncExitStack, url: str, head: bytes) -> Raw:
        """A connection that is closed with the stack."""
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        stack.callback(writer.close)
        return Raw(reader, writer, head)

    async def end(self, ending: str, replica: int, *, watched: int = 5) -> Seen:
        """Ends a new user's tokens by a write through one replica, while all are asked without a pause.

        Each reader goes on until it has `watched` answers to requests that it sent after the write's answer.
        Somebody else looks the user up on each replica meanwhile, so that the user is known again at once.
        """
        self._next += 1
        token = self.service.add(self._next)
        seen, answers = Seen(ending), []
        clock = asyncio.get_running_loop().time
        ended = asyncio.Event()

        async def read(raw: Raw, name: str) -> None:
            more = watched
            while more:
                more -= ended.is_set()
                sent = clock()
                status, hit = await raw.ask()
                answers.append((name, sent, clock(), status, hit))

        async def look(raw: Raw) -> None:
            for _ in range(watched):
                await ended.wait()
                await raw.ask()

        async with AsyncExitStack() as stack:
            readers = []
            others = [
                await self.connect(stack, url, head_of("GET", f"/users/{self._next}")) for url in self.urls
            ]
            for number, url in enumerate(self.urls):
                for path in QUESTIONS:
                    method = "POST" if path in POSTED else "GET"
                    raw = await self.connect(stack, url, head_of(method, path, token))
                    await self._warm(raw)
                    readers.append((raw, f"{path} on {number}"))
            writer = await self.connect(stack, self.urls[replica], self._write(ending, token))
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                for raw, name in readers:
                    group.create_task(read(raw, name))
                for raw in others:
                    group.create_task(look(raw))
                await asyncio.sleep(0.05)
                status, _ = await writer.ask()
                answered = clock()
                assert status in (200, 204), status
                ended.set()
        for name, sent, came, status, hit in answers:
            seen.hits += hit and came < answered
            seen.after += sent >= answered
            if status == 200:
                seen.last = max(came - answered, seen.last or came - answered)
                if sent >= answered:
                    seen.late.append((name, came - answered))
        return seen

    async def _warm(self, raw: Raw) -> None:
        """Until it is a hit; the first ones may wait for each other."""
        for _ in range(200):
            if await raw.ask() == (200, True):
                return
        raise AssertionError("never a hit")

    def _write(self, ending: str, token: str) -> bytes:
        if ending == "deactivated":
            return head_of("PUT", f"/users/{self._next}", token, json.dumps({"is_active": False}).encode())
        if ending == "deleted":
            return head_of("DELETE", f"/users/{self._next}", token)
        return head_of("POST", f"/auth/{ending}", token, b"{}")


@asynccontextmanager
async def world(folder: Path, replicas: int = 3) -> AsyncIterator[World]:
    """All of it, ready."""
    service = Service()
    service.add(OTHER)
    (folder / "routes.yaml").write_text(ROUTES)
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        origin = await stack.enter_async_context(TestServer(service.app()))
        upstream = str(origin.make_url("")).rstrip("/")
        proxies = [
            await asyncio.to_thread(
                stack.enter_context,
                Proxy.start(upstream, valkey.url, ROUTES_FILE=str(folder / "routes.yaml")),
            )
            for _ in range(replicas)
        ]
        yield World(service, [one.url for one in proxies])
