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
Line = int | tuple[int | bytes, bytes]
_CODES: Final[dict[object, int]] = {
    told: code for table in (_KEYS, _NAMES, _LINES) for code, told in enumerate(table)
}
_KEY: Final[dict[int | str, str]] = dict(enumerate(_KEYS))
_NAME: Final[dict[int | bytes, bytes]] = dict(enumerate(_NAMES))
_LINE: Final = dict(enumerate(_LINES))


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields of an Entry, as they lie there. Of most looks nothing more is read; see ports.Copy."""

    version: int
    epoch: str
    user_id: str | None
    keys: dict[int | str, str]
    active: bool | None
    status: int
    headers: tuple[Line, ...]
    body: bytes
    stored: float
    expires: float
    dead: float
    age: int

    def proves(self, key: str, value: str) -> bool:
        """Whether the answer carries that alias."""
        return self.keys.get(_CODES.get(key, key)) == value

    def entry(self) -> Entry | None:
        """The answer, or None where a number names nothing."""
        try:
            keys = {one if isinstance(one, str) else _KEY[one]: value for one, value in self.keys.items()}
            lines = tuple([_LINE[one] if isinstance(one, int) else _line(*one) for one in self.headers])
        except LookupError:
            return None
        return Entry(
            version=self.version,
            epoch=self.epoch,
            user_id=self.user_id,
            keys=keys,
            active=self.active,
            status=self.status,
            headers=lines,
            body=self.body,
            stored=self.stored,
            expires=self.expires,
            dead=self.dead,
            age=self.age,
        )


_encode: Final = msgspec.msgpack.Encoder().encode
unpack: Final = msgspec.msgpack.Decoder(Packed).decode
"""What `pack` made. Raises MsgspecError, ValueError or RecursionError where it is no such thing."""


def pack(entry: Entry) -> bytes:
    """The bytes of an answer."""
    lines = [
        _CODES[line] if line in _CODES else (_CODES.get(line[0], line[0]), line[1]) for line in entry.headers
    ]
    keys = {_CODES.get(name, name): value for name, value in entry.keys.items()}
    whose = (entry.version, entry.epoch, entry.user_id, keys, entry.active, entry.status, lines)
    return _encode((*whose, entry.body, entry.stored, entry.expires, entry.dead, entry.age))


def spelled(name: bytes) -> int | bytes:
    """How the name of a line is written down."""
    return _CODES.get(name, name)


def _line(name: int | bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name if isinstance(name, bytes) else _NAME[name], value)
