"""Forms that hold a token: only what every service reads alike is understood."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.forms import Form, is_form, read_form, takes_json
from proxy.core.headers import Headers
from proxy.core.model import Reason

TYPE = b"application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b"token=abc", "abc"),
        (b"token=a.b-c_d~e/f==", "a.b-c_d~e/f=="),
        (b"token_type_hint=access_token&token=abc", "abc"),
        (b"token=%61bc", "abc"),
        (b"token=a%2Bb%2fc%3D", "a+b/c="),
        (b"client_id=app&token=abc&client_secret=%2B%26token%3Dx", "abc"),
    ],
)
def test_one_token(body: bytes, token: str) -> None:
    """The value is decoded as every service does it."""
    found = read_form(body, "token")

    assert isinstance(found, Form)
    assert token == found.token


@pytest.mark.parametrize(
    "body",
    [
        b"token=a&token=b",
        b"token=a&token=a",
        b"token=a&Token=b",
        b"token=a&%74oken=b",
        b"token=a&token[]=b",
        b"token=a&token%5B%5D=b",
        b"token=a;token=b",
        b"a=1;token=b&token=c",
        b"token=a& token=b",
        b"token=a&b",
        b"token=a&=b",
        b"token=a&&b=c",
        b"token=a&",
        b"token=a b",
        b"token=a+b",
        b"token=%20a",
        b"token=%zz",
        b"token=%6",
        b"token=%00",
        b"token=%C3%A9",
        b"token=\xc3\xa9",
        b"token=",
        b"token=a\r\n",
        b"token=a#b",
        b"token=a&x=%u0041",
        b"\xef\xbb\xbftoken=a",
        b'{"token": "a"}',
        b"",
    ],
)
def test_what_services_may_read_differently_is_not_understood(body: bytes) -> None:
    """Two of a name in any spelling, other separators and codings, letters that are none of a token."""
    assert read_form(body, "token") is Reason.REQUEST_FORM


@pytest.mark.parametrize("body", [b"Token=a", b"token_type_hint=a", b"token.a=b"])
def test_a_form_without_a_token(body: bytes) -> None:
    """The name is told apart by case."""
    assert read_form(body, "token") is Reason.TOKEN_MISSING


def test_the_name_of_the_parameter_is_the_settings() -> None:
    """Not every service calls it as RFC 7662 does."""
    found = read_form(b"token=a&access.token=b", "access.token")

    assert isinstance(found, Form)
    assert ("b", b"token=a") == (found.token, found.others)


@pytest.mark.parametrize(
    "other", [b"access.token", b"Access_Token", b"ACCESS.TOKEN", b"access%5Ftoken", b"access_token[]"]
)
def test_a_name_that_some_services_take_for_another(other: bytes) -> None:
    """Of two that are one to somebody, nobody knows which counts."""
    assert read_form(b"access_token=a&" + other + b"=b", "access_token") is Reason.REQUEST_FORM


def _split(body: bytes, separators: str) -> list[tuple[str, str]]:
    """A form as old parsers read it, names in small letters and without what stands in brackets."""
    pairs = [pair.partition("=") for pair in re.split(separators, body.decode("latin-1"))]
    return [
        (unquote_plus(name).strip().lower().partition("[")[0], unquote_plus(value))
        for name, _, value in pairs
    ]


PIECES = st.sampled_from(
    [
        *"tokenTOKEN=&;+%.[]_- \r\n0",
        "token",
        "token=",
        "&token=",
        "%3D",
        "%26",
        "%74",
        "a.b.c",
        "client_id=x",
        "%2B",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_every_parser_finds_that_token(text: str) -> None:
    """Whatever is understood here: that token, and no other, is what strict and lax parsers read."""
    body = text.encode()
    found = read_form(body, "token")
    if not isinstance(found, Form):
        return

    assert [found.token] == parse_qs(text, keep_blank_values=True, strict_parsing=True)["token"]
    for separators in ("&", "[&;]"):
        assert [found.token] == [value for name, value in _split(body, separators) if name == "token"]


def test_all_else_stays_as_it_came() -> None:
    """It says who asks, and what for, in the very bytes."""
    found = read_form(b"a=%41&token=x&b=A", "token")

    assert isinstance(found, Form)
    assert b"a=%41&b=A" == found.others
    assert "x" not in repr(found)


@pytest.mark.parametrize(
    ("body", "proofs"),
    [
        (b"token=x", ()),
        (b"token=x&client_id=app", ()),
        (b"token=x&client_id=app&client_secret=s+%2B", ("s +",)),
        (b"token=x&client_secret=", ()),
        (b"token=x&Client_Assertion=j&client_assertion_type=t", ("j",)),
    ],
)
def test_a_name_alone_proves_nobody(body: bytes, proofs: tuple[str, ...]) -> None:
    """A client_id is public."""
    found = read_form(body, "token")

    assert isinstance(found, Form)
    assert proofs == found.proofs
    assert ("j" in proofs) is found.once


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(b"Content-Type", TYPE)], True),
        ([(b"content-type", b"Application/X-WWW-Form-URLencoded; charset=UTF-8")], True),
        ([(b"Content-Type", TYPE + b'; charset="utf-8"')], True),
        ([], False),
        ([(b"Content-Type", b"application/json")], False),
        ([(b"Content-Type", TYPE + b"; charset=utf-16")], False),
        ([(b"Content-Type", TYPE + b", application/json")], False),
        ([(b"Content-Type", TYPE), (b"Content-Type", TYPE)], False),
        ([(b"Content-Type", TYPE), (b"Content-Encoding", b"gzip")], False),
        ([(b"Content-Type", b"multipart/form-data; boundary=x")], False),
    ],
)
def test_what_says_that_it_is_a_form(lines: list[tuple[bytes, bytes]], expected: bool) -> None:
    """One type, no coding, and letters that are ASCII's."""
    assert expected is is_form(Headers(lines))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, True),
        ("*/*", True),
        ("application/json", True),
        ("text/html, application/*;q=0.5", True),
        ("application/token-introspection+jwt", False),
        ("application/token-introspection+jwt, application/json;q=0.1", False),
        ("text/html", False),
    ],
)
def test_who_wants_another_answer_than_json(accept: str | None, expected: bool) -> None:
    """A signed answer (RFC 9701) is upstream's to give."""
    lines = [] if accept is None else [(b"Accept", accept.encode())]
    assert expected is takes_json(Headers(lines))
