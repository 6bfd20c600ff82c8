"""What the settings may ask of callers and of the claims of their tokens."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Access(StrEnum):
    """Who may be given the shared copy (design §4). UNSET is the careful RFC 9111 §3.5 default."""

    ANYONE = "anyone"
    TOKEN = "token"
    OWNER = "owner"
    CALLER = "caller"
    UNSET = "unset"


class ClaimRule(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that a token must have, with one of the values of `any` where some are listed."""

    claim: tuple[str, ...]
    any: tuple[str, ...] = ()


class Require(msgspec.Struct, frozen=True, kw_only=True):
    """What a route asks of a token besides being good: all `scopes`, and the claim."""

    scopes: tuple[str, ...] = ()
    claim: ClaimRule | None = None
