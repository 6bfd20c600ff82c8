"""Who may be given the shared copy: `Identity` x `Access` -> `Allowed` | `Denied` (design §4, "access")."""

from __future__ import annotations

import msgspec

from proxy.core.model import Reason
from proxy.core.settings import Access
from proxy.core.tokens import Identity, Rejected, Unproven


class Allowed(msgspec.Struct, frozen=True):
    """The caller may be answered from the shared copy, and the answer may become it."""


class Denied(msgspec.Struct, frozen=True):
    """The caller is forwarded, and upstream decides; the proxy never says no to a look-up."""

    reason: Reason


ALLOWED = Allowed()


def _anyone(_has_credentials: bool, _identity: Identity | Rejected | Unproven | None) -> Allowed | Denied:
    return ALLOWED


def _good_token(_has_credentials: bool, identity: Identity | Rejected | Unproven | None) -> Allowed | Denied:
    match identity:
        case Identity():
            return ALLOWED
        case Rejected(reason) | Unproven(reason):
            return Denied(reason)
        case None:
            return Denied(Reason.TOKEN_MISSING)


def _nobody_known(
    has_credentials: bool, _identity: Identity | Rejected | Unproven | None
) -> Allowed | Denied:
    # RFC 9111 §3.5: even a good token does not help, for nobody said that all callers get the same answer.
    return Denied(Reason.CREDENTIALS) if has_credentials else ALLOWED


def _own_copy(_has_credentials: bool, identity: Identity | Rejected | Unproven | None) -> Allowed | Denied:
    # Credentials that are no token were judged by upstream, when it filled this caller's copy.
    return Denied(identity.reason) if isinstance(identity, Rejected | Unproven) else ALLOWED


_RULES = {
    Access.ANYONE: _anyone,
    Access.TOKEN: _good_token,
    Access.OWNER: _good_token,
    Access.CALLER: _own_copy,
    Access.UNSET: _nobody_known,
}


def allow(
    access: Access, *, has_credentials: bool, identity: Identity | Rejected | Unproven | None
) -> Allowed | Denied:
    """Decides for one request; `identity` is what its bearer token proved, None without one.

    Whether the token's user is active is known only from that user's entry and is checked there.
    """
    return _RULES[access](has_credentials, identity)
