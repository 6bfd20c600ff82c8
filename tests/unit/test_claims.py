"""The unproven subject of a token."""

from __future__ import annotations

import jwt
import pytest

from proxy.core.bearer import bearer
from proxy.core.claims import claimed_subject
from proxy.core.headers import Headers

GOOD = jwt.encode(
    {"sub": "42", "deep": {"id": 7}}, "any secret at all, nobody checks it here", algorithm="HS256"
)


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        (f"Bearer {GOOD}", ("sub",), "42"),
        (f"Bearer {GOOD}", ("deep", "id"), "7"),
        (f"Bearer {GOOD}", ("missing",), None),
        ("Bearer opaque", ("sub",), None),
        ("Bearer a.b.c", ("sub",), None),
        ("Bearer a.W10.c", ("sub",), None),
        ("Basic x", ("sub",), None),
    ],
)
def test_the_claimed_subject(line: str, path: tuple[str, ...], expected: str | None) -> None:
    """It is read without a key; what can't be read names nobody."""
    assert expected == claimed_subject(bearer(Headers(((b"Authorization", line.encode()),))), path)
