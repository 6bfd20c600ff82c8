"""What a token introspection says (RFC 7662): made out of proven claims, read out of upstream's answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from proxy.core.headers import RawHeaders
from proxy.core.identity import Identity
from proxy.core.keys import dig
from proxy.core.settings import UserModel

# RFC 7662 §2.2. `active`, `token_type`, `sub` and the times are made here, `username` is the user's.
_TEXTS = ("iss", "jti")
_TIMES = ("exp", "iat", "nbf")
# An answer without these would make more of a token than it is: one that is bound to a key would pass for a
# bearer token (RFC 7800, RFC 8705 §3.2, RFC 9449 §6.2), a narrow one for a wide one (RFC 9396 §9.2), who acts
# for somebody for that one (RFC 8693 §4.1), and a weak sign-in for a strong one (RFC 9470 §6.2).
_NARROWING = ("aud", "cnf", "act", "may_act", "authorization_details", "acr", "amr", "auth_time")
MEMBERS = frozenset(
    {"active", "scope", "client_id", "username", "token_type", "sub", *_TEXTS, *_TIMES, *_NARROWING}
)
"""What an answer has by itself. No field and no claim may take such a name, but for `username`."""

INACTIVE = b'{"active":false}'
# RFC 7662 §4 lets resource servers keep answers: between them and here nothing should.
HEADERS: RawHeaders = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


def active_body(identity: Identity, claims: Iterable[str], shown: Mapping[str, Any]) -> bytes:
    """The answer about a good token of an active user.

    Besides what every answer has, it shows these `claims` of the token, and what is `shown` of the user.
    """
    said = identity.claims
    body: dict[str, Any] = {"active": True, "sub": _subject(identity), "token_type": _token_type(said)}
    body |= {name: int(said[name]) for name in _TIMES if name in said}
    scope = _scope(said)
    if scope is not None:
        body["scope"] = scope
    client = next((said[name] for name in ("client_id", "azp") if isinstance(said.get(name), str)), None)
    if client is not None:
        body["client_id"] = client
    body |= {name: said[name] for name in _TEXTS if isinstance(said.get(name), str)}
    body |= {name: said[name] for name in (*_NARROWING, *claims) if said.get(name) is not None}
    return as_json(body | dict(shown))


def shown_of(model: UserModel, fields: Iterable[str], user: object) -> dict[str, Any]:
    """These fields of a user, as far as the document has them; a key of the user is read where it stands."""
    found = {}
    for name in fields:
        key = model.key(name)
        value = dig(user, (name,) if key is None else key.path)
        if value is not None:
            found[name] = value
    return found


def told_of(identity: Identity, fields: Iterable[str], document: object) -> dict[str, Any] | None:
    """These fields of the token's user out of upstream's own answer; None where it does not call that token
    active, or speaks of another subject."""
    if not isinstance(document, dict) or document.get("active") is not True:
        return None
    if document.get("sub") is not None and str(document["sub"]) not in (_subject(identity), identity.user_id):
        return None
    return {name: document[name] for name in fields if document.get(name) is not None}


def denies(document: object) -> bool:
    """Whether an answer says of a token that it is not good."""
    return isinstance(document, dict) and document.get("active") is False


def as_json(body: Mapping[str, Any]) -> bytes:
    """Any JSON object that was read here, as text."""
    try:
        return orjson.dumps(dict(body))
    except TypeError:
        # A claim may hold a number of more than 64 bits, or half a surrogate pair.
        return json.dumps(dict(body), separators=(",", ":")).encode("ascii")


def _subject(identity: Identity) -> str:
    subject = identity.claims.get("sub")
    return subject if isinstance(subject, str) else identity.user_id


def _token_type(claims: Mapping[str, Any]) -> str:
    # RFC 9449 §6.2: one that is bound to a key of DPoP.
    return "DPoP" if dig(dict(claims), ("cnf", "jkt")) is not None else "Bearer"


def _scope(claims: Mapping[str, Any]) -> str | None:
    """RFC 7662: one text. Some services write a list, some call it `scp`."""
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return " ".join(one for one in value if isinstance(one, str))
    return None
