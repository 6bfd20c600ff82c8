"""The kinds of request: the names used in statistics, holds and tests."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a request asks for; every request is of exactly one kind."""

    USER_BY_ID = "user_by_id"
    USER_BY_EMAIL = "user_by_email"
    USER_BY_USERNAME = "user_by_username"
    USER_BY_PHONE = "user_by_phone"
    USERS_BY_IDS = "users_by_ids"
    USERS_LIST = "users_list"
    PROFILE = "profile"
    ME = "me"
    INTROSPECT = "introspect"
    JWKS = "jwks"
    AVATAR = "avatar"
    LOGIN = "login"
    LOGOUT = "logout"
    PASSWORD = "password"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    PROFILE_UPDATE = "profile_update"
    BULK = "bulk"
    AVATAR_UPDATE = "avatar_update"
    OTHER = "other"


WRITES = frozenset(
    {
        Kind.LOGOUT,
        Kind.PASSWORD,
        Kind.CREATE,
        Kind.UPDATE,
        Kind.DELETE,
        Kind.PROFILE_UPDATE,
        Kind.BULK,
        Kind.AVATAR_UPDATE,
    }
)
"""The kinds that commit something when they succeed."""
