"""Stored answers, sealed: whoever reads Redis sees nothing, and whoever writes to it forges nothing.

AES-256-GCM under a key that is derived for the Redis key and field that hold the answer, which are also its
associated data: a value that is put anywhere else does not open. A random nonce is then safe for as many
answers of one user as can ever be stored (2^32), not for those of all users together.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# No msgpack array begins like this, so neither form is ever taken for the other.
_MAGIC = b"\xc1S1"
_NAME = 4  # bytes that tell which key it was
_NONCE = 12
_HEAD = len(_MAGIC) + _NAME + _NONCE


class Sealer:
    """Seals with the first key and opens with any; see store.opened for the store without it."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._named = {_digest(key, b"name")[:_NAME]: key for key in reversed(keys)}
        self._name = _digest(keys[0], b"name")[:_NAME]
        self._key = keys[0]

    def seal(self, key: str, field: str, blob: bytes) -> bytes:
        """What is to be stored at that key and field."""
        place = _place(key, field)
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(_digest(self._key, place)).encrypt(nonce, blob, place)
        return b"".join((_MAGIC, self._name, nonce, sealed))

    def open(self, key: str, field: str, blob: bytes) -> bytes:
        """What was sealed for that key and field; b"", which is no answer, for anything else."""
        name = blob[len(_MAGIC) : len(_MAGIC) + _NAME]
        if not blob.startswith(_MAGIC) or name not in self._named or len(blob) < _HEAD:
            return b""
        place = _place(key, field)
        try:
            return AESGCM(_digest(self._named[name], place)).decrypt(
                blob[_HEAD - _NONCE : _HEAD], blob[_HEAD:], place
            )
        except InvalidTag:
            return b""

    def __repr__(self) -> str:
        return f"Sealer({len(self._named)} keys)"


def _place(key: str, field: str) -> bytes:
    # No key of ours holds a NUL: it would not have been usable.
    return b"value\0" + key.encode() + b"\0" + field.encode()


def _digest(key: bytes, what: bytes) -> bytes:
    return hmac.digest(key, what, hashlib.sha256)
