"""What looks like a new password in the body of a write."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.config import parse
from proxy.core.errors import ConfigError
from proxy.core.model import Reason
from proxy.core.revoking import (
    RevokingSettings,
    form_holds_password,
    holds_password,
    parts_hold_password,
    tokens_in_form,
)
from proxy.store.cutoffs import EVERYBODY, Cutoffs, latest, outdated
from proxy.store.revocations import Revocations


@pytest.mark.parametrize(
    "document",
    [
        {"password": "x"},
        {"new_password": "x"},
        {"newPassword": None},
        {"PASSWD": 1},
        {"user": {"credentials": [{"pwd": "x"}]}},
        [{"pass": "x"}],
        {"user-passphrase": "x"},
    ],
)
def test_a_password_is_seen(document: Any) -> None:
    """In any spelling, at any depth."""
    assert holds_password(document)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"token=a.b.c", ("a.b.c",)),
        (b"client_id=x&token=a%2Bb%3D&token_type_hint=access_token", ("a+b=",)),
        (b"%74oken=a&token=b&token=a", ("a", "b")),
        (b"refresh_token=a&Token=b&a=token", ()),
        (b"\xff=\xfe&token", ("",)),
        (b"", ()),
    ],
)
def test_tokens_in_a_form(body: bytes, tokens: tuple[str, ...]) -> None:
    """However a service reads them; another name is not the one of RFC 7009."""
    assert tokens == tokens_in_form(body)


@pytest.mark.parametrize(
    "document", [{}, {"email": "password"}, {"passenger": 1}, {"bypass": 1}, None, "password", {"pin": 1}]
)
def test_what_is_none(document: Any) -> None:
    """Values are not looked at, and neither are words that only begin alike."""
    assert not holds_password(document)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b"password=x", True),
        (b"a=1&new%5Fpassword=x", True),
        (b"new+password=1", True),
        (b"email=password&x", False),
        (b"\xff=1", False),
        (b"", False),
    ],
)
def test_a_form(body: bytes, seen: bool) -> None:
    """By the names of its fields."""
    assert seen == form_holds_password(body)


@pytest.mark.parametrize(
    ("head", "seen"),
    [
        (b'Content-Disposition: form-data; name="new_password"', True),
        (b"content-disposition: form-data; name=passwd", True),
        (b'Content-Disposition: form-data; filename="password"; name="avatar"', False),
        (b'X: form-data; name="password"', False),
    ],
)
def test_a_form_of_parts(head: bytes, seen: bool) -> None:
    """By the names of its parts; what stands in them is not looked at."""
    body = b"--b\r\n" + head + b'\r\n\r\nname="password"\r\n--b--\r\n'
    assert seen == parts_hold_password(body)


def test_a_logout_that_is_forgotten_untold_leaves_no_token_good() -> None:
    """Beyond the limit nobody here can tell which it was; of the others Redis does."""
    clock = [100.0]
    held = Revocations(2, now=lambda: clock[0])
    for number in range(2):
        held.add(f"told{number}", 500.0, told=True)
    held.add("a", 200.0)
    assert None is held.state("another")
    for name in ("b", "c"):
        held.add(name, 900.0)

    assert [Reason.STORE_DOWN, Reason.TOKEN_REVOKED] == [held.state("another"), held.state("c")]
    clock[0] = 200.0
    assert None is held.state("another")


def test_a_token_of_the_same_second_is_from_before() -> None:
    """`iat` is a whole second, cut off; one without `iat` may be from any time."""
    assert outdated(100.0, 100.9)
    assert outdated(100.0, 100.0)
    assert not outdated(101.0, 100.9)
    assert outdated(None, 100.0)
    assert not outdated(None, 0.0)


def test_what_redis_says_is_read_with_care() -> None:
    """The latest counts; what can't be read is taken for "all of them"."""
    assert 2.0 == latest([[b"before", b"1000", b"w:a", b"2000"], []])
    assert 3.0 == latest([{}, {b"before": b"3000"}])
    assert 0.0 == latest([[], []])
    assert float("inf") == latest([[b"before", b"x"], []])


def test_what_does_not_fit_is_kept_for_everybody() -> None:
    """Forgetting whose tokens they are must not make them good."""
    cutoffs = Cutoffs(2, now=lambda: 0.0)
    for number in range(4):
        cutoffs.add(str(number), 10.0 + number, 100.0, "", sure=True)
    assert 11.0 <= cutoffs.before(EVERYBODY)
    assert 13.0 == cutoffs.before("3")
    assert 10.0 <= cutoffs.before("0")
    assert 10.0 <= cutoffs.before("another")


def test_a_write_that_changed_nothing_leaves_the_earlier_word() -> None:
    """And none where there was none."""
    cutoffs = Cutoffs(now=lambda: 0.0)
    cutoffs.add("5", 20.0, 100.0, "a", sure=False)
    cutoffs.undo("5", "a")
    assert 0.0 == cutoffs.before("5")
    cutoffs.add("5", 20.0, 100.0, "", sure=True)
    cutoffs.add("5", 30.0, 100.0, "b", sure=False)
    cutoffs.undo("5", "b")
    assert 20.0 == cutoffs.before("5")


def test_the_block() -> None:
    """Its defaults, and a mistake."""
    text = b"version: 1\nrevoking: {token_life: 1h, clock_skew: 0s, passwords: ignore}\n"
    read = parse(text, "routes.yaml", {}).revoking
    assert RevokingSettings(token_life=3600.0, clock_skew=0.0, passwords=False) == read
    with pytest.raises(ConfigError, match=r"routes\.yaml:2: revoking\.token_life: '0s' is no life of"):
        parse(b"version: 1\nrevoking: {token_life: 0s}\n", "routes.yaml", {})
