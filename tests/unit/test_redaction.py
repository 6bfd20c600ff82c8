"""No secret survives, whatever it is called; nothing else is touched."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import redaction
from proxy.core.redaction import MAX_NAME, Redactor, strip_json

REDACTOR = Redactor()


def wide(name: str) -> str:
    """The name in full-width letters and digits."""
    return "".join(chr(ord(char) + 0xFEE0) if char.isascii() and char.isalnum() else char for char in name)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passwords",
        "passwd",
        "pwd",
        "pass",
        "passphrase",
        "passcode",
        "hash",
        "hashes",
        "salt",
        "secret",
        "totp",
        "otp",
        "OTP1",
        "mfa",
        "2fa",
        "2FACode",
        "twoFactor",
        "recovery_code",
        "recoveryKeys",
        "backup_codes",
        "backupcode",
        "private_key",
        "privateKeyPem",
        "api_key",
        "api-key",
        "API_KEYS",
        "access_token",
        "refreshToken",
        "session_token",
        "IDToken",
        "session_id",
        "token",
        "ssn",
        "pin",
        "PIN",
        "credit_card",
        "creditCardNumber",
        "cvv2",
        "CVC",
        "hashed_password",
        "hashedpassword",
        "passwordhash",
        "PasswordHash",
        "password.hash",
        "password hash",
        "PASSWORD_HASH",
        "password_hash_v2",
        "passwordHash2",
        "user-api-key2",
        "api2key",
        "userapikey",
        "accesstoken",
        "pass_word",
        "passWord",
        "pAsSwOrD",
        "p.a.s.s.w.o.r.d",
        "PASSwordHASH",
        "pass\u200bword",
        "pass\u00adword",
        wide("password"),
        wide("PasswordHash"),
        "pa\u017f\u017fword",
        "pássword",
        "passworδ_hash",
        "user_salted_hash",
        "passwordless_secret",
        "x" * (MAX_NAME + 1),
    ],
)
def test_secret_names(name: str) -> None:
    """Every spelling of a secret's name is one (design §4)."""
    assert REDACTOR.secret_name(name)
    assert REDACTOR.strip({name: "x"})[0] == {}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "id",
        "_",
        "123",
        "email",
        "username",
        "phone",
        "photo",
        "hotpot",
        "passenger",
        "passport_number",
        "bypass",
        "compass",
        "pass_count",
        "saltwater",
        "hash\u200btagged",
        "basalt",
        "hashtag",
        "hashTags",
        "hash_tag",
        "passwordless",
        "passwordLess",
        "secretary",
        "pinned",
        "pin_code",
        "shipping",
        "token_type",
        "token_version",
        "tokenizer",
        "keyboard",
        "access_level",
        "card",
        "имя",
        "x" * MAX_NAME,
    ],
)
def test_innocent_names(name: str) -> None:
    """Words that only begin or end like a secret stay (design §4)."""
    assert not REDACTOR.secret_name(name)
    assert REDACTOR.strip({name: {"a": "x"}}) == ({name: {"a": "x"}}, ())


@pytest.mark.parametrize(
    "name",
    [
        "password_changed_at",
        "passwordChangedAt",
        "mfa_enabled",
        "has_password",
        "isPasswordSet",
        "must_change_password",
        "needs_otp",
        "otp_count",
        "password_required",
        "password_policy",
        "secret_date",
        "access_token_expires_in",
        "session_token_expiry_expires",
        "mfa_on",
        "has_password2",
    ],
)
@pytest.mark.parametrize(
    ("value", "stays"),
    [
        (True, True),
        (None, True),
        (0, True),
        (1700000000.5, True),
        ("2024-02-29", True),
        ("2024-02-29T10:11:12Z", True),
        ("2024-02-29 10:11:12.123456+02:00", True),
        ("Sun, 06 Nov 1994 08:49:37 GMT", True),
        ("hunter2", False),
        ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 12, False),
        ("1234", False),
        ("", False),
        ("2024-02-29T10:11:12.123456789 +02:00 and more", False),
        ([], False),
        ({"a": 1}, False),
    ],
)
def test_facts_about_secrets(name: str, value: object, stays: bool) -> None:
    """A name that speaks of a fact is believed of a number, a truth value, null or a date only."""
    expected = ({name: value}, ()) if stays else ({}, (name,))
    assert not REDACTOR.secret_name(name)
    assert expected == REDACTOR.strip({name: value})
    assert (orjson.dumps(expected[0]), expected[1]) == strip_json(REDACTOR, orjson.dumps({name: value}))


@pytest.mark.parametrize("name", ["tax_id", "taxId", "TAX-ID", "tax id", wide("tax_id")])
def test_names_of_the_settings(name: str) -> None:
    """A name of `user.secrets` counts in any spelling, as a whole, and whatever its value."""
    redactor = Redactor(["tax_id", "", "has_badge"])
    assert redactor.secret_name(name)
    assert not redactor.secret_name(f"{name}_type")
    assert not REDACTOR.secret_name(name)
    assert redactor.strip({"has_badge": True, "": 1}) == ({"": 1}, ("has_badge",))


def test_paths() -> None:
    """Paths are dotted, outermost first, `[]` in arrays, each once, and show no personal data."""
    document = {
        "users": [{"password": 1, "id": 1}, {"password": 2, "id": 2}],
        "by_mail": {"a@b.example": {"hash": 1}, "+49151": {"hash": 1}, "17": {"salt": 1}},
        "2fa": 1,
        "a@b.example password": 1,
    }
    kept, taken = REDACTOR.strip(document)
    assert ("2fa", "*", "users.[].password", "by_mail.*.hash", "by_mail.*.salt") == taken
    assert {"users": [{"id": 1}, {"id": 2}], "by_mail": {"a@b.example": {}, "+49151": {}, "17": {}}} == kept
    assert REDACTOR.find(document) == "2fa"
    assert set(taken) == set(strip_json(REDACTOR, orjson.dumps(document))[1])


def test_the_given_document_is_left_alone() -> None:
    """A copy is made where something is taken out, and none where nothing is."""
    document: dict[str, Any] = {"a": [{"b": 1, "salt": 2}], "t": ({"salt": 1}, 2)}
    before = copy.deepcopy(document)
    assert ({"a": [{"b": 1}], "t": [{}, 2]}, ("a.[].salt", "t.[].salt")) == REDACTOR.strip(document)
    assert before == document
    clean = {"a": [{"b": 1}]}
    assert REDACTOR.strip(clean)[0] is clean
    assert REDACTOR.find(clean) is None


def test_members_keep_their_order() -> None:
    """A client that shows members in order sees the same order."""
    kept, _ = REDACTOR.strip({"b": {}, "salt": 1, "a": [], "c": 1})
    assert isinstance(kept, dict)
    assert ["b", "a", "c"] == list(kept)


@pytest.mark.parametrize("scalar", [None, 1, 1.5, "password", True])
def test_scalars(scalar: object) -> None:
    """A document that is no container holds no member."""
    assert (scalar, ()) == REDACTOR.strip(scalar)
    assert REDACTOR.find(scalar) is None


def test_depth_costs_no_stack() -> None:
    """10,000 levels, as objects and as text, are read to the bottom."""
    document: object = {"salt": 1, "z": 2}
    for _ in range(5000):
        document = {"a": [document]}
    kept, taken = REDACTOR.strip(document)
    assert [".".join(["a.[]"] * 5000) + ".salt"] == list(taken)
    for _ in range(5000):
        assert isinstance(kept, dict)
        kept = kept["a"][0]
    assert {"z": 2} == kept
    text = b'{"a":[' * 5000 + b'{"salt":1,"z":2}' + b"]}" * 5000
    assert b'{"a":[' * 5000 + b'{"z":2}' + b"]}" * 5000 == strip_json(REDACTOR, text)[0]


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects keyed by ids do not fill the memory with their names."""
    monkeypatch.setattr(redaction, "_REMEMBERED", 3)
    redactor = Redactor()
    for number in range(10):
        assert not redactor.secret_name(f"id-{number}")
        assert redactor.secret_name("password")
    assert len(redactor._kinds) <= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1}', '{"a":1}'),
        ("[]", "[]"),
        ('"password"', '"password"'),
        ('{"password":1}', "{}"),
        ('{ "password" : 1 }', "{ }"),
        ('{"password":1,"a":2}', '{"a":2}'),
        ('{"a":2,"password":1}', '{"a":2}'),
        ('{"a":2, "password":1, "salt":[{"b":"]"}], "c":3}', '{"a":2, "c":3}'),
        ('{"salt":1,"a":{"salt":1},"otp":{"x":{}}}', '{"a":{}}'),
        ('[{"salt":"\\"},{"},1,{"z":[],"pin":1}]', '[{},1,{"z":[]}]'),
        (
            '{"p\\u0061ssword":1,"a":1.10,"n":12345678901234567890123}',
            '{"a":1.10,"n":12345678901234567890123}',
        ),
        ('{"password":1,"password":2,"a":"\\u00e9"}', '{"a":"\\u00e9"}'),
        ('{"":{"salt":1},"has_mfa":true,"has_otp":"1"}', '{"":{},"has_mfa":true}'),
    ],
)
def test_texts(text: str, expected: str) -> None:
    """Members are cut out of the text, and every other byte is upstream's."""
    assert expected.encode() == strip_json(REDACTOR, text.encode())[0]


TERMS = sorted(redaction._SECRET - {"userpass", "2fa"})
AFFIXES = st.sampled_from(["", "user", "my", "v2", "old", "x1"])
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
INNOCENT = st.sampled_from(["id", "name", "items", "photo", "passenger", "", "a b", 'q"', "\\", "é"])


@st.composite
def secret_names(draw: st.DrawFn) -> str:
    """A secret's name, with words before and after it, in some case and with some tricks."""
    joiner = draw(st.sampled_from(["_", "-", ".", " ", "__", "\u200b_"]))
    word = draw(st.sampled_from(TERMS)) + draw(st.sampled_from(["", "s"]))
    parts = [part for part in (draw(AFFIXES), word, draw(AFFIXES)) if part]
    name = draw(
        st.sampled_from([joiner.join(parts), joiner.join(parts).upper(), "".join(map(str.capitalize, parts))])
    )
    if draw(st.booleans()):
        name = wide(name)
    at = draw(st.integers(0, len(name)))
    return name[:at] + draw(st.sampled_from(["", "\u200b", "\u2060", "\ufeff"])) + name[at:]


def documents(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON documents with members of those names."""
    return st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=12,
    )


def without_secrets(document: Any) -> Any:
    """The same by plain recursion, for documents whose names are all drawn from the strategies above."""
    if isinstance(document, dict):
        return {
            name: without_secrets(value)
            for name, value in document.items()
            if name in ("id", "name", "items", "photo", "passenger", "", "a b", 'q"', "\\", "é")
        }
    if isinstance(document, list):
        return [without_secrets(item) for item in document]
    return document


@given(documents(secret_names() | INNOCENT))
def test_no_secret_survives(document: Any) -> None:
    """At any depth and in any spelling; and the text is cut as the document is."""
    expected = without_secrets(document)
    kept, taken = REDACTOR.strip(document)
    assert expected == kept
    assert bool(taken) == (expected != document)
    assert (REDACTOR.find(document) is None) == (not taken)
    for text in (orjson.dumps(document), json.dumps(document, indent=1).encode()):
        cut, named = strip_json(REDACTOR, text)
        assert expected == orjson.loads(cut)
        assert set(taken) == set(named)


@given(documents(INNOCENT))
def test_documents_without_secrets_are_untouched(document: Any) -> None:
    """The same object and the same bytes come back."""
    text = json.dumps(document, indent=1).encode()
    assert REDACTOR.strip(document)[0] is document
    assert (text, ()) == strip_json(REDACTOR, text)


@pytest.mark.parametrize(
    "term",
    [
        "password",
        "passwd",
        "pwd",
        "hash",
        "salt",
        "secret",
        "totp",
        "otp",
        "mfa",
        "recovery_code",
        "backup_code",
        "private_key",
        "api_key",
        "access_token",
        "refresh_token",
        "session_token",
        "ssn",
    ],
)
def test_each_promised_word_in_each_spelling(term: str) -> None:
    """Snake, kebab, camel, Pascal, shouted and joined; with words around it, in objects and arrays."""
    words = term.split("_")
    pascal = "".join(map(str.capitalize, words))
    names = [
        *(term, term.upper(), "-".join(words), "".join(words), pascal, pascal[0].lower() + pascal[1:]),
        *(f"user_{term}", f"{term}_v2", f"user{pascal}", f"old-{'-'.join(words)}", f"my.{term}", f"{term}s"),
    ]
    for name in names:
        assert ({"a": [{"id": 1}]}, (f"a.[].{name}",)) == REDACTOR.strip({"a": [{name: "x", "id": 1}]})
    assert REDACTOR.secret_name("recovery")


@pytest.mark.parametrize(
    "name",
    [
        "hashtag",
        "hash_tag",
        "assault",
        "saltwater",
        "basalt",
        "passenger",
        "compass",
        "passport",
        "boarding_pass",
        "secretary",
        "author",
        "token_type",
        "token_count",
        "tokens_used",
        "shipping",
        "opinion",
        "pinned",
        "recovered",
        "recovery_email",
        "discovery",
        "zip_code",
        "promo_code",
        "session",
        "avatar_hash",
        "contentHash",
        "blurhash",
        "key",
        "bypass",
        "pass_rate",
    ],
)
def test_false_friends_are_left_alone(name: str) -> None:
    """Names of ordinary fields that sound like secrets."""
    assert {name: "x"} == REDACTOR.strip({name: "x"})[0]


@pytest.mark.parametrize(
    "name", ["password_changed_at", "last_password_change", "passwordUpdated", "mfa_enabled", "has_password"]
)
def test_facts_about_secrets_are_none(name: str) -> None:
    """A date, a number or a truth value is left; a text that may be the secret itself is not."""
    for fact in ("2024-01-02T03:04:05Z", True, 3, None):
        assert {name: fact} == REDACTOR.strip({name: fact})[0]
    assert {} == REDACTOR.strip({name: "hunter2"})[0]
