"""The form in the body of a token introspection (RFC 7662 §2.1): whose token, and what else it says.

Services read forms differently: which of two values counts, what a semicolon or a bracket in a name means.
Only a form that all of them read alike is understood here.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

import msgspec

from proxy.core.headers import Headers
from proxy.core.model import Reason

MOST: Final = 64 * 1024
"""Bytes of a form that is looked into: a token, and what a caller proves themselves with."""

MAX_TOKEN: Final = 8192
"""Characters of a token that is looked into."""

_HINT: Final = b"token_type_hint="
# RFC 6749 §2.3.1, RFC 7521 §4.2: what in a form says who is asking, and proves it.
_PROOFS: Final = frozenset({"client_secret", "client_assertion"})
_TYPE: Final = re.compile(
    r'application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset="?utf-?8"?[ \t]*)?', re.IGNORECASE
)
_PAIR: Final = re.compile(rb"([A-Za-z0-9_.-]+)=((?:[A-Za-z0-9._~*=!'(),:/?@$+-]|%[0-9A-Fa-f]{2})*)")
# RFC 6750 §2.1, and the plus sign only where it is encoded: bare, it is a space.
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~/+-]+=*")


class Form(msgspec.Struct, frozen=True):
    """A form with one token, of a kind that the `hint` may name. `others` is all the rest of it as it came;
    `proofs` are secrets in that, `once`: one of them is not to be said again."""

    token: str
    others: bytes
    proofs: tuple[str, ...] = ()
    hint: bytes | None = None
    once: bool = False

    def __repr__(self) -> str:
        return f"Form({len(self.proofs)} proofs)"


def is_form(headers: Headers) -> bool:
    """Whether a body says that it is a form, in one coding."""
    types = headers.get_all("content-type")
    return len(types) == 1 and _TYPE.fullmatch(types[0]) is not None and "content-encoding" not in headers


def read_form(body: bytes, name: str) -> Form | Reason:
    """The form whose parameter `name` is the token; REQUEST_FORM where services may read it differently."""
    token: bytes | None = None
    others: list[bytes] = []
    seen: set[bytes] = set()
    for pair in body.split(b"&"):
        found = _PAIR.fullmatch(pair)
        # PHP takes dots in names for underscores, and others take all letters for small ones.
        alike = b"" if found is None else found[1].lower().replace(b".", b"_")
        if found is None or alike in seen:
            return Reason.REQUEST_FORM
        seen.add(alike)
        if found[1] == name.encode("ascii"):
            token = found[2]
        else:
            others.append(pair)
    if token is None:
        return Reason.TOKEN_MISSING if body else Reason.REQUEST_FORM
    plain = unquote_to_bytes(token)
    if b"+" in token or _TOKEN.fullmatch(plain) is None or len(plain) > MAX_TOKEN:
        return Reason.REQUEST_FORM
    hint = next((pair[len(_HINT) :] for pair in others if pair.startswith(_HINT)), None)
    proofs = tuple(filter(None, map(_proof, others)))
    # RFC 7523 §3: good for one request, mostly.
    once = b"client_assertion" in seen
    return Form(plain.decode("ascii"), b"&".join(others), proofs, hint, once)


def _proof(pair: bytes) -> str:
    name, _, value = pair.decode("ascii").partition("=")
    return unquote_plus(value, errors="replace") if name.lower() in _PROOFS else ""


def takes_json(headers: Headers) -> bool:
    """Whether a JSON answer is what the client asks for, and not a signed one (RFC 9701)."""
    wanted = (headers.joined("accept") or "*/*").lower()
    return "jwt" not in wanted and any(
        kind in wanted for kind in ("*/*", "application/*", "application/json")
    )
