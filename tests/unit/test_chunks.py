"""The chunked coding: what is content, what ends it, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from proxy.core.chunks import MAX_SIZE_LINE, MAX_TRAILERS, Chunks

GOOD = {
    b"3\r\nabc\r\n0\r\n\r\n": b"abc",
    b"A\r\n0123456789\r\n00\r\n\r\n": b"0123456789",
    b'1;a=b;c;d="e;\\"f"\r\nx\r\n0;z\r\n\r\n': b"x",
    b"2 ; a\r\nhi\r\n0\r\nX-Sum: 1\r\nY: \r\n\r\n": b"hi",
    b"0000000000000002\r\nhi\r\n0\r\n\r\n": b"hi",
    b"0\r\n\r\n": b"",
}
BAD = [
    b"\r\n",
    b"g\r\n",
    b"-1\r\n",
    b"+1\r\n",
    b"0x1\r\n",
    b"1_0\r\n",
    b" 1\r\n",
    b"1 \r\n",
    b"1\n",
    b"1\rX",
    b"1\r\r\n",
    b"1;\r\n",
    b"1;a=\r\n",
    b"1;a\nb\r\n",
    b'1;a="b\r\n"\r\n',
    b"00000000000000001\r\n",
    b"8000000000000000\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"10000000000000000\r\n",
    b"1;" + b"a" * MAX_SIZE_LINE + b"\r\n",
    b"1\r\nab\r\n",
    b"1\r\na\n",
    b"1\r\na0\r\n\r\n",
    b"0\r\nContent-Length: 3\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nHost: h\r\n\r\n",
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\n X: 1\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX: 1\n\r\n",
    b"0\r\nX: a\0\r\n\r\n",
    b"0\r\n" + b"X: 1\r\n" * 33 + b"\r\n",
    b"0\r\nX: " + b"a" * MAX_TRAILERS,
]


@pytest.mark.parametrize("sent", GOOD)
def test_content_is_the_same_in_any_pieces(sent: bytes) -> None:
    """Whole, byte by byte, or cut in two anywhere; and what follows is given back."""
    follows = b"GET /"
    for cuts in ([], list(range(1, len(sent))), *([cut] for cut in range(1, len(sent)))):
        chunks, got = Chunks(), b""
        edges = [0, *cuts, len(sent)]
        for start, end in pairwise(edges):
            assert not chunks.done
            found, rest = chunks.feed(sent[start:end] + (follows if end == len(sent) else b""))
            got += b"".join(found)
        assert (True, GOOD[sent], follows) == (chunks.done, got, rest)


def test_trailers_are_kept_apart() -> None:
    """Behind the last chunk, in their order and case."""
    chunks = Chunks()
    chunks.feed(b"0\r\nX-a:  1 \r\nx-A: 2\r\n\r\n")

    assert ((b"X-a", b"1"), (b"x-A", b"2")) == chunks.trailers


def in_pieces(sent: bytes, size: int) -> None:
    """Feeds so many bytes at a time."""
    chunks = Chunks()
    for start in range(0, len(sent), size):
        chunks.feed(sent[start : start + size])


@pytest.mark.parametrize("sent", BAD)
def test_what_two_readers_could_read_differently_is_refused(sent: bytes) -> None:
    """Whole and byte by byte."""
    for size in (len(sent), 1):
        with pytest.raises(ValueError, match=r".+"):
            in_pieces(sent, size)


def test_old_servers_pad_their_sizes() -> None:
    """Blanks behind a size pass in an answer, and only there."""
    assert ([b"x"], b"") == Chunks(lenient=True).feed(b"1  \r\nx\r\n")
