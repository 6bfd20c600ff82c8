"""An answer's head: what is read of it, and what is none."""

from __future__ import annotations

import pytest

from proxy.core.replyhead import MAX_HEAD, MAX_LINE, MAX_LINES, check_reply_beginning, read_reply_head


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"HTTP/1.1 200 OK", (200, b"OK", (1, 1))),
        (b"HTTP/1.0 404 Not  Found\t\xe9", (404, b"Not  Found\t\xe9", (1, 0))),
        (b"HTTP/1.1 200 ", (200, b"", (1, 1))),
        (b"HTTP/1.1 999", (999, b"", (1, 1))),
    ],
)
def test_start_lines(start: bytes, expected: tuple[int, bytes, tuple[int, int]]) -> None:
    """The reason may be anything, or missing."""
    status, reason, version, headers = read_reply_head(start + b"\r\n\r\n")
    assert expected == (status, reason, version)
    assert () == headers


def test_lines_stay_as_they_came() -> None:
    """In their order and case, without the blanks around values."""
    said = b"HTTP/1.1 200 OK\r\nset-COOKIE:\ta=1 \r\nX:\r\nSet-Cookie: \xff\r\n\r\n"
    assert ((b"set-COOKIE", b"a=1"), (b"X", b""), (b"Set-Cookie", b"\xff")) == read_reply_head(said).headers


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\rY: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_LINE + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * (MAX_LINES + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"x" * 10_000) * 7 + b"\r\n",
    ],
)
def test_what_two_could_read_differently_is_none(said: bytes) -> None:
    """Or what is too much."""
    with pytest.raises(ValueError, match=r".+"):
        read_reply_head(said)


@pytest.mark.parametrize(
    "said", [b"", b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\r\nX: 1\r\n\r"]
)
def test_a_good_beginning_is_waited_for(said: bytes) -> None:
    """Wherever it was cut."""
    for since in range(len(said) + 1):
        check_reply_beginning(said, since)


@pytest.mark.parametrize(
    ("said", "since"),
    [
        (b"HTTQ", 0),
        (b"HTTP/1.1 200 OK\n", 10),
        (b"HTTP/1.1 200 OK\r\nX: 1\rY", 21),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD, MAX_HEAD),
    ],
)
def test_a_bad_beginning_is_not_waited_for(said: bytes, since: int) -> None:
    """A service that sends line feeds alone would never come to an end."""
    with pytest.raises(ValueError, match=r".+"):
        check_reply_beginning(said, since)
