"""The walk of the demo: real requests, each with what it should be, and what the service saw of it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from proxy.demotext import Screen, milliseconds

USER = 42
NOBODY = 999_999
SECRETS = (b"hashed_password", b"scrypt")
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end, and the seconds from sending to its last byte."""

    status: int
    x_cache: str
    cache_status: str
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The JSON body; None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Client:
    """One kept-alive connection to `host:port`."""

    def __init__(self, place: str) -> None:
        host, _, port = place.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT)

    def ask(self, method: str, target: str, token: str | None = None, body: Any = None) -> Answer:
        """Sends a request and reads its answer. Raises OSError, HTTPException."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        begun = time.perf_counter()
        self._connection.request(method, target, data, headers)
        response = self._connection.getresponse()
        read = response.read()
        seconds = time.perf_counter() - begun
        x_cache, cache_status = response.headers.get("X-Cache", ""), response.headers.get("Cache-Status", "")
        return Answer(response.status, x_cache, cache_status, read, seconds)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class Service:
    """The sample service's own statistics: what really reached it."""

    def __init__(self, url: str) -> None:
        self._client = Client(urlsplit(url).netloc)

    def requests(self) -> int:
        """Requests since it started; asking this does not count."""
        total: int = self._client.ask("GET", "/__stats").json()["requests"]["total"]
        return total

    def has_seen(self, request: str) -> bool:
        """Whether it got this request, written as method and target."""
        return request in self._client.ask("GET", "/__stats").json()["hits_by_path"]

    def shown_directly(self, user_id: int) -> bytes:
        """The service's own answer about a user, past the proxy."""
        return self._client.ask("GET", f"/users/{user_id}").body

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


@dataclass(slots=True)
class Step:
    """One request of the walk: how it is shown, what came, and what was wrong with it."""

    number: int
    request: str
    answer: Answer
    asked: int
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The step as `--json` shows it."""
        return {
            "step": self.number,
            "request": self.request,
            "x_cache": self.answer.x_cache,
            "cache_status": self.answer.cache_status,
            "status": self.answer.status,
            "ms": round(self.answer.seconds * 1000, 3),
            "service_asked": self.asked,
            "ok": not self.wrong,
            "wrong": self.wrong,
        }


class Walk:
    """Walks the main job over one connection, checks each step and shows it; `steps` has them all."""

    def __init__(self, client: Client, service: Service, screen: Screen) -> None:
        self._client = client
        self._service = service
        self._screen = screen
        self.steps: list[Step] = []
        self.token = ""

    def run(self) -> None:
        """All steps, in their order. Raises OSError, HTTPException."""
        self._screen.head()
        user = self._one_user()
        self._tokens(user)
        self._writes(user)
        self._rename(user)
        self._many_and_nobody()

    def _one_user(self) -> dict[str, Any]:
        self._screen.heading("A user is fetched once ...")
        user: dict[str, Any] = self._step("GET", f"/users/{USER}", "MISS", asked=1, says={"id": USER}) or {}
        self._step("GET", f"/users/{USER}", "HIT", says={"id": USER})
        self._screen.heading("... and is then known by every key, to whoever may ask by it")
        login = {"username": user.get("username", ""), "password": f"password-{USER}"}
        answer = self._step("POST", "/auth/login", "BYPASS", asked=1, body=login)
        self.token = str((answer or {}).get("access_token", ""))
        by_email = _by_email(user.get("email"))
        self._step("GET", by_email, "HIT", token=self.token, says={"id": USER})
        self._step("GET", f"/users/{user.get('username')}", "HIT", says={"id": USER})
        by_phone = f"/users?phone={quote(str(user.get('phone')), safe='')}"
        self._step("GET", by_phone, "HIT", token=self.token, says={"id": USER})
        self._step("GET", by_email, "BYPASS", status=401, asked=1)
        return user

    def _tokens(self, user: dict[str, Any]) -> None:
        self._screen.heading("A token is proven here: never seen before, and still no call to the service")
        self._step("GET", "/auth/me", "HIT", token=self.token, says={"email": user.get("email")})
        self._step("GET", "/auth/introspect", "MISS", asked=1, token=self.token, says={"active": True})
        self._step("GET", "/auth/introspect", "HIT", token=self.token, says={"active": True})
        head, _, tail = self.token.rpartition(".")
        # The first letter of the signature: all of its bits count.
        forged = f"{head}.{'B' if tail.startswith('A') else 'A'}{tail[1:]}"
        self._step("GET", "/auth/me", "BYPASS", status=401, token=forged, shown="forged token")

    def _writes(self, user: dict[str, Any]) -> None:
        self._screen.heading("A write drops the user before the writer has its answer")
        name = {"display_name": "Renamed by the demo"}
        by_email = _by_email(user.get("email"))
        self._step("PUT", f"/users/{USER}", "BYPASS", asked=1, body=name, says=name)
        self._step("GET", f"/users/{USER}", "MISS", asked=1, says=name)
        self._step("GET", by_email, "HIT", token=self.token, says=name)

    def _rename(self, user: dict[str, Any]) -> None:
        self._screen.heading("A new e-mail address: the old one is nobody's at once")
        old, new = user.get("email"), "new@example.com"
        self._step("PUT", f"/users/{USER}", "BYPASS", asked=1, body={"email": new}, says={"email": new})
        self._step("GET", f"/users/{USER}", "MISS", asked=1, says={"email": new})
        self._step("GET", _by_email(old), "MISS", status=404, asked=1, token=self.token)
        self._step("GET", _by_email(new), "HIT", token=self.token, says={"email": new})

    def _many_and_nobody(self) -> None:
        self._screen.heading(
            "Many at once: once the order of the answer is learnt, only the others are asked for"
        )
        # Not in sorted order: an answer to that would not tell which order the service keeps to.
        self._batch([USER + 2, USER, USER + 1], "MISS", asked=1)
        self._batch([USER + 2, USER, USER + 1], "HIT")
        self._batch([USER + 1, USER + 3, USER], "MISS", asked=1, sent=f"GET /users?ids={USER + 3}")
        self._screen.heading("Nobody is remembered too, for a short while")
        self._step("GET", f"/users/{NOBODY}", "MISS", status=404, asked=1)
        self._step("GET", f"/users/{NOBODY}", "HIT", status=404)

    def _batch(self, ids: list[int], x_cache: str, *, asked: int = 0, sent: str | None = None) -> None:
        self._step("GET", f"/users?ids={','.join(map(str, ids))}", x_cache, asked=asked, ids=ids, sent=sent)

    def _step(
        self,
        method: str,
        target: str,
        x_cache: str,
        *,
        status: int = 200,
        asked: int = 0,
        token: str | None = None,
        shown: str = "token",
        body: Any = None,
        says: dict[str, Any] | None = None,
        ids: Sequence[int] | None = None,
        sent: str | None = None,
    ) -> Any:
        before = self._service.requests()
        answer = self._client.ask(method, target, token, body)
        fields = f" ({', '.join(body)})" if body else ""
        request = f"{method} {target}{fields}" + (f" + {shown}" if token else "")
        step = Step(len(self.steps) + 1, request, answer, self._service.requests() - before)
        document = answer.json()
        told = document if isinstance(document, dict) else {}
        expected: list[tuple[str, Any, Any]] = [
            ("status", status, answer.status),
            ("X-Cache", x_cache, answer.x_cache),
            ("requests to the service", asked, step.asked),
            *((name, value, told.get(name)) for name, value in (says or {}).items()),
        ]
        if ids is not None:
            found = [user.get("id") for user in document] if isinstance(document, list) else None
            expected.append(("ids", ids, found))
        if sent is not None:
            expected.append((f"the service got {sent}", True, self._service.has_seen(sent)))
        if method == "GET":
            # The service shows the hash in every user; no answer of a cached route may.
            expected.append(("password hashes", 0, sum(word in answer.body for word in SECRETS)))
        step.wrong = [
            f"{name}: expected {want!r}, got {got!r}" for name, want, got in expected if want != got
        ]
        self.steps.append(step)
        self._show(step)
        return document

    def _show(self, step: Step) -> None:
        answer = step.answer
        self._screen.row(
            not step.wrong,
            step.number,
            (
                step.request,
                answer.x_cache,
                why(answer.cache_status),
                str(answer.status),
                milliseconds(answer.seconds),
                "yes" if step.asked else "-",
            ),
        )
        for sentence in step.wrong:
            self._screen.line(self._screen.paint(f"       {sentence}", "bad"))


def _by_email(email: Any) -> str:
    return f"/users/by-email/{quote(str(email), safe='@')}"


def why(cache_status: str) -> str:
    """The interesting part of a `Cache-Status` (RFC 9211): `absent; stored; ttl=300`."""
    parts = [part.strip() for part in cache_status.split(";")[1:]]
    detail = [part.removeprefix("detail=") for part in parts if part.startswith("detail=")]
    return "; ".join([*detail, *(part for part in parts if part == "stored" or part.startswith("ttl="))])
