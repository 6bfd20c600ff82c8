"""A service that introspects tokens and ends them; each test says how its tokens look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from aiohttp import web


class TokenService(ABC):
    """Accepts a token until it is logged out. `asked` counts introspections."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended: set[str] = set()
        self.logout = 204

    def token(self, request: web.Request) -> str:
        """The token, from where this service reads it."""
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    @abstractmethod
    def told(self, token: str) -> dict[str, Any] | None:
        """What it says of a token; None for one that is none."""

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662's members; 401 for a token that was logged out."""
        self.asked += 1
        token = self.token(request)
        told = None if token in self.ended else self.told(token)
        return web.Response(status=401) if told is None else web.json_response(told)

    async def user(self, request: web.Request) -> web.Response:
        """A user, also after a write."""
        told = {"id": int(request.match_info["id"]), "email": "a@example.com", "is_active": True}
        return web.json_response(told)

    async def out(self, request: web.Request) -> web.Response:
        """Ends the token, unless told to refuse."""
        if self.logout == 204:
            self.ended.add(self.token(request))
        return web.Response(status=self.logout)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/auth/introspect", self.introspect)
        app.router.add_post("/auth/logout", self.out)
        app.router.add_get("/users/{id}", self.user)
        app.router.add_patch("/users/{id}", self.user)
        return app
