"""Access x credential x state of the cache: every cell is asked through the whole proxy, and told in a line.

Each cell has users of its own, so that one proxy serves them all. The origin names in each answer the caller
whom it answered (`seen`), so that an answer which was meant for somebody else can't hide.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from aiohttp import web

from proxy.core.headers import Headers
from proxy.core.model import Batch, Request
from tests.answer import Answer
from tests.introspecting import basic, post
from tests.keys import jwk, jwks, private
from tests.walk import Bench

EXPECTED = Path(__file__).with_name("expected.txt")
# Answers about tokens as RFC 7662 has them. `post-…`: the token is in a form of a caller whom the service
# answered; `stranger`: of one whom it did not.
ASKS = ("rfc7662", "post-rfc7662", "post-upstream", "post-view", "stranger")
ACCESS = ("anyone", "token", "owner", "allow", "caller", "unset", "view", "upstream", *ASKS)
CREDENTIALS = (
    *("none", "good", "other", "admin", "expired", "not-yet", "wrong-key", "wrong-alg", "alg-none"),
    *("revoked", "inactive", "deleted", "unknown-kid", "garbage", "huge"),
)
STATES = ("cold", "warm", "fenced", "down")
INTROSPECTS = ("view", "upstream")

ROUTES = """version: 1
user: {keys: {}, active: is_active}
views: {users: {ttl: 300s, negative_ttl: 60s}, told: {ttl: 300s}}
tokens: {jwks_url: "{stub}/jwks", algorithms: [ES256]}
routes:
  - {match: "GET /anyone/{id:int}", lookup: {by: id, view: users}, access: anyone}
  - {match: "GET /token/{id:int}", lookup: {by: id, view: users}, access: token}
  - {match: "GET /owner/{id:int}", lookup: {by: id, view: users}, access: owner}
  - match: "GET /allow/{id:int}"
    lookup: {by: id, view: users}
    access: owner
    allow: {claim: role, any: [admin]}
  - {match: "GET /caller/{id:int}", lookup: {by: id, view: users}, access: caller}
  - {match: "GET /unset/{id:int}", lookup: {by: id, view: users}}
  - {match: "GET /view", introspect: {answer: view, view: users}}
  - {match: "GET /upstream", introspect: {answer: upstream, view: told}}
  - {match: "GET /rfc7662", introspect: {answer: rfc7662, view: users}}
  - {match: "POST /post-rfc7662", introspect: {answer: rfc7662, view: users, caller_ttl: 1h}}
  - {match: "POST /post-upstream", introspect: {answer: upstream, view: told, caller_ttl: 1h}}
  - {match: "POST /post-view", introspect: {answer: view, view: users, caller_ttl: 1h}}
  - {match: "POST /stranger", introspect: {answer: rfc7662, view: users, caller_ttl: 1h}}
  - {match: "POST /logout", write: {revoke: token}}
"""


class Echo:
    """A service that refuses nobody and says whom it saw. Users x2 are inactive, users x3 are gone."""

    def __init__(self) -> None:
        self.calls = 0

    async def user(self, request: web.Request) -> web.Response:
        """The user of the path, or of the token."""
        self.calls += 1
        if request.method == "POST":
            token = str((await request.post()).get("token", ""))
            claims = _said(f"Bearer {token}" if token else "")
        else:
            claims = _said(request.headers.get("Authorization", ""))
        number = int(request.match_info.get("id") or claims.get("sub", 0))
        if "view" not in request.path and request.path.removeprefix("/") in ASKS:
            active = {"active": True, "sub": str(number)} if number % 10 not in (2, 3) else {"active": False}
            return web.json_response({**active, "seen": claims.get("jti", "none")})
        if number % 10 == 3:
            return web.json_response({"detail": "nobody", "seen": claims.get("jti")}, status=404)
        seen = claims.get("jti", "none")
        return web.json_response({"id": number, "is_active": number % 10 != 2, "seen": seen})

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        for path in ("/view", "/upstream", "/rfc7662", "/{kind}/{id}"):
            app.router.add_get(path, self.user)
        for kind in ASKS[1:]:
            app.router.add_post(f"/{kind}", self.user)
        app.router.add_get("/jwks", self.keys)
        app.router.add_post("/logout", self.out)
        return app

    async def keys(self, _: web.Request) -> web.Response:
        """The key set."""
        return web.Response(body=jwks(jwk("p256", "k")), content_type="application/json")

    async def out(self, _: web.Request) -> web.Response:
        """Every logout is fine."""
        return web.Response(status=204)


def _said(authorization: str) -> dict[str, Any]:
    try:
        part = authorization.split(" ")[1].split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    except (ValueError, IndexError):
        return {"jti": "unreadable"} if authorization else {}
    return claims


@dataclass(frozen=True)
class Cell:
    """One cell; its users have numbers that begin with `number`."""

    access: str
    credential: str
    state: str
    number: int

    def user(self, kind: int) -> int:
        """0 the one asked about, 1 another, 2 inactive, 3 gone."""
        return self.number * 10 + kind

    @property
    def target(self) -> str:
        """What is asked for."""
        alone = self.access in (*INTROSPECTS, *ASKS)
        return f"/{self.access}" if alone else f"/{self.access}/{self.user(0)}"

    def token(self, credential: str | None = None) -> str | None:
        """The token of a credential."""
        name = credential or self.credential
        now = int(time.time())
        whose = {"other": 1, "admin": 1, "inactive": 2, "deleted": 3}.get(name, 0)
        claims: dict[str, Any] = {"sub": str(self.user(whose)), "jti": name, "iat": now, "exp": now + 3600}
        headers = {"kid": "new" if name == "unknown-kid" else "k"}
        match name:
            case "none":
                return None
            case "garbage":
                return "not-a-token"
            case "huge":
                claims["pad"] = "x" * 100_000
            case "admin":
                claims["role"] = "admin"
            case "expired":
                claims["exp"] = now - 10
            case "not-yet":
                claims["nbf"] = now + 3600
            case "alg-none":
                return jwt.encode(claims, None, algorithm="none", headers=headers)
            case "wrong-alg":
                return jwt.encode(claims, "s" * 32, algorithm="HS256", headers=headers)
        key = private("p256-evil" if name in ("wrong-key", "unknown-kid") else "p256")
        return jwt.encode(claims, key, algorithm="ES256", headers=headers)


def cells(*states: str) -> list[Cell]:
    """All cells in these states."""
    every = itertools.product(ACCESS, CREDENTIALS, STATES)
    return [Cell(*cell, number) for number, cell in enumerate(every, 100) if cell[2] in states]


class Walked:
    """Asks cells through a proxy."""

    def __init__(self, b: Bench, echo: Echo) -> None:
        self._b = b
        self._echo = echo
        self._tokens: dict[Cell, str | None] = {}
        self.unlike: list[tuple[str, str, str, str, str]] = []
        """Cells of which it was explained beforehand that something else would become."""

    async def keys(self) -> None:
        """Waits until the proxy has the key set."""
        token = Cell("view", "good", "cold", 1).token()
        for _ in range(500):
            if (await self._b.get("/view", token=token)).x_cache == "HIT":
                for access in ASKS[1:4]:
                    await self._posted(Cell(access, "good", "cold", 1), token)
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("no keys")

    async def prepare(self, cell: Cell) -> None:
        """Brings the cell's users into its state."""
        token = self._tokens[cell] = cell.token()
        if cell.credential == "revoked":
            await self._b.ask("POST", "/logout", token=token)
        if cell.state == "cold":
            return
        for kind in range(4):
            await self._b.get(f"/anyone/{cell.user(kind)}")
        if cell.access in ("caller", "upstream") and cell.credential != "huge":
            # Their copies are one caller's: that one came by before.
            await self._b.get(cell.target, token=token)
        if cell.access == "post-upstream":
            await self._posted(cell, token)

    async def _asked(self, cell: Cell) -> Answer:
        token = self._tokens[cell]
        if cell.access in ASKS[1:]:
            return await self._posted(cell, token)
        return await self._b.get(cell.target, token=token)

    async def _explained(self, cell: Cell) -> str | None:
        """What would become of the cell; None where nobody can be asked."""
        if cell.access in ASKS[1:] or cell.credential == "huge":
            return None
        token = self._tokens[cell]
        lines = () if token is None else ((b"Authorization", f"Bearer {token}".encode()),)
        told = await self._b.app.operators.duties.explain(Request("GET", cell.target, Headers(lines)))
        return str(told["would_be"])

    async def _posted(self, cell: Cell, token: str | None) -> Answer:
        """The form of a caller, of whom there is one; strangers are another in each cell."""
        caller = basic(f"stranger-{cell.number}" if cell.access == "stranger" else "app")
        return await post(self._b, cell.target, "none=here" if token is None else f"token={token}", caller)

    async def ask(self, cell: Cell) -> str:
        """Access, credential, state, status, X-Cache, reason, upstream calls, whom the answer names."""
        cache = self._b.app.cache
        fence = await cache.fence(Batch((str(cell.user(0)),))) if cell.state == "fenced" else None
        would_be = await self._explained(cell)
        before = self._echo.calls
        try:
            answer = await self._asked(cell)
        except aiohttp.ClientConnectionError:
            # The edge closes on a head that is too large while it is still being sent.
            answer = Answer(431, {"X-Cache": "BYPASS", "Cache-Status": ""}, b"")
        calls = self._echo.calls - before
        if fence is not None:
            await cache.settle(fence, None)
        reason = answer.cache_status.partition("detail=")[2] or "-"
        became = "401" if answer.status == 401 and not calls else answer.x_cache
        if would_be not in (None, became):
            self.unlike.append((cell.access, cell.credential, cell.state, would_be, became))
        seen = "-"
        if answer.status in (200, 404):
            seen = answer.json().get("seen") or "none"
        words = (cell.access, cell.credential, cell.state, str(answer.status), answer.x_cache, reason)
        return " ".join((*words, str(calls), seen))
