"""What the claims of a good token allow: rules of `allow` and `require`, judged anew on each request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core.claimrules import ClaimRule, Require
from proxy.core.keys import dig
from proxy.core.model import Reason

# RFC 8693 §4.2, and what several vendors call it.
_SCOPE_CLAIMS = ("scope", "scp")


def holds(rule: ClaimRule, claims: Mapping[str, Any]) -> bool:
    """Whether the claim is there and, where the rule lists values, has one of them.

    A list has the values of its members; a text is one value, and each of its words is one.
    """
    found = dig(dict(claims), rule.claim)
    if not rule.any:
        # False, 0 and an empty list are no claim that anything is so.
        return bool(found)
    return not _values(found).isdisjoint(rule.any)


def scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """The scopes of a token: words of a text, or members of a list."""
    return frozenset(value for name in _SCOPE_CLAIMS for value in _words(claims.get(name)))


def lacking(require: Require | None, claims: Mapping[str, Any]) -> Reason | None:
    """What the token lacks of what a route requires; None where it has all of it."""
    if require is None:
        return None
    if not scopes(claims).issuperset(require.scopes):
        return Reason.TOKEN_SCOPE
    if require.claim is not None and not holds(require.claim, claims):
        return Reason.TOKEN_CLAIM
    return None


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split(" ")
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _values(value: object) -> set[str]:
    if isinstance(value, bool):
        return {str(value).lower()}
    if isinstance(value, int):
        return {str(value)}
    return {*_words(value), *([value] if isinstance(value, str) else [])}
