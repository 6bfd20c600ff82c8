"""Batches are put together as upstream would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batches import BatchRules, elements, with_list
from proxy.core.template import parse_template


def _learnt(asked: list[str], answered: list[str], separator: str = ",") -> BatchRules:
    rules = BatchRules()
    raws = [f'{{"id":{one}}}'.encode() for one in answered]
    rules.learn(asked, answered, b"[" + separator.encode().join(raws) + b"]", raws)
    return rules


def test_the_order_asked_is_kept_where_upstream_keeps_it() -> None:
    """An answer in the order asked, which is not sorted, leaves that rule alone."""
    rules = _learnt(["3", "1", "2"], ["3", "1", "2"])

    assert ["9", "4", "10"] == rules.arrange(["9", "4", "10"])


def test_a_sorted_answer_teaches_sorting_by_number() -> None:
    """Ids sort as numbers: 10 comes after 9."""
    rules = _learnt(["3", "1"], ["1", "3"])

    assert ["4", "9", "10"] == rules.arrange(["9", "4", "10"])


def test_what_one_answer_leaves_open_is_not_guessed() -> None:
    """Ids asked in sorted order fit both rules; where these disagree nothing is put together."""
    rules = _learnt(["1", "2"], ["1", "2"])

    assert ["5", "7"] == rules.arrange(["5", "7"])
    assert rules.arrange(["7", "5"]) is None


def test_an_order_that_fits_no_rule_is_never_imitated() -> None:
    """Upstream that answers in an order of its own is always asked."""
    rules = _learnt(["1", "2", "3"], ["2", "3", "1"])

    assert rules.arrange(["1"]) is None


@pytest.mark.parametrize(("answered", "expected"), [(["1", "2"], False), (["2"], True)])
def test_leaving_out_is_seen_before_it_is_imitated(answered: list[str], expected: bool) -> None:
    """Only an answer without one of the ids asked for shows that absent ones are left out."""
    assert expected == _learnt(["1", "2"], answered).leaves_out_absent


@pytest.mark.parametrize("separator", [",", ", ", " ,\n  "])
def test_the_array_has_upstreams_spacing(separator: str) -> None:
    """Two members as written, joined as upstream joins them."""
    rules = _learnt(["1", "2"], ["1", "2"], separator)

    assert f"[A{separator}B]".encode() == rules.write(["1", "2"], {"1": b"A", "2": b"B"})
    assert b"[]" == rules.write(["1"], {})


@given(st.lists(st.one_of(st.integers(), st.text(), st.dictionaries(st.text(), st.integers()))))
def test_members_are_found_as_written(values: list[object]) -> None:
    """Splitting an array and joining it again changes no byte of a member."""
    import orjson

    try:
        body = orjson.dumps(values)
    except TypeError:  # an integer beyond 64 bits, or a lone surrogate
        return
    found = elements(body)

    assert found is not None
    assert body == b"[" + b",".join(found) + b"]"


@pytest.mark.parametrize("body", [b"{}", b"1", b"", b"[1", b'{"users":[]}'])
def test_what_is_no_array_has_no_members(body: bytes) -> None:
    """Anything else is passed on as it is."""
    assert elements(body) is None


@pytest.mark.parametrize(
    ("match", "target", "expected"),
    [
        ("GET /users?ids={ids:list}", "/users?ids=1,2,3", "/users?ids=2,a%2Fb"),
        ("GET /users?ids={ids:list}&x=1", "/users?x=1&ids=1,2,3", "/users?x=1&ids=2,a%2Fb"),
        ("GET /users/many/{ids:list}", "/users/many/1,2,3", "/users/many/2,a%2Fb"),
    ],
)
def test_the_rest_is_asked_for_with_the_same_request(match: str, target: str, expected: str) -> None:
    """Only the list changes; what else the client wrote stays as it was."""
    assert expected == with_list(parse_template(match), target, "ids", ["2", "a/b"])
