"""Who may be given the shared copy."""

from __future__ import annotations

import pytest

from proxy.core.access import Allowed, Denied, allow, has_credentials
from proxy.core.headers import Headers
from proxy.core.model import Reason
from proxy.core.settings import Access
from proxy.core.tokens import Identity, Rejected

GOOD = Identity("1", {}, None, "hash")
BAD = Rejected(Reason.TOKEN_EXPIRED)
YES = Allowed()


@pytest.mark.parametrize(
    ("access", "credentials", "identity", "expected"),
    [
        (Access.ANYONE, False, None, YES),
        (Access.ANYONE, True, None, YES),
        (Access.ANYONE, True, GOOD, YES),
        (Access.ANYONE, True, BAD, YES),
        (Access.TOKEN, False, None, Denied(Reason.TOKEN_MISSING)),
        (Access.TOKEN, True, None, Denied(Reason.TOKEN_MISSING)),
        (Access.TOKEN, True, GOOD, YES),
        (Access.TOKEN, True, BAD, Denied(Reason.TOKEN_EXPIRED)),
        (Access.UNSET, False, None, YES),
        (Access.UNSET, True, None, Denied(Reason.CREDENTIALS)),
        (Access.UNSET, True, GOOD, Denied(Reason.CREDENTIALS)),
        (Access.UNSET, True, BAD, Denied(Reason.CREDENTIALS)),
    ],
)
def test_rules(
    access: Access, credentials: bool, identity: Identity | Rejected | None, expected: Allowed | Denied
) -> None:
    """Design §4: anyone, a good token, or (RFC 9111 §3.5) nobody with credentials."""
    assert expected == allow(access, has_credentials=credentials, identity=identity)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"Authorization", True),
        (b"authorization", True),
        (b"COOKIE", True),
        (b"Proxy-Authorization", False),
        (b"Accept", False),
    ],
)
def test_credentials(name: bytes, expected: bool) -> None:
    """RFC 9111 §3.5 and design §4: Authorization and Cookie say who asks, even when empty."""
    assert expected == has_credentials(Headers([(name, b"")]))
