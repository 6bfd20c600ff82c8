"""Copies of messages on their way: no field may be forgotten when one is added."""

from __future__ import annotations

from msgspec.structs import fields

from proxy.core.forwarding import forwarded
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Outcome, Reply, Request
from proxy.core.replies import finished


def _hint(_status: int, _lines: RawHeaders) -> None:
    """Is told of nothing."""


async def _body():  # type: ignore[no-untyped-def]
    yield b"x"


def test_a_forwarded_request_keeps_every_field_but_its_lines() -> None:
    body = _body()
    given = Request("PUT", "/a", Headers(), body, "192.0.2.1", "https", "1.0", trusted=False, interim=_hint)
    sent = forwarded(given, fill=False)
    assert all(getattr(given, one.name) != one.default for one in fields(Request)), "a new field: set it here"
    changed = {one.name for one in fields(Request) if getattr(sent, one.name) != getattr(given, one.name)}
    assert changed == {"headers"}


def test_a_finished_reply_keeps_every_field_but_its_lines() -> None:
    given = Reply(201, b"Made", (), b"x", offer=object(), version="1.0")
    told = finished(given, Outcome(upstream_status=201))
    assert all(getattr(given, one.name) != one.default for one in fields(Reply)), "a new field: set it here"
    changed = {one.name for one in fields(Reply) if getattr(told, one.name) != getattr(given, one.name)}
    assert changed == {"headers"}
