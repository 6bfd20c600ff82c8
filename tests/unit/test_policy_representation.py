"""Validators, kept headers, Cache-Status, and hosts that come back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import policy
from proxy.core.headers import Headers

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"


def fields(**lines: str) -> Headers:
    return Headers(
        (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in lines.items()
    )


@pytest.mark.parametrize(
    ("asked", "stored", "expected"),
    [
        ('"a"', '"a"', True),
        ('W/"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('"b", W/"a"', '"a"', True),
        ('"x,y", "z"', '"x,y"', True),
        ('"x"', '"x,y"', False),
        ('"\xe9"', '"\xe9"', True),
        ('""', '""', True),
        ("*", '"a"', True),
        (" * ", "", True),
        ('"A"', '"a"', False),
        ("a", '"a"', False),
        ("a", "a", False),
        ('"a', '"a"', False),
        ("", '"a"', False),
    ],
)
def test_if_none_match(asked: str, stored: str, expected: bool) -> None:
    """RFC 9110 §13.1.2 and §8.8.3.2: weak comparison with any member of the list."""
    assert expected == policy.not_modified(fields(if_none_match=asked), fields(etag=stored))


def test_if_none_match_over_several_lines() -> None:
    """RFC 9110 §5.3: a list field may be spread over lines."""
    request = Headers([(b"If-None-Match", b'"a"'), (b"if-none-match", b'"b"')])
    assert policy.not_modified(request, fields(etag='"b"'))


def test_if_none_match_wants_an_etag() -> None:
    """RFC 9110 §13.1.2: without a stored ETag no tag matches."""
    assert not policy.not_modified(fields(if_none_match='"a"'), Headers())


@pytest.mark.parametrize(
    ("request_headers", "stored", "expected"),
    [
        (fields(if_modified_since=DATE), fields(last_modified=DATE), True),
        (fields(if_modified_since=LATER), fields(last_modified=DATE), True),
        (fields(if_modified_since=EARLIER), fields(last_modified=DATE), False),
        (fields(if_modified_since="x"), fields(last_modified=DATE), False),
        (fields(if_modified_since=DATE), fields(last_modified="x"), False),
        (fields(if_modified_since=DATE), Headers(), False),
        (fields(if_modified_since=DATE, if_none_match='"a"'), fields(last_modified=DATE, etag='"b"'), False),
        (Headers([(b"if-modified-since", DATE.encode())] * 2), fields(last_modified=DATE), False),
        (Headers(), fields(last_modified=DATE, etag='"a"'), False),
    ],
)
def test_if_modified_since(request_headers: Headers, stored: Headers, expected: bool) -> None:
    """RFC 9110 §13.1.3: one valid date, and only where there is no If-None-Match."""
    assert expected == policy.not_modified(request_headers, stored)


def test_own_etags() -> None:
    """RFC 9110 §8.8.1: a strong tag that changes with every byte and is the same on every replica."""
    assert policy.etag_for(b"a") == policy.etag_for(b"a")
    assert policy.etag_for(b"a") != policy.etag_for(b"b")
    assert re.fullmatch(rb'"[0-9a-f]{24}"', policy.etag_for(b"a"))
    etag = policy.etag_for(b"a").decode()
    assert policy.not_modified(fields(if_none_match=etag), fields(etag=etag))


REPLY = Headers(
    [
        (b"Date", b"d"),
        (b"Server", b"s"),
        (b"ETag", b'"up"'),
        (b"Last-Modified", b"m"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"2"),
        (b"Connection", b"X-Hop, close"),
        (b"X-Hop", b"h"),
        (b"Keep-Alive", b"k"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"9"),
        (b"Age", b"3"),
        (b"Set-Cookie", b"c"),
        (b"Set-Cookie2", b"c"),
        (b"Authentication-Info", b"nextnonce=1"),
        (b"Proxy-Authentication-Info", b"p"),
        (b"Via", b"1.1 elsewhere"),
        (b"Via", b"1.1 user-cache-proxy"),
        (b"via", b"1.0 a, 1.1 user-cache-proxy"),
        (b"Cache-Status", b"x; hit"),
        (b"X-Cache", b"HIT"),
        (b"Content-MD5", b"5"),
        (b"Digest", b"d"),
        (b"Content-Digest", b"d"),
        (b"Repr-Digest", b"d"),
        (b"Accept-Ranges", b"bytes"),
    ]
)
KEPT_ALWAYS = [
    (b"Date", b"d"),
    (b"Server", b"s"),
    (b"Last-Modified", b"m"),
    (b"X-Twice", b"1"),
    (b"x-twice", b"2"),
    (b"Content-Type", b"application/json"),
    (b"Via", b"1.1 elsewhere"),
    (b"via", b"1.0 a, 1.1 user-cache-proxy"),
]


def test_kept_headers_of_a_changed_body() -> None:
    """RFC 9111 §3.1: hop-by-hop, per-caller and re-made lines go, and all that described other bytes."""
    kept = policy.stored_headers(REPLY, changed=True, body=b"{}")
    assert (*KEPT_ALWAYS, (b"ETag", policy.etag_for(b"{}"))) == kept


def test_kept_headers_of_an_unchanged_body() -> None:
    """RFC 9111 §3.1: upstream's validators and digests stay with upstream's bytes."""
    kept = policy.stored_headers(REPLY, changed=False, body=b"{}")
    assert [(b"Date", b"d"), (b"Server", b"s"), (b"ETag", b'"up"'), (b"Last-Modified", b"m")] == list(
        kept[:4]
    )
    assert {name.lower() for name, _ in KEPT_ALWAYS} | {
        b"etag",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"accept-ranges",
    } == {name.lower() for name, _ in kept}


def test_cache_status_of_a_hit() -> None:
    """RFC 9211 §2.1: a hit was not forwarded, so nothing about forwarding is said."""
    assert b"user-cache-proxy; hit; ttl=123" == policy.cache_status(hit=True, ttl=123)
    assert b"user-cache-proxy; hit; ttl=-5; detail=expired" == policy.cache_status(
        hit=True, fwd="stale", fwd_status=200, stored=True, collapsed=True, ttl=-5, detail="expired"
    )


def test_cache_status_of_a_miss() -> None:
    """RFC 9211 §2.2-2.8: in the order of the RFC, falsehoods as ?0."""
    assert b"user-cache-proxy; fwd=uri-miss; fwd-status=200; stored; ttl=300; detail=absent" == (
        policy.cache_status(hit=False, fwd="uri-miss", fwd_status=200, stored=True, ttl=300, detail="absent")
    )
    assert b"user-cache-proxy; fwd=bypass; stored=?0; collapsed" == policy.cache_status(
        hit=False, fwd="bypass", stored=False, collapsed=True
    )
    assert b"user-cache-proxy" == policy.cache_status(hit=False)


@given(st.text(max_size=20))
def test_cache_status_details_are_structured_fields(detail: str) -> None:
    """RFC 8941 §3.3: a token where it can be one, else a string; never a broken header."""
    item = policy.cache_status(hit=True, detail=detail).removeprefix(b"user-cache-proxy; hit; detail=")
    token, string = (
        rb"[A-Za-z*][!#$%&'*+\-.^_`|~:/0-9A-Za-z]*",
        rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"',
    )
    assert re.fullmatch(rb"%s|%s" % (token, string), item)


@pytest.mark.parametrize(
    ("host", "body", "expected"),
    [
        ("evil.example", b'{"a":"https://evil.example/1.png"}', True),
        ("evil.example:8080", b'{"a":"https://evil.example:8080/1"}', True),
        ("evil.example:8080", b'{"a":"https://evil.example/1"}', True),
        ("EVIL.example", b'{"a":"//evil.EXAMPLE"}', True),
        ("evil.example", b'{"a":"https://cdn.evil.example"}', True),
        ("evil.example", b'{"email":"a@evil.example"}', False),
        ("evil.example", b'{"email":"a@evil.example","u":"//evil.example"}', True),
        ("users.example", b"{}", False),
        ("a.b", b'"a.b"', True),
        ("service", b'"service"', False),
        ("services", b'"services"', True),
        ("localhost", b'"localhost"', False),
        ("localhost:80", b'"localhost:80"', False),
        ("127.0.0.1:8080", b'"127.0.0.1:8080"', False),
        ("10.0.0.7", b'"10.0.0.7"', False),
        ("[::1]:80", b'"[::1]:80"', False),
        ("93.184.215.14", b'"http://93.184.215.14/"', True),
        ("[2606:4700::1111]:80", b'"http://[2606:4700::1111]/"', True),
        ("", b'""', False),
    ],
)
def test_reflected_hosts(host: str, body: bytes, expected: bool) -> None:
    """RFC 9110 §7.2: a copy that holds the Host of one request must not answer others."""
    assert expected == policy.reflects_host(fields(host=host), body)


def test_no_host_is_not_reflected() -> None:
    """RFC 9112 §3.2: an HTTP/1.0 request may have none."""
    assert not policy.reflects_host(Headers(), b"{}")
