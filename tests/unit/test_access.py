"""Who may be given the shared copy."""

from __future__ import annotations

import pytest

from proxy.core.access import Allowed, Denied, allow
from proxy.core.claimrules import ClaimRule, Require
from proxy.core.credentials import fingerprint, has_credentials, reflected
from proxy.core.granted import holds, lacking
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


@pytest.mark.parametrize("access", [Access.TOKEN, Access.OWNER])
def test_an_owner_needs_a_good_token(access: Access) -> None:
    """Whose copy it is comes on top of that."""
    assert YES == allow(access, has_credentials=True, identity=GOOD)
    assert Denied(Reason.TOKEN_EXPIRED) == allow(access, has_credentials=True, identity=BAD)
    assert Denied(Reason.TOKEN_MISSING) == allow(access, has_credentials=False, identity=None)


def test_a_caller_has_a_copy_of_their_own() -> None:
    """Whatever the credentials are, but for a token that is provably bad."""
    assert YES == allow(Access.CALLER, has_credentials=True, identity=None)
    assert YES == allow(Access.CALLER, has_credentials=True, identity=GOOD)
    assert Denied(Reason.TOKEN_EXPIRED) == allow(Access.CALLER, has_credentials=True, identity=BAD)


@pytest.mark.parametrize(
    ("claims", "values", "expected"),
    [
        ({"role": "admin"}, ("admin",), True),
        ({"role": "staff admin"}, ("admin",), True),
        ({"role": ["x", "admin"]}, ("admin",), True),
        ({"role": "administrator"}, ("admin",), False),
        ({"role": ["administrator", ["admin"]]}, ("admin",), False),
        ({"role": {"admin": 1}}, ("admin",), False),
        ({"role": 7}, ("7",), True),
        ({"role": True}, ("true",), True),
        ({"role": True}, ("1",), False),
        ({}, ("admin",), False),
        ({"role": "x"}, (), True),
        ({"role": False}, (), False),
        ({"role": []}, (), False),
    ],
)
def test_claims(claims: dict[str, object], values: tuple[str, ...], expected: bool) -> None:
    """A value, a word of a text or a member of a list; nothing that only begins like it."""
    assert expected == holds(ClaimRule(claim=("role",), any=values), claims)


def test_a_nested_claim() -> None:
    """Vendors put roles deep down."""
    rule = ClaimRule(claim=("realm_access", "roles"), any=("admin",))
    assert holds(rule, {"realm_access": {"roles": ["admin"]}})
    assert not holds(rule, {"realm_access": ["admin"]})


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"scope": "users:read users:write"}, None),
        ({"scp": ["users:read", "users:write"]}, None),
        ({"scope": "users:write", "scp": "users:read"}, None),
        ({"scope": "users:read"}, Reason.TOKEN_SCOPE),
        ({"scope": "users:readusers:write"}, Reason.TOKEN_SCOPE),
        ({"scope": None}, Reason.TOKEN_SCOPE),
        ({}, Reason.TOKEN_SCOPE),
    ],
)
def test_scopes(claims: dict[str, object], expected: Reason | None) -> None:
    """RFC 8693 §4.2 and the vendors' `scp`: all that are required must be there."""
    assert expected == lacking(Require(scopes=("users:read", "users:write")), claims)


def test_a_required_claim() -> None:
    """On top of the scopes; nothing required is lacked by nobody."""
    require = Require(claim=ClaimRule(claim=("tenant",), any=("a",)))
    assert (None, Reason.TOKEN_CLAIM) == (
        lacking(require, {"tenant": "a"}),
        lacking(require, {"tenant": "b"}),
    )
    assert lacking(None, {}) is None


def lines(*pairs: tuple[str, str]) -> Headers:
    return Headers((name.encode(), value.encode()) for name, value in pairs)


def test_fingerprints_tell_callers_apart() -> None:
    """Equal lines, equal caller; anything else, and anything that joins to the same text, is another."""
    headers = [
        lines(("Authorization", "ab"), ("Cookie", "c")),
        lines(("Authorization", "a"), ("Cookie", "bc")),
        lines(("Authorization", "ab")),
        lines(("Cookie", "ab")),
        lines(("Cookie", "a"), ("Cookie", "b")),
        lines(("Cookie", "b"), ("Cookie", "a")),
        lines(("X-Api-Key", "ab")),
        lines(("Authorization", "")),
    ]
    found = [fingerprint(one, ("x-api-key",)) for one in headers]

    assert len(headers) == len(set(found))
    assert {64} == set(map(len, found))
    assert "" == fingerprint(lines(("Accept", "a"), ("X-Api-Key", "k")))
    assert found[0] == fingerprint(lines(("accept", "x"), ("COOKIE", "c"), ("authorization", "ab")))


def test_a_fingerprint_with_a_secret_is_an_hmac() -> None:
    """Nobody who does not know the secret can find the credentials by trying."""
    one = lines(("Authorization", "Basic eDp4"))
    found = {fingerprint(one, secret=secret) for secret in (b"", b"a" * 32, b"b" * 32)}

    assert (3, {64}) == (len(found), set(map(len, found)))
    assert "" == fingerprint(lines(("Accept", "a")), secret=b"a" * 32)


def test_credentials_that_an_answer_repeats() -> None:
    """A token, a cookie line or a key in the body or in a header; short ones occur by chance."""
    headers = lines(("Authorization", "Bearer abcdefgh"), ("Cookie", "s=1"), ("X-Api-Key", "0123456789"))
    for text, expected in ((b"x abcdefgh", True), (b"0123456789", True), (b"s=1", False), (b"Bearer", False)):
        assert expected == reflected(headers, ("x-api-key",), b"{}", text)
    assert not reflected(headers, (), b"0123456789")
