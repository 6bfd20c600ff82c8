"""Directives and dates are read as RFC 9111 and RFC 9110 say, and garbage the careful way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cachecontrol import (
    LARGEST,
    NO_DIRECTIVES,
    RequestDirectives,
    delta_seconds,
    http_date,
    parse,
    request_directives,
)
from proxy.core.headers import Headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ("", {}),
        (" , ,, ", {}),
        ("no-store", {"no-store": None}),
        ("No-Store, MAX-AGE=60", {"no-store": None, "max-age": "60"}),
        ("max-age=60,public", {"max-age": "60", "public": None}),
        ("max-age = 60", {"max-age": "60"}),
        ('max-age="60"', {"max-age": "60"}),
        ("max-age=", {"max-age": ""}),
        ("=5, public", {"public": None}),
        ('private="a, b", public', {"private": "a, b", "public": None}),
        (r'x="a\"b, no-store", public', {"x": 'a"b, no-store', "public": None}),
        ('"', {'"': None}),
    ],
)
def test_directives(value: str | None, expected: dict[str, str | None]) -> None:
    """RFC 9111 §5.2: names without case, quoted arguments unquoted, commas inside quotes are text."""
    assert expected == parse(value)


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ("max-age=60, max-age=5", "max-age", "5"),
        ("max-age=5, max-age=60", "max-age", "5"),
        ("max-age=60, max-age=x", "max-age", "x"),
        ("max-age=x, max-age=60", "max-age", "x"),
        ("s-maxage=9, s-maxage=1", "s-maxage", "1"),
        ("min-fresh=1, min-fresh=9", "min-fresh", "9"),
        ("min-fresh=9, min-fresh=1", "min-fresh", "9"),
        ("max-stale, max-stale=3", "max-stale", "3"),
        ("max-stale=3, max-stale", "max-stale", "3"),
        ("private, private=x", "private", None),
    ],
)
def test_duplicates(value: str, name: str, expected: str | None) -> None:
    """RFC 9111 §4.2.1: of contradicting arguments the one that serves less from cache counts."""
    assert expected == parse(value)[name]


def test_an_endless_quote_hides_nothing() -> None:
    """RFC 9111 §5.2: a no-store behind a quote that never ends still counts."""
    assert "no-store" in parse('private="a, no-store')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("1", 1),
        ("007", 7),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        (" 1", None),
        ("\u0661", None),
        ("2147483647", 2**31 - 1),
        ("2147483648", 2**31),
        ("2147483649", 2**31),
        ("9" * 5000, 2**31),
    ],
)
def test_delta_seconds(text: str | None, expected: int | None) -> None:
    """RFC 9111 §1.2.2: digits only, and no more than 2^31."""
    assert expected == delta_seconds(text)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], NO_DIRECTIVES),
        ([(b"Cache-Control", b"")], NO_DIRECTIVES),
        ([(b"Pragma", b"no-cache")], RequestDirectives(no_cache=True)),
        ([(b"Pragma", b"x")], NO_DIRECTIVES),
        ([(b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=1")], RequestDirectives(max_age=1)),
        ([(b"Cache-Control", b"no-store"), (b"cache-control", b"no-cache")], RequestDirectives(True, True)),
        ([(b"Cache-Control", b"max-age=0")], RequestDirectives(max_age=0)),
        ([(b"Cache-Control", b"max-age=soon")], RequestDirectives(max_age=0)),
        ([(b"Cache-Control", b"max-stale")], RequestDirectives(max_stale=LARGEST)),
        ([(b"Cache-Control", b"max-stale=7")], RequestDirectives(max_stale=7)),
        ([(b"Cache-Control", b"max-stale=x, min-fresh=x")], RequestDirectives()),
        ([(b"Cache-Control", b"min-fresh=7")], RequestDirectives(min_fresh=7)),
        ([(b"Cache-Control", b"only-if-cached")], RequestDirectives(only_if_cached=True)),
    ],
)
def test_request_directives(lines: list[tuple[bytes, bytes]], expected: RequestDirectives) -> None:
    """RFC 9111 §5.2.1 and §5.4: Pragma counts only where there is no Cache-Control."""
    assert expected == request_directives(Headers(lines))


def test_no_directives_are_one_object() -> None:
    """The common request costs no allocation: the plan's short way asks for identity."""
    assert request_directives(Headers()) is NO_DIRECTIVES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        ("Sun Nov  6 08:49:37 1994", 784111777.0),
        ("Sun Nov 06 08:49:37 1994", 784111777.0),
        (" Sun, 06 Nov 1994 08:49:37 GMT\t", 784111777.0),
        ("Thursday, 01-Jan-70 00:00:00 GMT", 0.0),
        ("Thursday, 01-Jan-69 00:00:00 GMT", -31536000.0),
        ("Sunday, 01-Jan-68 00:00:00 GMT", 3092601600.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0),
        ("Sat, 31 Dec 2016 23:59:61 GMT", None),
        ("Sat, 32 Dec 2016 23:59:59 GMT", None),
        ("Sat, 31 Dec 2016 24:00:00 GMT", None),
        ("Sat, 31 Dec 0000 23:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 NOV 1994 08:49:37 gMT", 784111777.0),
        ("sUNDAY, 06-nOV-94 08:49:37 gmt", 784111777.0),
        ("1994-11-06T08:49:37Z", None),
        ("0", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_http_dates(text: str | None, expected: float | None) -> None:
    """RFC 9110 §5.6.7: the three formats and nothing else; RFC 9111 §4.2: in any case."""
    assert expected == http_date(text)


@given(st.text(alphabet='ab=",\\ -19', max_size=60))
def test_nothing_makes_the_parser_raise(value: str) -> None:
    """RFC 9111 §5.2: whatever stands in the field, something is read, and no-store behind it is not lost."""
    assert "no-store" in parse(f"{value},no-store") or '"' in value
    http_date(value)
