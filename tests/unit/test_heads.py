"""Answers that are made of remembered kinds of heads are those that the walk makes."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core.forwarding import reply_head
from proxy.core.headers import Headers
from proxy.core.model import Entry, Outcome, Request, XCache
from proxy.core.packed import pack, unpack
from proxy.core.replies import finished, from_entry
from proxy.heads import MOST, Heads

NAMES = (b"Date", b"date", b"ETag", b"Last-Modified", b"Expires", b"Content-Type", b"Content-Length", b"Via")
NAMES += (b"X-A", b"Cache-Control", b"Age", b"X-Cache", b"Cache-Status", b"Connection", b"Vary")
_VALUES = st.sampled_from(
    (b"", b"1", b"7", b"a, b", b"HIT", b"user-cache-proxy; hit; ttl=3", b"close", b"\x00")
)
_lines = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(_VALUES, st.binary(max_size=5))), max_size=6)
_clean = _lines.map(
    lambda lines: [(name, value) for name, value in lines if b"\r" not in value and b"\n" not in value]
)
NOW = b"Sun, 06 Nov 1994 08:49:37 GMT"


def walked(entry: Entry, now: float) -> bytes:
    """What the walk says."""
    outcome = Outcome(x_cache=XCache.HIT, ttl=int(entry.expires - now))
    reply = finished(from_entry(Request("GET", "/", Headers(())), entry, now), outcome)
    head, _, _ = reply_head(reply, method="GET", http_version="1.1", keep_alive=True, date=NOW)
    return head + entry.body


def copy(lines: list[tuple[bytes, bytes]], body: bytes, age: int = 0) -> Entry:
    """A stored copy."""
    return Entry(
        user_id="1",
        status=200,
        headers=tuple(lines),
        body=body,
        stored=100.0,
        expires=400.5,
        dead=400.5,
        age=age,
    )


def answered(heads: Heads, entry: Entry, now: float) -> bytes | None:
    """What a copy in Redis is answered with, and one in memory like it."""
    found = [
        None if kind is None else kind.text(one, now, lambda: NOW)
        for one in (unpack(pack(entry)), entry)
        for kind in (heads.kind(one),)
    ]
    assert found[0] == found[1]
    return found[0]


@example(copies=[([(b"Date", b"a"), (b"ETag", b"b")], b"x"), ([(b"Date", b"c"), (b"ETag", b"d")], b"y")])
@example(copies=[([(b"ETag", b"\x00")], b"x"), ([(b"ETag", b"a")], b"x")])
@example(copies=[([(b"X-A", b"\x00")], b"x"), ([], b"x")])
@example(copies=[([(b"X-A", b"50%"), (b"Date", b"%b")], b"%")])
@settings(max_examples=300, deadline=None)
@given(copies=st.lists(st.tuples(_clean, st.sampled_from((b"", b"x", b"yy"))), max_size=8))
def test_they_are_the_walks(copies: list[tuple[list[tuple[bytes, bytes]], bytes]]) -> None:
    """Whatever came before; where not, nothing is answered."""
    heads = Heads()
    for number, (lines, body) in enumerate(copies):
        now = 100.0 + 7.3 * number
        entry = copy(lines, body, age=number)
        answer = answered(heads, entry, now)
        assert answer in (None, walked(entry, now))
        if not any(name.lower() in (b"age", b"x-cache", b"cache-status", b"connection") for name, _ in lines):
            assert answer is not None or any(b"\x00" in value for _, value in lines)


def test_kinds_are_bounded() -> None:
    """Headers come from the service, which may send another one each time."""
    heads = Heads()
    for number in range(3 * MOST):
        entry = copy([(b"X-A", b"%d" % number)], b"x")
        assert walked(entry, 101.0) == answered(heads, entry, 101.0)
    assert len(heads._kinds) <= MOST
