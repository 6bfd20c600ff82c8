"""Answers as few bytes: the same answer comes out, and nothing out of other bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import packed
from proxy.core.model import Entry
from proxy.store import codec

LINES = st.tuples(
    st.sampled_from([*packed._NAMES, b"X-Other", b""]),
    st.sampled_from([b"application/json", b"application/json; charset=utf-8", b"max-age=3", b"", b"\xe4"]),
)
ENTRIES = st.builds(
    Entry,
    epoch=st.text(max_size=8),
    user_id=st.none() | st.text(max_size=5),
    keys=st.dictionaries(st.sampled_from([*packed._KEYS, "badge", "0"]), st.text(max_size=9)),
    active=st.sampled_from([None, True, False]),
    status=st.integers(200, 404),
    headers=st.lists(LINES, max_size=6).map(tuple),
    body=st.binary(max_size=20),
    stored=st.floats(0, 2e9),
    expires=st.floats(0, 2e9),
    dead=st.floats(0, 2e9),
    age=st.integers(0, 10**6),
)


@given(entry=ENTRIES)
def test_what_was_packed_comes_out_again(entry: Entry) -> None:
    assert entry == codec.decode(codec.encode(entry))
    copy = codec.peek(codec.encode(entry))
    assert copy is not None
    for name in (*packed._KEYS, "badge", "0"):
        assert copy.proves(name, entry.keys.get(name, "-")) is (name in entry.keys)
        assert not copy.proves(name, "another value")


@pytest.mark.parametrize("code", [-1, 99, 10**9])
@pytest.mark.parametrize("place", ["keys", "headers", "names"])
def test_a_number_that_names_nothing_is_no_answer(place: str, code: int) -> None:
    entry = Entry(user_id="1", keys={"email": "a"}, status=200, stored=1.0, expires=2.0, dead=2.0)
    parts = list(msgspec.msgpack.decode(codec.encode(entry)))
    assert codec.decode(msgspec.msgpack.encode(parts)) == entry
    if place == "keys":
        parts[3] = {code: "a"}
    else:
        parts[6] = [code] if place == "headers" else [(code, b"x")]
    assert None is codec.decode(msgspec.msgpack.encode(parts))


def test_what_most_answers_have_in_common_takes_a_byte() -> None:
    """A name that is not in the tables costs its letters."""
    line = (b"Content-Type", b"application/json")
    entry = Entry(user_id="1", status=200, headers=(line,), stored=1.0, expires=2.0, dead=2.0)
    odd = msgspec.structs.replace(entry, headers=((b"Content-Type", b"application/jsan"),))
    assert 19 == len(codec.encode(odd)) - len(codec.encode(entry))
