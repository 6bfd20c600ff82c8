"""Hashed keys and sealed answers: their settings, the names users get, what opens where."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import parse, warnings
from proxy.core.errors import ConfigError
from proxy.core.keys import aliases_in, identify, key_value, key_values
from proxy.core.settings import Settings, UserKey, UserModel
from proxy.store.sealing import Sealer

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
BASE64 = base64.b64encode(ONE).decode()
EMAIL = UserKey(name="email", path=("email",), ignore_case=True)
PHONE = UserKey(name="phone", path=("phone",))
USER = "user: {keys: {email: {path: email}}}"


def model(*hash_keys: bytes) -> UserModel:
    """A user with two aliases."""
    return UserModel(keys=(EMAIL, PHONE), hash_keys=hash_keys)


def read(text: str, **environ: str) -> Settings:
    """The settings of a routes file."""
    return parse(f"version: 1\n{text}\n".encode(), "routes.yaml", environ)


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        ONE.hex(),
        ONE.hex().upper(),
        BASE64,
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(ONE).decode(),
        f" {BASE64} ",
    ],
)
def test_keys_are_read_in_any_common_spelling(written: str) -> None:
    """What `openssl rand -base64 32` and `-hex 32` print is a key."""
    settings = read(
        "hash_keys: true\nencrypt: true", CACHE_HASH_KEY=f"{written},{TWO.hex()}", CACHE_ENCRYPT_KEY=written
    )
    assert ((ONE, TWO), (ONE,)) == (settings.user.hash_keys, settings.redis.seal_keys)


def test_off_is_the_default() -> None:
    """Nothing is hashed or sealed unless the file asks for it, whatever the environment holds."""
    for text in ("", "hash_keys: false\nencrypt: false"):
        settings = read(text, CACHE_HASH_KEY=BASE64, CACHE_ENCRYPT_KEY=BASE64)
        assert ((), ()) == (settings.user.hash_keys, settings.redis.seal_keys)


def test_another_variable_may_have_the_key() -> None:
    """`key_env` names it."""
    settings = read(
        "hash_keys: {key_env: A}\nencrypt: {key_env: B}", A=f"plain,{BASE64}", B=f"{TWO.hex()},{BASE64}"
    )
    assert ((b"", ONE), (TWO, ONE)) == (settings.user.hash_keys, settings.redis.seal_keys)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("hash_keys: true", {}, "CACHE_HASH_KEY: is not set, and hash_keys (routes.yaml:2) needs it"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": ""}, "ENCRYPT_KEY: is not set, and encrypt (routes.yaml:2)"),
        ("encrypt: {key_env: K}", {}, "K: is not set, and encrypt (routes.yaml:2) needs it"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": "hush"}, "is not a key; give 32 random bytes"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": f"{BASE64},"}, "CACHE_ENCRYPT_KEY: is not a key"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": "plain"}, "CACHE_ENCRYPT_KEY: is not a key"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": ONE.hex()[:-2]}, "CACHE_ENCRYPT_KEY: is not a key"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": "*" * 43}, "CACHE_ENCRYPT_KEY: is not a key"),
        ("encrypt: true", {"CACHE_ENCRYPT_KEY": f"{BASE64},{ONE.hex()}"}, "holds the same key twice"),
        (
            "encrypt: true",
            {"CACHE_ENCRYPT_KEY": f"{BASE64},{TWO.hex()},{'ab' * 32}"},
            "holds 3 keys; give one, or two",
        ),
        ("hash_keys: true", {"CACHE_HASH_KEY": "plain"}, "CACHE_HASH_KEY: is not a key"),
        ("hash_keys: true", {"CACHE_HASH_KEY": f"plain,plain,{BASE64}"}, "holds too much"),
        ("hash_keys: true", {"CACHE_HASH_KEY": f"plain,{BASE64},{TWO.hex()}"}, "holds too much"),
    ],
)  # fmt: skip
def test_a_missing_or_mistyped_key_is_told(text: str, environ: dict[str, str], expected: str) -> None:
    """Which variable, and what to do; never what it held."""
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    (mistake,) = caught.value.mistakes
    assert expected in mistake
    assert not any(part and part != "plain" and part in mistake for part in environ.values())


def test_no_key_is_ever_printed() -> None:
    """Settings can be printed."""
    settings = read("hash_keys: true\nencrypt: true", CACHE_HASH_KEY=BASE64, CACHE_ENCRYPT_KEY=TWO.hex())
    for shown in (repr(settings), repr(settings.user), repr(settings.redis), repr(Sealer([ONE]))):
        assert "x02" not in shown
    assert "hash_keys='***'" in repr(settings)


def test_what_encryption_leaves_open_is_told() -> None:
    """Sealed answers beside plain e-mail addresses are hardly what was meant."""
    sealed = {"CACHE_ENCRYPT_KEY": BASE64}
    told = warnings(read(f"encrypt: true\n{USER}", **sealed))
    assert ["encrypt seals the answers, but email stand in the names of keys"] == [t[:63] for t in told]
    both = read(f"encrypt: true\nhash_keys: true\n{USER}", **sealed, CACHE_HASH_KEY=BASE64)
    assert () == warnings(both)
    way_there = read(f"encrypt: true\nhash_keys: true\n{USER}", **sealed, CACHE_HASH_KEY=f"plain,{BASE64}")
    assert 1 == len(warnings(way_there))
    same = read("hash_keys: true\nuser: {id: email, keys: {email: {path: email}}}", CACHE_HASH_KEY=BASE64)
    assert "leaves ids as they are" in warnings(same)[0]


# -- names of users ------------------------------------------------------------------------------------


def test_hashed_values_are_values() -> None:
    """Case is folded before; key, name and value all count; ids are left alone."""
    hashed = key_value(model(ONE), "email", "Ada@X.example")
    assert hashed is not None
    assert (43, True) == (len(hashed), hashed.replace("-", "").replace("_", "").isalnum())
    assert hashed == key_value(model(ONE), "email", "ada@x.example")
    assert hashed == key_value(model(ONE, TWO), "email", "ada@x.example")
    others = {
        key_value(model(TWO), "email", "ada@x.example"),
        key_value(model(ONE), "phone", "ada@x.example"),
        key_value(model(ONE), "email", "bda@x.example"),
        key_value(model(), "email", "ada@x.example"),
    }
    assert (4, False) == (len(others), hashed in others)
    assert "7" == key_value(model(ONE), "id", "7")
    assert None is key_value(model(ONE), "email", "")
    assert None is key_value(model(ONE), "email", "x" * 257)


def test_writes_know_every_value() -> None:
    """In their order; the empty secret is the plain value."""
    both = model(ONE, b"")
    hashed = key_value(model(ONE), "phone", "+49")
    assert (hashed, "+49") == key_values(both, "phone", "+49")
    assert ("+49", hashed) == key_values(model(b"", ONE), "phone", "+49")
    assert ("7",) == key_values(both, "id", "7")
    document = {"id": 7, "email": None, "phone": "+49"}
    assert [("phone", hashed), ("phone", "+49")] == aliases_in(both, document)
    identified = identify(both, document)
    assert identified is not None
    assert {"phone": hashed} == identified.keys


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_two_people_never_share_a_hashed_value(one: str, other: str) -> None:
    """The same value gives the same hash, another one another, for any text that can be a key."""
    plain = [key_value(model(), "email", text) for text in (one, other)]
    hashed = [key_value(model(ONE), "email", text) for text in (one, other)]
    assert [text is None for text in plain] == [text is None for text in hashed]
    if None not in plain:
        assert (plain[0] == plain[1]) == (hashed[0] == hashed[1])
        assert plain[0] not in hashed


# -- sealed answers ------------------------------------------------------------------------------------


def test_what_is_sealed_opens_in_its_place_only() -> None:
    """Another user, another view, another kind of record, a changed byte, a short text: nothing comes out."""
    sealer = Sealer([ONE])
    sealed = sealer.seal("user:id:7", "v:users", b"answer")
    assert b"answer" == sealer.open("user:id:7", "v:users", sealed)
    places = [("user:id:8", "v:users"), ("user:id:7", "v:other"), ("user:id:7", ""), ("user:id:7v:", "users")]
    for place in places:
        assert b"" == sealer.open(*place, sealed)
    for at in range(len(sealed)):
        changed = bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])
        assert b"" == sealer.open("user:id:7", "v:users", changed)
        assert b"" == sealer.open("user:id:7", "v:users", sealed[:at])
    assert b"" == sealer.open("user:id:7", "v:users", b"answer")


def test_no_two_seals_are_alike() -> None:
    """The same answer in the same place twice shows no one that it is the same."""
    sealer = Sealer([ONE])
    assert 100 == len({sealer.seal("k", "f", b"answer") for _ in range(100)})


def test_keys_rotate() -> None:
    """The first seals, both open; without the old one its answers are unreadable."""
    old, both, new = Sealer([ONE]), Sealer([TWO, ONE]), Sealer([TWO])
    before, after = old.seal("k", "f", b"answer"), both.seal("k", "f", b"answer")
    cases: list[tuple[Any, bytes, bytes]] = [
        (both, before, b"answer"),
        (both, after, b"answer"),
        (new, after, b"answer"),
        (new, before, b""),
        (old, after, b""),
    ]
    for sealer, sealed, expected in cases:
        assert expected == sealer.open("k", "f", sealed)


@given(st.binary(max_size=300))
def test_an_answer_of_any_size_comes_back(blob: bytes) -> None:
    """And garbage of any size does not open, nor raise."""
    sealer = Sealer([ONE])
    assert blob == sealer.open("k", "f", sealer.seal("k", "f", blob))
    assert b"" == sealer.open("k", "f", blob)
