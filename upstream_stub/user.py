"""A user, as stored and as shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple


class User(NamedTuple):
    """One row of the users table; the field order is the column order.

    A tuple and not a dataclass, because one is made for every look-up.
    """

    id: int
    email: str
    username: str
    phone: str | None
    display_name: str
    bio: str
    role: str
    is_active: int
    version: int
    created_at: str
    updated_at: str
    hashed_password: str


def shown(user: User, leak_hash: bool) -> dict[str, Any]:
    """The full representation: every look-up, list, `GET /auth/me` and write answers with this one."""
    fields = user._asdict()
    fields["is_active"] = bool(user.is_active)
    if not leak_hash:
        del fields["hashed_password"]
    return fields


def shown_profile(user: User) -> dict[str, Any]:
    """The public representation."""
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "bio": user.bio,
    }


def timestamp(moment: datetime) -> str:
    """UTC in a fixed width, so that timestamps sort as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def timestamp_after(now: datetime, previous: str) -> str:
    """A timestamp for a write: `now`, or just after the previous write where the clock has not moved on."""
    text = timestamp(now)
    if text > previous:
        return text
    return timestamp(datetime.fromisoformat(previous) + timedelta(microseconds=1))
