"""An answer as few bytes: what most answers have in common is a number. Pure.

The tables are part of the format: lines are added at their ends; with another order `ENTRY_VERSION` changes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.model import Entry

_KEYS: Final = ("email", "username", "phone")
_NAMES: Final = (
    *(
        b"Content-Type",
        b"content-type",
        b"Cache-Control",
        b"cache-control",
        b"Date",
        b"date",
        b"ETag",
        b"etag",
    ),
    *(b"Last-Modified", b"last-modified", b"Vary", b"vary", b"Server", b"server", b"Expires", b"expires"),
    *(b"Content-Language", b"content-language", b"Link", b"link"),
)
_LINES: Final = (
    *((b"Content-Type", b"application/json"), (b"content-type", b"application/json")),
    *(
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"content-type", b"application/json; charset=utf-8"),
    ),
)

# A number names a line, or the name of one; so it is with the names of keys.
_Line = int | tuple[int | bytes, bytes]
_CODES: Final[dict[object, int]] = {
    told: code for table in (_KEYS, _NAMES, _LINES) for code, told in enumerate(table)
}
_KEY: Final[dict[int | str, str]] = dict(enumerate(_KEYS))
_NAME: Final[dict[int | bytes, bytes]] = dict(enumerate(_NAMES))
_LINE: Final = dict(enumerate(_LINES))


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """The fields of an Entry."""

    version: int
    epoch: str
    user_id: str | None
    keys: dict[int | str, str]
    active: bool | None
    status: int
    headers: tuple[_Line, ...]
    body: bytes
    stored: float
    expires: float
    dead: float
    age: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


def pack(entry: Entry) -> bytes:
    """The bytes of an answer."""
    lines = [
        _CODES[line] if line in _CODES else (_CODES.get(line[0], line[0]), line[1]) for line in entry.headers
    ]
    keys = {_CODES.get(name, name): value for name, value in entry.keys.items()}
    whose = (entry.version, entry.epoch, entry.user_id, keys, entry.active, entry.status, lines)
    return _encode((*whose, entry.body, entry.stored, entry.expires, entry.dead, entry.age))


def unpack(blob: bytes) -> Entry:
    """The answer. Raises MsgspecError, ValueError, RecursionError or LookupError where it is none."""
    packed = _decode(blob)
    return Entry(
        version=packed.version,
        epoch=packed.epoch,
        user_id=packed.user_id,
        keys={name if isinstance(name, str) else _KEY[name]: value for name, value in packed.keys.items()},
        active=packed.active,
        status=packed.status,
        headers=tuple([_LINE[one] if isinstance(one, int) else _line(*one) for one in packed.headers]),
        body=packed.body,
        stored=packed.stored,
        expires=packed.expires,
        dead=packed.dead,
        age=packed.age,
    )


def _line(name: int | bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name if isinstance(name, bytes) else _NAME[name], value)
