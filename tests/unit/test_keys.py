"""Key values have one spelling, and a document says whose it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.keys import MAX_LENGTH, Identified, dig, identify, normalise, redis_key, user_id
from proxy.core.settings import UserKey, UserModel

MODEL = UserModel(
    keys=(
        UserKey(name="email", path=("email",), ignore_case=True),
        UserKey(name="username", path=("username",)),
        UserKey(name="phone", path=("contact", "phone")),
    ),
    active=("is_active",),
)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=MAX_LENGTH + 2)


@pytest.mark.parametrize(
    "value",
    ["", "x" * (MAX_LENGTH + 1), "a\x00b", "a\nb", "\x7f", "a\x85", "\ud800", "!w17", "!"],
)
def test_unusable_values_are_no_keys(value: str) -> None:
    """What Redis, a log line or UTF-8 cannot hold safely, or what a mark may look like, is never a key."""
    assert (None, None) == (normalise(value, ignore_case=False), normalise(value, ignore_case=True))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("STRAẞE@x", "straẞe@x"),
        ("straße@x", "straße@x"),
        ("\u212aelvin", "\u212aelvin"),
        ("É", "É"),
        ("x" * MAX_LENGTH, "x" * MAX_LENGTH),
        ("a!b", "a!b"),
    ],
)
def test_only_ascii_letters_are_folded(value: str, expected: str) -> None:
    """Two addresses that differ in more than the case of A-Z stay two."""
    assert expected == normalise(value, ignore_case=True)


@given(value=TEXTS, ignore_case=st.booleans())
def test_normalise_is_idempotent(value: str, ignore_case: bool) -> None:
    """A spelling that came out once comes out unchanged again."""
    once = normalise(value, ignore_case=ignore_case)
    assert once is None or once == normalise(once, ignore_case=ignore_case)


@given(a=TEXTS, b=TEXTS)
def test_nothing_but_ascii_case_is_merged(a: str, b: str) -> None:
    """Equal spellings mean equal texts but for the case of A-Z."""
    one, two = normalise(a, ignore_case=True), normalise(b, ignore_case=True)
    if one is not None and one == two:
        assert len(a) == len(b)
        assert all(
            x == y or (x.isascii() and y.isascii() and x.lower() == y.lower())
            for x, y in zip(a, b, strict=True)
        )


@given(a=st.text("aAkK\u212aß", max_size=3), b=st.text("aAkK\u212aß", max_size=3))
def test_near_collisions_are_not_merged(a: str, b: str) -> None:
    """The same over an alphabet where str.lower and str.casefold would merge."""
    one, two = normalise(a, ignore_case=True), normalise(b, ignore_case=True)
    same = [x.lower() if x.isascii() else x for x in a] == [y.lower() if y.isascii() else y for y in b]
    assert (one == two) == (same or (one is None and two is None))


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(pairs=st.tuples(st.tuples(NAMES, TEXTS), st.tuples(NAMES, TEXTS)))
def test_redis_keys_do_not_collide(pairs: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """Different (key, normalised value) pairs are different Redis keys."""
    (one, a), (two, b) = [(name, normalise(value, ignore_case=False)) for name, value in pairs]
    if a is not None and b is not None:
        assert ((one, a) == (two, b)) == (redis_key(one, a) == redis_key(two, b))


def test_redis_keys_are_the_documented_ones() -> None:
    """People read these keys with redis-cli."""
    assert ["user:id:42", "user:email:a@b:c"] == [redis_key("id", "42"), redis_key("email", "a@b:c")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(42, "42"), ("42", "42"), (-1, "-1"), (0, "0"), ("a b", "a b"), (10**255, str(10**255))],
)
def test_user_ids(value: object, expected: str) -> None:
    """Whole numbers and usable strings are ids, as text."""
    assert expected == user_id(value)


@pytest.mark.parametrize("value", [True, False, None, 4.0, "", "!x", [], {}, 10**256, "a\0"])
def test_anything_else_is_no_user_id(value: object) -> None:
    """Nothing else names a user, and nothing raises."""
    assert user_id(value) is None


def test_a_number_too_long_to_be_written_is_no_id() -> None:
    """Python refuses to print a number of more than 4300 digits; it is no id, and no error."""
    assert user_id(10**5000) is None


@pytest.mark.parametrize(
    ("document", "path", "expected"),
    [
        ({"a": {"b": 1}}, ("a", "b"), 1),
        ({"a": {"b": 1}}, ("a", "c"), None),
        ({"a": [1]}, ("a", "0"), None),
        ([], ("a",), None),
        ({"a.b": 1}, ("a", "b"), None),
    ],
)
def test_dig(document: object, path: tuple[str, ...], expected: object) -> None:
    """A path leads through objects only; what is not there is None."""
    assert expected == dig(document, path)


def test_identify_reads_id_aliases_and_active() -> None:
    """Numbers are fine as aliases, case is folded where the model says so, nested members are found."""
    document = {"id": 42, "email": "Ann@X.org", "username": "Ann", "contact": {"phone": 4912}, "is_active": 1}
    expected = Identified("42", {"email": "ann@x.org", "username": "Ann", "phone": "4912"}, True)
    assert expected == identify(MODEL, document)


@pytest.mark.parametrize("value", [None, "", "!w1", True, 1.5, [], "a\nb"])
def test_identify_leaves_out_what_cannot_be_an_alias(value: object) -> None:
    """An alias that is missing or unusable is not proven; the user is still that user."""
    assert Identified("1", {}, None) == identify(MODEL, {"id": 1, "username": value})


@pytest.mark.parametrize("document", [None, [], "x", {}, {"id": None}, {"id": True}, {"user": {"id": 1}}])
def test_identify_needs_an_id(document: object) -> None:
    """Without a usable id a document is nobody's."""
    assert identify(MODEL, document) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (2, None),
        (1.0, None),
        ("true", None),
        (None, None),
    ],
)
def test_active_is_only_what_is_clearly_true_or_false(value: object, expected: bool | None) -> None:
    """A text or another number does not say whether a user is active."""
    found = identify(MODEL, {"id": 1, "is_active": value})
    assert found is not None
    assert expected is found.active


def test_active_is_unknown_without_a_path() -> None:
    """A model that names no member reads none."""
    found = identify(UserModel(), {"id": 1, "is_active": False})
    assert found is not None
    assert found.active is None


def test_repr_shows_nothing_personal() -> None:
    """Traces and test reports print reprs."""
    assert "Identified(keys=['email'], active=None)" == repr(Identified("42", {"email": "a@b"}, None))
