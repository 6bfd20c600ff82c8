"""RFC 7662 answers made out of claims, and what is believed of upstream's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.identity import Identity
from proxy.core.introspection import active_body, as_json, shown_of, told_of
from proxy.core.settings import UserKey, UserModel

MODEL = UserModel(keys=(UserKey(name="email", path=("contact", "email")),))


def proven(**claims: Any) -> Identity:
    """The identity of user 5 by a token with these claims."""
    return Identity("5", {"sub": "5", **claims}, claims.get("exp"), "hash")


def built(identity: Identity, *claims: str, **shown: Any) -> dict[str, Any]:
    """The answer about it."""
    found: dict[str, Any] = json.loads(active_body(identity, claims, shown))
    return found


def test_a_bare_token() -> None:
    """No member is made up."""
    assert {"active": True, "sub": "5", "token_type": "Bearer"} == built(proven())


def test_the_members_of_rfc_7662() -> None:
    """Times are whole numbers, and only what has the right type is shown."""
    identity = proven(exp=2000.9, iat=1000, nbf=900, scope="a b", client_id="c", iss="i", jti="j", aud=["x"])

    expected = {
        "active": True,
        "sub": "5",
        "token_type": "Bearer",
        "scope": "a b",
        "client_id": "c",
        "exp": 2000,
        "iat": 1000,
        "nbf": 900,
        "iss": "i",
        "jti": "j",
        "aud": ["x"],
        "username": "ada",
    }
    assert expected == built(identity, username="ada")
    assert {"active", "sub", "token_type"} == built(proven(iss=1, jti=[], client_id=5, scope=7)).keys()


@pytest.mark.parametrize(
    ("claims", "scope"),
    [
        ({"scope": ["a", "b", 1]}, "a b"),
        ({"scp": "a"}, "a"),
        ({"scp": ["a", "b"], "scope": "c"}, "c"),
        ({"scope": ""}, ""),
    ],
)
def test_scopes_in_every_form(claims: dict[str, Any], scope: str) -> None:
    """They become the one text that RFC 7662 knows."""
    assert scope == built(proven(**claims))["scope"]


@pytest.mark.parametrize(
    "name", ["cnf", "act", "may_act", "authorization_details", "acr", "amr", "auth_time"]
)
def test_what_makes_less_of_a_token_is_never_left_out(name: str) -> None:
    """A token that is bound to a key must not pass for a bearer token."""
    assert ["x"] == built(proven(**{name: ["x"]}))[name]


def test_a_token_that_is_bound_to_a_key_of_dpop() -> None:
    """Its type says so (RFC 9449 §6.2)."""
    assert "DPoP" == built(proven(cnf={"jkt": "t"}))["token_type"]
    assert "Bearer" == built(proven(cnf={"x5t#S256": "t"}))["token_type"]


def test_other_claims_are_shown_where_they_are_listed() -> None:
    """A token may hold what is nobody else's."""
    identity = proven(role="admin", email="a@example.com")

    assert {"active", "sub", "token_type", "role"} == built(identity, "role", "tenant").keys()


def test_who_speaks_for_a_client() -> None:
    """OpenID's name for it is understood."""
    assert "c" == built(proven(azp="c"))["client_id"]


def test_a_subject_that_is_another_claim() -> None:
    """`sub` is the token's own; where it has none, the user's id."""
    assert "s" == built(Identity("5", {"sub": "s", "uid": 5}, None, ""))["sub"]
    assert "5" == built(Identity("5", {"sub": 5}, None, ""))["sub"]


def test_a_number_that_is_no_float_and_half_a_letter() -> None:
    """JSON has them, so an answer may."""
    assert {"n": 10**30} == json.loads(as_json({"n": 10**30}))
    assert {"t": "\ud800"} == json.loads(as_json({"t": "\ud800"}))


def test_fields_of_a_user() -> None:
    """A key is read where the settings say it is; what is not there is left out."""
    user = {"username": "ada", "contact": {"email": "a@example.com"}, "role": None}

    assert {"username": "ada", "email": "a@example.com"} == shown_of(
        MODEL, ("username", "email", "role"), user
    )
    assert {} == shown_of(MODEL, ("username",), [])


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"active": False}, {"active": "true"}, {"active": 1}, {"active": True, "sub": "6"}],
)
def test_upstream_that_does_not_call_it_active(document: Any) -> None:
    """Nothing is learnt of the user from such an answer."""
    assert told_of(proven(), ("username",), document) is None


def test_upstream_that_calls_it_active() -> None:
    """The fields that are asked for, and no others."""
    document = {"active": True, "sub": 5, "username": "ada", "email": "a@example.com"}

    assert {"username": "ada"} == told_of(proven(), ("username", "role"), document)
