"""Routes that look dangerous are told by `check`, each with its name and what to do; sound ones are not."""

# A warning stands here as one line, as it is told.
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cliroutes import load_without_secret
from proxy.config import parse
from proxy.configdangers import dangers

HEAD = """version: 1
user: {keys: {email: {path: contact.mail}, username: {path: username}, phone: {path: mobilePhone}}}
views:
  users: {ttl: 60s}
  mine: {ttl: 60s}
  told: {ttl: 60s}
  public: {ttl: 60s, fields: [id, username, bio]}
  listed: {ttl: 60s, fields: [id, username, email_address, bio]}
tokens: {}
routes:
"""
BY_ID = '  - {match: "GET /a/{id:int}", lookup: {by: id, view: %s}, access: %s}\n'
AGAIN = '  - {match: "GET /b/{id:int}", lookup: {by: id, view: %s}, access: %s}\n'


def told(routes: str, user: str = "") -> list[str]:
    """What is said of these routes."""
    text = HEAD + routes
    if user:
        text = text.replace(text.splitlines()[1], user)
    return list(dangers(parse(text.encode(), "r.yaml", {"JWT_SECRET": "s" * 64})))


SOUND = {
    "anyone, but no personal field": BY_ID % ("public", "anyone"),
    "personal fields for good tokens": BY_ID % ("users", "token"),
    "one view each": BY_ID % ("users", "token") + AGAIN % ("mine", "owner"),
    "caller on a view of its own": BY_ID % ("mine", "caller") + AGAIN % ("users", "token"),
    "the same access twice": BY_ID % ("users", "owner") + AGAIN % ("users", "owner"),
    "two of one's own": BY_ID % ("mine", "caller") + AGAIN % ("mine", "caller"),
    "a role, and fields that all may see": BY_ID % ("public", "owner, allow: {claim: role, any: [admin]}"),
    "the same requirement twice": BY_ID % ("users", "token, require: {scope: a}")
    + AGAIN % ("users", "token, require: {scope: a}"),
    "an introspection beside": BY_ID % ("users", "token")
    + '  - {match: "GET /me", introspect: {answer: view, view: users}}\n',
}


@pytest.mark.parametrize("routes", SOUND.values(), ids=SOUND)
def test_sound_routes_are_let_be(routes: str) -> None:
    """Nothing to say."""
    assert [] == told(routes)


def test_words_are_read_as_words() -> None:
    """`telegram` holds `tel`, but not as a word."""
    unknown = "user: {keys: {username: {path: username}, telegram: {path: telegramName}}}"
    assert [] == told(BY_ID % ("users", "anyone"), unknown)


def test_personal_fields_for_anyone() -> None:
    """By the keys where the view lists no fields, else by its fields."""
    assert [
        "GET /a/{id:int}: access: anyone gives contact.mail, mobilePhone of view 'users' to whoever can guess the key; give it access: token, or a view with fields that leave them out, unless the service shows them to all"
    ] == told(BY_ID % ("users", "anyone"))
    assert [
        "GET /b/{id:int}: access: anyone gives email_address of view 'listed' to whoever can guess the key; give it access: token, or a view with fewer fields, unless the service shows them to all"
    ] == told(AGAIN % ("listed", "anyone"))


def test_a_callers_own_copy_in_a_shared_view() -> None:
    """Whichever of them stands first."""
    expected = "GET /b/{id:int}: access: caller says that answers differ by caller, but GET /a/{id:int} shares view 'mine'; give it a view of its own"
    assert [expected] == told(BY_ID % ("mine", "token") + AGAIN % ("mine", "caller"))
    assert [expected] == told(AGAIN % ("mine", "caller") + BY_ID % ("mine", "token"))


def test_routes_of_one_view_with_different_access() -> None:
    """The weakest against the strictest; without `access` is weaker than a token."""
    weak = '  - {match: "GET /c/{id:int}", lookup: {by: id, view: users}}\n'
    assert [
        "GET /c/{id:int}: gives whoever sends no credentials the copies of view 'users' for which GET /b/{id:int} asks for the user's own token; give both the same access, or each a view of its own, unless the service makes that difference itself"
    ] == told(BY_ID % ("users", "token") + AGAIN % ("users", "owner") + weak)


@pytest.mark.parametrize(
    ("one", "other", "weak", "strict"),
    [
        ("token", "token, require: {scope: all}", "a good token", "a good token with what it requires"),
        (
            "token, require: {scope: all}",
            "owner",
            "a good token with what it requires",
            "the user's own token",
        ),
    ],
)
def test_routes_of_one_view_that_require_different_things(
    one: str, other: str, weak: str, strict: str
) -> None:
    """A service may tell tokens of a wide scope, or of a role, more."""
    expected = f"GET /a/{{id:int}}: gives {weak} the copies of view 'users' for which GET /b/{{id:int}} asks for {strict}; give both the same access, or each a view of its own, unless the service makes that difference itself"
    assert [expected] == told(BY_ID % ("users", one) + AGAIN % ("users", other))


def test_a_copy_for_a_role_and_for_the_user() -> None:
    """What an administrator is told more would be the user's next answer."""
    assert [
        "GET /a/{id:int}: gives the user the copy that was made for whoever allow lets in; list the fields of view 'users', or give those a route and a view of their own, unless the service tells both the same"
    ] == told(BY_ID % ("users", "owner, allow: {claim: role, any: [admin]}"))


@pytest.mark.parametrize(
    ("route", "warned"),
    [
        ("{match: 'POST /auth/login', write: {evict: [{id: response.user.id}]}}", True),
        ("{match: 'POST /v1/sign-in', write: {evict: [{id: response.id}]}}", True),
        ("{match: 'POST /auth/login', write: {evict: [{id: response.id}], revoke: none}}", False),
        ("{match: 'POST /auth/login', write: {revoke: user}}", False),
        ("{match: 'POST /auth/login', pass: true}", False),
        ("{match: 'POST /auth/password', write: {evict: [{id: token}]}}", False),
        ("{match: 'POST /on/{login}', write: {evict: [{username: path.login}]}}", False),
    ],
)
def test_a_login_that_would_end_tokens(route: str, *, warned: bool) -> None:
    """Its body holds a password, as that of a change of passwords does."""
    (told_,) = told(f"  - {route}\n") or [""]
    assert warned == ("looks like a login" in told_)
    ignored = (HEAD + f"  - {route}\n").replace("tokens: {}", "tokens: {}\nrevoking: {passwords: ignore}")
    assert [] == list(dangers(parse(ignored.encode(), "r.yaml", {"JWT_SECRET": "s" * 64})))


def test_check_tells_them(tmp_path: Path) -> None:
    """Together with what else is suspicious."""
    file = tmp_path / "r.yaml"
    file.write_text(HEAD + BY_ID % ("users", "anyone"))
    _, found = load_without_secret({"JWT_SECRET": "s" * 64}, {"--routes": str(file)})

    assert 1 == sum("access: anyone gives" in one for one in found)


@pytest.mark.parametrize(
    ("introspect", "shown", "way"),
    [
        ("{answer: view, view: users}", "contact.mail, mobilePhone", "give answer: rfc7662"),
        ("{answer: view, view: public}", "", ""),
        ("{answer: upstream, view: users}", "", ""),
        ("{answer: rfc7662, view: users}", "", ""),
        (
            "{answer: rfc7662, view: users, fields: [username, email], claims: [tel]}",
            "email, tel",
            "leave them out",
        ),
    ],
)
def test_what_is_shown_to_every_caller(introspect: str, shown: str, way: str) -> None:
    """By POST, where callers ask about others; a holder of a token may know who they are."""
    by_get = f'  - {{match: "GET /me", introspect: {introspect}}}\n'
    by_post = f'  - {{match: "POST /me", introspect: {introspect}}}\n'
    expected = f"POST /me: shows {shown} to every caller whom the service answers; {way}, or give answer: upstream, unless the service shows them to all of its callers"
    assert ([expected] if shown else []) == told(by_get + by_post)
