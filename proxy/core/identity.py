"""What is known of the caller by their token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.core.model import Reason, Ref


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good token proves. `exp` is wall-clock seconds, None for a token that does not end."""

    user_id: str
    claims: Mapping[str, Any] = field(repr=False, hash=False)
    exp: float | None
    token_hash: str = field(repr=False)


class Rejected(msgspec.Struct, frozen=True):
    """The token is provably not good, and why."""

    reason: Reason


class Unproven(msgspec.Struct, frozen=True):
    """Nobody here can tell whose token it is, or that it is bad: the key is not known. Upstream decides."""

    reason: Reason = Reason.TOKEN_KEYS_MISSING


Proven = Identity | Rejected | Unproven


def good_ref(user_id: str, token_hash: str) -> Ref:
    """Where the note is kept that this token was logged out by nobody (see Store.token_state)."""
    return Ref("id", user_id, f"+good#{token_hash}")
