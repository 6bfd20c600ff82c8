"""A form is read once, up to a limit, and given again as often as it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from proxy.core.forms import MOST
from proxy.core.headers import Headers
from proxy.core.model import Outcome, Reason, Request
from proxy.core.settings import Answer, Introspect
from proxy.steps.body import Tee
from proxy.steps.exchange import Exchange
from proxy.steps.forms import FormBody, form_of, with_form

ACTION = Introspect(answer=Answer.UPSTREAM, view="told", form="token")
TYPE = (b"Content-Type", b"application/x-www-form-urlencoded")


class Body:
    """Counts how much of it was asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.taken = 0
        self.trailers = ((b"X-Sum", b"1"),)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        piece = self._pieces.pop(0)
        self.taken += len(piece)
        return piece


def exchange(body: Body | None, *lines: tuple[bytes, bytes]) -> Exchange:
    """A request with that body."""
    request = Request("POST", "/introspect", Headers((TYPE, *lines)), body)
    nothing = cast("Any", None)
    return Exchange(nothing, request, nothing, {}, Outcome())


async def all_of(x: Exchange) -> bytes:
    """What upstream would get."""
    assert x.request.body is not None
    return b"".join([piece async for piece in x.request.body])


async def test_a_form_can_be_read_again() -> None:
    """Whole, with what stood behind it, and by two at once."""
    x, why = await with_form(exchange(Body(b"token=", b"abc&a=b")), ACTION)

    assert (None, "abc", b"a=b") == (why, form_of(x).token, form_of(x).others)
    assert [b"token=abc&a=b"] * 2 == [await all_of(x), await all_of(x)]
    body = x.request.body
    assert isinstance(body, FormBody)
    assert (b"token=abc&a=b", ((b"X-Sum", b"1"),)) == (body.at_hand(), body.trailers)
    assert "abc" not in repr(body)


async def test_a_form_that_is_not_clear_goes_on_whole() -> None:
    """The same for one that was read in vain."""
    x, why = await with_form(exchange(Body(b"token=a&", b"token=b")), ACTION)

    assert (Reason.REQUEST_FORM, b"token=a&token=b") == (why, await all_of(x))


async def test_no_more_is_held_than_the_limit() -> None:
    """What comes behind it is left where it is until somebody takes it."""
    body = Body(*[b"x" * 1024] * 1000)
    x, why = await with_form(exchange(body), ACTION)

    assert (Reason.REQUEST_FORM, True) == (why, body.taken <= MOST + 1024)
    assert 1024 * 1000 == len(await all_of(x))


async def test_what_says_that_it_is_too_long_is_not_read() -> None:
    """Nor is what is no form, and what is nothing."""
    long, other = Body(b"token=a"), Body(b"token=a")
    _, first = await with_form(exchange(long, (b"Content-Length", b"65537")), ACTION)
    _, second = await with_form(exchange(other, (b"Content-Encoding", b"gzip")), ACTION)
    _, third = await with_form(exchange(None), ACTION)

    assert [Reason.REQUEST_FORM, Reason.REQUEST_FORM, Reason.TOKEN_MISSING] == [first, second, third]
    assert (0, 0) == (long.taken, other.taken)


@pytest.mark.parametrize(("length", "before"), [(0, 2), (2, 2), (11, 0)])
async def test_a_long_body_is_not_waited_for(length: int, before: int) -> None:
    """What there is no room for is passed on as it comes, and all that was taken goes before it."""
    given: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(9):
            given.append(b"chunk%d" % number)
            yield given[-1]

    taken = await Tee(body(), limit=10).taken(length)

    assert before == len(given)
    assert [b"chunk%d" % number for number in range(9)] == [chunk async for chunk in taken]
