"""Which heads are taken: the forms that aiohttp's parser lets through although parties differ on them."""

from __future__ import annotations

import pytest

from proxy.core.errors import ClientError
from proxy.core.headers import Headers
from proxy.core.incoming import MethodNotAllowed, checked_target

HOST = (b"Host", b"h:80")


def check(target: str = "/", *lines: tuple[bytes, bytes], method: str = "GET", version: str = "1.1") -> str:
    """The target in origin form."""
    return checked_target(method, target, version, Headers(lines or (HOST,)))


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/a%2Fb?", "/a%2Fb?"),
        ("GET", "//x", "//x"),
        ("OPTIONS", "*", "*"),
        ("GET", "http://h:80/a?b", "/a?b"),
        ("GET", "HTTPS://H:80", "/"),
        ("GET", "http://h:80?b", "/?b"),
        ("OPTIONS", "http://h:80", "*"),
    ],
)
def test_a_target_is_taken_in_origin_form(method: str, target: str, expected: str) -> None:
    """RFC 9112 §3.2: as it came, and a URL of this very host loses its authority."""
    assert expected == check(target, method=method)


@pytest.mark.parametrize(
    "target",
    ["*", "h:80", "http://other/", "http://u@h:80/", "http://h/", "ftp://h:80/", "http:///", "", "a/b"],
)
def test_other_targets_are_refused(target: str) -> None:
    """Another authority, another scheme, or no path at all."""
    with pytest.raises(ClientError) as caught:
        check(target)

    assert (400, "bad-request") == (caught.value.status, caught.value.problem)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_reveal_or_tunnel_are_refused(method: str) -> None:
    """405, whatever else is in the head."""
    with pytest.raises(MethodNotAllowed):
        check(method=method)


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0"])
def test_other_versions_are_refused(version: str) -> None:
    """HTTP/0.9 has no head, HTTP/2 no request line."""
    with pytest.raises(ClientError):
        check(version=version)


@pytest.mark.parametrize("value", [b"a/b", b"a b", b"u@h", b"h\xe9", b"h,g", b"h?x", b"h#", b"h\\"])
def test_a_host_that_is_none_is_refused(value: bytes) -> None:
    """Upstream may put it into links."""
    with pytest.raises(ClientError):
        check("/", (b"Host", value))


@pytest.mark.parametrize("value", [b"", b"h", b"h:8080", b"[::1]:80", b"a_b.example", b"%C3%A9"])
def test_a_host_that_is_one_is_taken(value: bytes) -> None:
    """Names, addresses, ports."""
    assert "/" == check("/", (b"Host", value))


def test_there_is_one_host() -> None:
    """Exactly one on HTTP/1.1, at most one on HTTP/1.0."""
    other = (b"X", b"1")
    assert "/" == check("/", other, version="1.0")
    for lines, version in (((other,), "1.1"), ((HOST, HOST), "1.1"), ((HOST, HOST), "1.0")):
        with pytest.raises(ClientError):
            check("/", *lines, version=version)


CL, TE = b"Content-Length", b"transfer-encoding"


@pytest.mark.parametrize(
    "lines",
    [
        ((CL, b"1"), (CL, b"1")),
        ((CL, b"+1"),),
        ((CL, b""),),
        ((CL, b"\xb2"),),
        ((CL, b"9223372036854775808"),),
        ((CL, b"18446744073709551615"),),
        ((CL, b"1"), (TE, b"chunked")),
        ((TE, b""),),
        ((TE, b"gzip, chunked"),),
        ((TE, b"identity"),),
        ((TE, b"chunked"), (TE, b"chunked")),
    ],
)
def test_a_body_that_may_end_in_two_places_is_refused(lines: tuple[tuple[bytes, bytes], ...]) -> None:
    """RFC 9112 §6.3 and §11.2."""
    with pytest.raises(ClientError):
        check("/", HOST, *lines)


@pytest.mark.parametrize("line", [(CL, b"0"), (CL, b"999999999999999999"), (TE, b"Chunked")])
def test_a_body_that_ends_in_one_place_is_taken(line: tuple[bytes, bytes]) -> None:
    """By its length or its last chunk."""
    assert "/" == check("/", HOST, line)


def test_an_old_client_can_send_no_chunks() -> None:
    """HTTP/1.0 does not know them (RFC 9112 §6.1)."""
    with pytest.raises(ClientError):
        check("/", HOST, (TE, b"chunked"), version="1.0")
