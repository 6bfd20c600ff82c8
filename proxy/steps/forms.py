"""A request that carries its token in a form: read once, and sent on as it came as often as need be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from proxy.core.forms import MOST, Form, is_form, read_form
from proxy.core.headers import RawHeaders
from proxy.core.model import Reason
from proxy.core.settings import Introspect
from proxy.core.validation import CONDITIONS
from proxy.steps import body as bodies
from proxy.steps.exchange import Exchange

# A form is no representation that a client may have already (RFC 9110 §13.1).
_CONDITIONS: Final = CONDITIONS | {b"range"}


class FormBody:
    """A body that was read whole: each iteration is all of it. `form` is what it says, or why it does not."""

    __slots__ = ("_data", "_trailers", "form")

    def __init__(self, data: bytes, trailers: RawHeaders, form: Form | Reason) -> None:
        self._data = data
        self._trailers = trailers
        self.form = form

    def __repr__(self) -> str:
        return f"FormBody({len(self._data)} bytes)"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return bodies.given([self._data])

    async def __anext__(self) -> bytes:
        """Nobody's: where one reader has got to is in the iterator that it asked for."""
        raise TypeError("a form is read by an iterator of one's own")

    @property
    def trailers(self) -> RawHeaders:
        """The fields behind the last chunk."""
        return self._trailers

    def at_hand(self) -> bytes:
        """All of it; see RequestBody."""
        return self._data

    def throw_away(self) -> None:
        """It stays: it may be sent once more."""


async def with_form(x: Exchange, action: Introspect) -> tuple[Exchange, Reason | None]:
    """The exchange with a form that was read, or why it was not; then it goes on as it came.

    Raises ClientError where the body breaks off.
    """
    request = x.request
    if request.body is None:
        return x, Reason.TOKEN_MISSING
    length = request.headers.get("content-length") or "0"
    if not is_form(request.headers) or int(length) > MOST:
        return x, Reason.REQUEST_FORM
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.body:
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST:
            rest = bodies.Rest(chunks, request.body)
            return replace(x, request=replace(request, body=rest)), Reason.REQUEST_FORM
    data = b"".join(chunks)
    body = FormBody(data, bodies.trailers_of(request.body), read_form(data, action.form))
    headers = request.headers.without(_CONDITIONS)
    read = replace(x, request=replace(request, headers=headers, body=body))
    return read, body.form if isinstance(body.form, Reason) else None


def form_of(x: Exchange) -> Form:
    """The form that the request was found to carry."""
    body = x.request.body
    form = body.form if isinstance(body, FormBody) else None
    if not isinstance(form, Form):
        raise TypeError(f"{x.route.name}: nobody has read the form")
    return form
