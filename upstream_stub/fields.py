"""What a client may say about a user, and how it must look."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from upstream_stub.answers import Problem

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# It begins with a letter, so that /users/42 and /users/{username} never mean two things.
_USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,31}")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "email": (lambda v: isinstance(v, str) and len(v) <= 254 and _matches(_EMAIL, v), "an e-mail address"),
    "username": (
        lambda v: isinstance(v, str) and _matches(_USERNAME, v),
        "a letter followed by 1 to 31 letters, digits, dots, dashes or underscores",
    ),
    "phone": (lambda v: v is None or (isinstance(v, str) and _matches(_PHONE, v)), "an E.164 number or null"),
    "display_name": (lambda v: isinstance(v, str) and 1 <= len(v) <= 80, "a text of 1 to 80 characters"),
    "bio": (lambda v: isinstance(v, str) and len(v) <= 2000, "a text of at most 2000 characters"),
    "role": (lambda v: v in ("user", "admin"), '"user" or "admin"'),
    "is_active": (lambda v: isinstance(v, bool), "true or false"),
    "password": (lambda v: isinstance(v, str) and 8 <= len(v) <= 128, "a text of 8 to 128 characters"),
}

PROFILE = frozenset({"display_name", "bio", "email", "phone"})
SHARED = frozenset({"display_name", "bio", "role", "is_active"})
"""The fields that many users may have alike: what a bulk update can set."""
ALL = frozenset(_RULES)
REQUIRED = frozenset({"email", "username", "password"})

_READ_ONLY = frozenset({"id", "version", "created_at", "updated_at", "hashed_password"})
_LARGEST_BATCH = 1000


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body must be."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(422, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Problem(422, "the body must be a JSON object")
    return value


def check_fields(
    value: object, allowed: frozenset[str], required: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The fields of a user, every one known, allowed and well formed."""
    if not isinstance(value, dict) or not value:
        raise Problem(422, "no fields were given")
    for name, given in value.items():
        if name in _READ_ONLY:
            raise Problem(422, f"{name} cannot be set")
        if name not in allowed:
            raise Problem(422, f"unknown field: {name}")
        good, description = _RULES[name]
        if not good(given):
            raise Problem(422, f"{name} must be {description}")
    if missing := sorted(required - value.keys()):
        raise Problem(422, f"missing: {', '.join(missing)}")
    return value


def text_fields(body: bytes, *names: str) -> dict[str, str]:
    """The texts of a body in which every field is one; only the names given may occur."""
    value = parse_object(body)
    for name, given in value.items():
        if name not in names:
            raise Problem(422, f"unknown field: {name}")
        if not isinstance(given, str):
            raise Problem(422, f"{name} must be a text")
    return value


def parse_id(text: str) -> int | None:
    """A user id as a path or query writes it; None for what is not a number."""
    # 19 digits hold every id SQLite can; more would only buy a slow int().
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def parse_ids(text: str) -> list[int]:
    """The ids of `?ids=1,2,3`."""
    parts = text.split(",")
    if len(parts) > _LARGEST_BATCH:
        raise Problem(422, f"at most {_LARGEST_BATCH} ids")
    ids = []
    for part in parts:
        if (user_id := parse_id(part)) is None:
            raise Problem(422, "ids must be numbers separated by commas")
        ids.append(user_id)
    return ids


def check_ids(value: object) -> list[int]:
    """The ids of a bulk update."""
    if not isinstance(value, list) or not 1 <= len(value) <= _LARGEST_BATCH:
        raise Problem(422, f"ids must be a list of 1 to {_LARGEST_BATCH} numbers")
    # bool is an int in Python, but true is not an id.
    if not all(isinstance(user_id, int) and not isinstance(user_id, bool) for user_id in value):
        raise Problem(422, "ids must be whole numbers")
    return value


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None
