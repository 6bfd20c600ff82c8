"""A service with an introspection endpoint that asks who is asking, and says in each answer whom it saw."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from yarl import URL

from tests.answer import Answer
from tests.walk import Bench

FORM = "application/x-www-form-urlencoded"


def basic(name: str, secret: str = "s3cret-of-a-client") -> dict[str, str]:
    """The header of a client."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@dataclass
class Service:
    """Users in every number; tokens are JWTs, or `t-{user}-{n}`. What it says is the test's to change."""

    secret: str = "s3cret-of-a-client"
    active: set[int] = field(default_factory=lambda: set(range(1, 1000)))
    ended: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    """Clients that may see no token."""
    more: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    """The caller and the very body of each introspection."""
    users: int = 0
    gate: asyncio.Event | None = None
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662 §2.1."""
        body = await request.read()
        form = dict(await request.post()) if body.isascii() else {}
        caller = self._caller(request, form)
        self.asked.append((caller or "nobody", body))
        if caller is None:
            return web.json_response({"error": "invalid_client"}, status=401, headers={"X-Seen": "nobody"})
        token = str(form.get("token", ""))
        user = _user_of(token)
        answer: dict[str, Any] = {"active": False}
        if user in self.active and token not in self.ended and caller not in self.hidden:
            answer = {"active": True, "sub": str(user), "username": f"u{user}", "seen": caller, **self.more}
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        return web.json_response(answer, status=self.status, headers=self.headers)

    def _caller(self, request: web.Request, form: dict[str, Any]) -> str | None:
        given = request.headers.get("Authorization", "")
        if given.startswith("Basic "):
            name, _, secret = base64.b64decode(given[6:]).decode().partition(":")
            return name if secret == self.secret else None
        if given.startswith("Bearer "):
            user = _user_of(given[7:])
            return f"user-{user}" if user in self.active and given[7:] not in self.ended else None
        if request.headers.get("X-Api-Key", "").startswith("key-"):
            return request.headers["X-Api-Key"]
        if form.get("client_secret") == self.secret:
            return str(form["client_id"])
        return "the-world" if self.secret == "" else None

    async def user(self, request: web.Request) -> web.Response:
        """A user, also after a write."""
        self.users += 1
        number = int(request.match_info["id"])
        if request.method != "GET":
            active = (await request.json())["is_active"]
            self.active.add(number) if active else self.active.discard(number)
        return web.json_response({"id": number, "username": f"u{number}", "is_active": number in self.active})

    async def shown(self, request: web.Request) -> web.Response:
        """The token's user, to a caller."""
        form = dict(await request.post())
        caller = self._caller(request, form)
        self.asked.append((caller or "nobody", await request.read()))
        if caller is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        number = _user_of(str(form.get("token", "")))
        told = {"id": number, "username": f"u{number}", "is_active": number in self.active, **self.more}
        return web.json_response(told)

    async def asset(self, _: web.Request) -> web.Response:
        """Something that may be kept."""
        return web.Response(text="x", headers={"Cache-Control": "max-age=60"})

    async def out(self, request: web.Request) -> web.Response:
        """Ends the token."""
        self.ended.add(request.headers["Authorization"].removeprefix("Bearer "))
        return web.Response(status=204)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=10**7)
        for path in ("/introspect", "/told", "/introspect/", "/users/introspect"):
            app.router.add_post(path, self.introspect)
        app.router.add_post("/shown", self.shown)
        app.router.add_get("/users/{id}", self.user)
        app.router.add_patch("/users/{id}", self.user)
        app.router.add_post("/users/{id}", self.user)
        app.router.add_post("/logout", self.out)
        app.router.add_post("/assets/introspect", self.introspect)
        app.router.add_route("*", "/assets/introspect", self.asset)
        return app


def _user_of(token: str) -> int:
    try:
        if token.startswith("t-"):
            return int(token.split("-")[1])
        return int(jwt.decode(token, options={"verify_signature": False})["sub"])
    except (ValueError, KeyError, IndexError, jwt.PyJWTError):
        return 0


async def post(
    b: Bench, target: str, body: bytes | str, headers: dict[str, str] | None = None, *, kind: str = FORM
) -> Answer:
    """Sends a form, byte for byte."""
    data = body.encode() if isinstance(body, str) else body
    sent = {"Content-Type": kind, **(headers or {})}
    async with b.session.post(URL(b.url + target, encoded=True), data=data, headers=sent) as response:
        return Answer(response.status, response.headers, await response.read())


async def dripped(b: Bench, target: str, body: bytes, headers: dict[str, str]) -> Answer:
    """The same in small chunks, the first of one byte."""
    size = max(1, len(body) // 100)

    async def pieces() -> Any:
        yield body[:1]
        for start in range(1, len(body), size):
            yield body[start : start + size]

    sent = {"Content-Type": FORM, **headers}
    async with b.session.post(b.url + target, data=pieces(), headers=sent) as response:
        return Answer(response.status, response.headers, await response.read())
