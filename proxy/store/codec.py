"""How answers, aliases and their states are written down in a store."""

from __future__ import annotations

from typing import Protocol

import msgspec

from proxy.core.model import ENTRY_ENCODER, ENTRY_VERSION, Entry, Reason, Ref
from proxy.core.packed import Packed, pack, unpack
from proxy.core.resourcekeys import is_resource

SEQ_KEY = "user:seq"
EPOCH_KEY = "user:epoch"
MEMBERS_KEY = "user:members"
FLOOR_FIELD = "floor"

# Lengths in bytes. An id that begins with the sign would be read as a state of its alias.
LONGEST_VALUE = 300
SIGN = "!"
MARK = b"!w"
NOBODY = b"!n"
FENCED = b"!f"
FENCE_FIELD = "fence"

# A user's slots that hold per-token answers are dropped together when there would be more than this.
TOKEN_SLOTS = 64


class Seal(Protocol):
    """What an answer goes through on its way to Redis and back."""

    def seal(self, key: str, field: str, blob: bytes) -> bytes:
        """What is to be stored at that key and field ("" for a key without fields)."""
        ...

    def open(self, key: str, field: str, blob: bytes) -> bytes:
        """What was given to `seal` for that place; for anything else, bytes that are no answer."""
        ...


class _Plain:
    """Stores answers as they are."""

    def seal(self, key: str, field: str, blob: bytes) -> bytes:  # noqa: ARG002
        """See Seal."""
        return blob

    open = seal


PLAIN: Seal = _Plain()


class Nobody(msgspec.Struct, frozen=True, array_like=True):
    """ "Nobody has this key": the stored answer, and the key and slot it is about."""

    key: str
    value: str
    slot: str
    entry: Entry

    def answers(self, ref: Ref) -> bool:
        """Whether this is the answer to `ref`; a copy under another key is not."""
        return (self.key, self.value, self.slot) == (ref.key, ref.value, ref.slot)


_NOBODY_DECODER = msgspec.msgpack.Decoder(Nobody)
# A nesting too deep for the decoder is garbage like any other.
_UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError, RecursionError)


def usable(value: str, *, as_id: bool = False) -> bool:
    """Whether a value can be part of a key, or (as an id) what an alias leads to."""
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= LONGEST_VALUE and not (as_id and value.startswith(SIGN))


def refused(ref: Ref, entry: Entry, now: float) -> Reason | None:
    """Why no store may keep `entry` for `ref`, whatever its ticket; None where nothing speaks against it."""
    if entry.dead <= now:
        return Reason.NO_TTL
    if not usable(ref.value, as_id=ref.key == "id"):
        return Reason.KEY_UNUSABLE
    if entry.user_id is None:
        return Reason.KEY_UNUSABLE if ref.key == "id" else None
    if ref.key == "id" and entry.user_id != ref.value:
        return Reason.OTHER_USER
    return None if usable(entry.user_id, as_id=True) else Reason.KEY_UNUSABLE


def aliases_of(entry: Entry) -> list[tuple[str, str]]:
    """The aliases that an answer proves, as (name, value)."""
    return [(key, value) for key, value in entry.keys.items() if key != "id" and usable(value)]


def per_token(slot: str) -> bool:
    """Whether a slot holds an answer that belongs to one token (`{view}#{hash}`)."""
    return "#" in slot


def proven_by_answer(ref: Ref) -> bool:
    """Whether upstream's answer alone says whose this key is, as with opaque tokens."""
    return ref.key == "token"


def place(ref: Ref, mark: str | None) -> bytes:
    """The mark that must be where such a key is set: it goes with a write that knew of no user to fence."""
    return MARK + (mark or "").encode() if proven_by_answer(ref) else b""


def is_note(slot: str) -> bool:
    """Whether a slot holds no answer, but what is known of one token (see revocations.noted)."""
    return slot.startswith("+good#")


def user_key(user_id: str) -> str:
    """The key of a user's hash, or of a resource's."""
    if is_resource(user_id):
        return f"user:url:{user_id[1:]}"
    return f"user:id:{user_id}"


def alias_key(name: str, value: str) -> str:
    """The key of an alias."""
    return f"user:{name}:{value}"


def slot_field(slot: str) -> str:
    """The field of a slot in a user's hash."""
    return f"v:{slot}"


def encode(entry: Entry) -> bytes:
    """The bytes of an answer."""
    return pack(entry)


def decode(blob: bytes) -> Entry | None:
    """The answer, or None for bytes that are not one of this version."""
    copy = peek(blob)
    return None if copy is None else copy.entry()


def peek(blob: bytes) -> Packed | None:
    """The same, with its lines and keys still as they are written down."""
    try:
        copy = unpack(blob)
    except _UNREADABLE:
        return None
    return copy if copy.version == ENTRY_VERSION else None


def encode_nobody(ref: Ref, entry: Entry, seal: Seal = PLAIN, key: str = "") -> bytes:
    """The bytes of a "nobody has this key", at that Redis key."""
    return NOBODY + seal.seal(key, "", ENTRY_ENCODER.encode(Nobody(ref.key, ref.value, ref.slot, entry)))


def decode_nobody(blob: bytes, seal: Seal = PLAIN, key: str = "") -> Nobody | None:
    """The record, or None for bytes that are not one of this version."""
    try:
        nobody = _NOBODY_DECODER.decode(seal.open(key, "", blob[len(NOBODY) :]))
    except _UNREADABLE:
        return None
    readable = nobody.entry.version == ENTRY_VERSION and nobody.entry.user_id is None
    return nobody if readable else None


def decode_id(raw: bytes) -> str | None:
    """The id that an alias holds, or None for a mark, a "nobody" and garbage."""
    if not 0 < len(raw) <= LONGEST_VALUE or raw.startswith(SIGN.encode()):
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
