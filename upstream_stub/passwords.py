"""Password hashes: scrypt, in the PHC string format.

The cost is far below what a real service must use: a thousand users have to be there in well under a second.
The verification is the real one, with the parameters read from the hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

_LOG_COST, _BLOCK, _LANES = 4, 8, 1


def hash_password(password: str, salt: bytes | None = None) -> str:
    """The string to store for a password; the salt is random unless given."""
    salt = os.urandom(16) if salt is None else salt
    key = hashlib.scrypt(password.encode(), salt=salt, n=2**_LOG_COST, r=_BLOCK, p=_LANES, dklen=32)
    return f"$scrypt$ln={_LOG_COST},r={_BLOCK},p={_LANES}${_encode(salt)}${_encode(key)}"


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed."""
    _, name, parameters, salt, key = stored.split("$")
    if name != "scrypt":
        raise ValueError(f"cannot verify a {name} hash")
    cost = dict(part.split("=") for part in parameters.split(","))
    derived = hashlib.scrypt(
        password.encode(),
        salt=_decode(salt),
        n=2 ** int(cost["ln"]),
        r=int(cost["r"]),
        p=int(cost["p"]),
        dklen=32,
    )
    return hmac.compare_digest(derived, _decode(key))


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


ABSENT_USER_HASH = hash_password("", bytes(16))
"""Verified when nobody has the name, so that a wrong name takes as long as a wrong password."""
