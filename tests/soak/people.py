"""Users as their only writers know them: what is asked about them, and what is done to them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import jwt

from tests.processes import SECRET
from tests.soak.checker import GONE, Key, Version

# The shares of writes that give another e-mail address, and that delete the user.
RENAMES, DELETES = 0.3, 0.1
# Where a user is found by a key of that kind, and whether a token is needed for it.
PLACES = {
    "id": ("/users/", False),
    "username": ("/users/", False),
    "email": ("/users/by-email/", True),
    "phone": ("/users?phone=", True),
}


@dataclass(frozen=True, slots=True)
class Request:
    """`key` is whom it is about, `named` are all keys that its URL and its body name."""

    method: str
    path: str
    token: str | None
    key: Key
    body: bytes = b""
    named: frozenset[Key] = frozenset()


@dataclass(slots=True)
class Person:
    """Somebody with a username, a phone number and one of two e-mail addresses, and each time that they come
    back, with another id: the last of `ids`. `doubtful` while a write that seems lost may still be done.
    """

    number: int
    username: str
    phone: str
    emails: tuple[str, str]
    email: str
    state: Version
    ids: list[int] = field(default_factory=list)
    doubtful: bool = False

    @classmethod
    def of(cls, user: dict[str, Any]) -> Person:
        """As the service shows them."""
        number, email = user["id"], user["email"]
        names = user["username"], user["phone"], (email, f"other.{email}")
        return cls(number, *names, email, (number, user["version"]), [number])

    def become(self, state: Version, email: str) -> None:
        """A write has made that of them."""
        if state[0] != self.ids[-1]:
            self.ids.append(state[0])
        self.state, self.email = state, email

    @property
    def gone(self) -> bool:
        """Whether there is no such user now."""
        return self.state[1] == GONE

    @property
    def keys(self) -> frozenset[Key]:
        """All that leads to them now."""
        return frozenset() if self.gone else frozenset(self._keys().items())

    def _keys(self) -> dict[str, object]:
        last = self.ids[-1]
        return {
            "id": last,
            "token": last,
            "username": self.username,
            "phone": self.phone,
            "email": self.email,
        }

    @property
    def token(self) -> str:
        """Of the user that they were last."""
        return jwt.encode({"sub": str(self.ids[-1]), "exp": 4_000_000_000}, SECRET, algorithm="HS256")

    def asked(self, rng: random.Random, witness: str) -> Request:
        """A read by any key, also by one that they may not have now. `witness` is the token of a caller."""
        keys = self._keys() | {"id": rng.choice(self.ids[-2:]), "email": rng.choice(self.emails)}
        return self._by("GET", rng.choice(list(keys.items())), witness)

    def written(self, rng: random.Random) -> Request:
        """What is done to them next, by any key that they have."""
        if self.gone:
            given = {"username": self.username, "email": rng.choice(self.emails), "phone": self.phone}
            body = json.dumps({**given, "password": "of-a-soak"}).encode()
            named: frozenset[Key] = frozenset(given.items())
            return Request("POST", "/users", None, ("username", self.username), body, named)
        key = rng.choice(list(self._keys().items()))
        if key[0] != "token" and rng.random() < DELETES:
            return self._by("DELETE", key, self.token)
        given = {"display_name": f"name {rng.random()}", "bio": "of a soak"}
        if rng.random() < RENAMES:
            given["email"] = self.emails[self.email == self.emails[0]]
        return self._by(rng.choice(("PUT", "PATCH")), key, self.token, given)

    def _by(self, method: str, key: Key, token: str, given: dict[str, str] | None = None) -> Request:
        given = given or {}
        body = json.dumps(given).encode() if given else b""
        named = frozenset({key} | {pair for pair in given.items() if pair[0] == "email"})
        kind, value = key
        if kind == "token":
            method, path = ("GET", "/auth/me") if method == "GET" else ("PUT", "/profile")
            return Request(method, path, self.token, key, body, named)
        place, asks = PLACES[kind]
        return Request(method, place + quote(str(value)), token if asks else None, key, body, named)
