"""What a token says of itself, unproven: good enough to evict, never to answer."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode

import orjson

from proxy.core.headers import Headers
from proxy.core.keys import dig, user_id
from proxy.core.tokens import MAX_TOKEN, bearer


def claimed_subject(headers: Headers, path: tuple[str, ...]) -> str | None:
    """The user that the bearer token names under `path`, whoever wrote it; None where it names nobody."""
    token = bearer(headers)
    if not isinstance(token, str) or len(token) > MAX_TOKEN or token.count(".") != 2:
        return None
    part = token.split(".")[1]
    try:
        claims = orjson.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
    return user_id(dig(claims, path)) if isinstance(claims, dict) else None
