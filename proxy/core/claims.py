"""What a token says of itself, unproven: good enough to evict, never to answer."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode

import orjson

from proxy.core.keys import dig, user_id
from proxy.core.tokens import MAX_TOKEN


def claimed_subject(token: object, path: tuple[str, ...]) -> str | None:
    """The user that a request's token names under `path`, whoever wrote it; None where it names nobody."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN or token.count(".") != 2:
        return None
    part = token.split(".")[1]
    try:
        claims = orjson.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
    return user_id(dig(claims, path)) if isinstance(claims, dict) else None
