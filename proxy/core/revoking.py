"""What a write says of tokens: the caller's own is over, or all of its users' are to be asked about.

Tokens that a service makes bad all at once, with a new password say, still prove themselves: their signature
and their times are good. What can be told apart is when they were made (`iat`).
"""

from __future__ import annotations

import re
from collections import deque
from enum import StrEnum
from urllib.parse import unquote_plus, unquote_to_bytes

import msgspec


class Revoke(StrEnum):
    """AUTO: nothing is said, and a password in the body means USER; NONE: it does not."""

    AUTO = "auto"
    NONE = "none"
    TOKEN = "token"
    USER = "user"


class RevokingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `token_life`: no token is good for longer after it was made. `clock_skew`: how far apart the
    clocks of whoever makes tokens and of the proxies may be. `passwords`: whether a password in the body of a
    write ends tokens where its route says nothing."""

    token_life: float = 366 * 86400.0
    clock_skew: float = 60.0
    passwords: bool = True


_PASSWORD = re.compile(r"passw(or)?d|pwd|passphrase|passcode|passwort|kennwort|contrasena|motdepasse")
_GAPS = re.compile(r"[\W_]")
_PART = re.compile(rb'(?im)^content-disposition:[^\r\n]*?;[ \t]*name="?([^";\r\n]*)')


def names_password(name: str) -> bool:
    """Whether a member or a field of a form of that name is, or is about, a password."""
    plain = _GAPS.sub("", name.lower())
    return plain == "pass" or _PASSWORD.search(plain) is not None


def holds_password(document: object) -> bool:
    """Whether a JSON document has such a member, at any depth."""
    todo = deque([document])
    while todo:
        node = todo.popleft()
        if isinstance(node, dict):
            if any(names_password(str(name)) for name in node):
                return True
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return False


def form_holds_password(body: bytes) -> bool:
    """The same for `application/x-www-form-urlencoded`."""
    names = (unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")) for part in body.split(b"&"))
    return any(names_password(name.decode("utf-8", "replace")) for name in names)


def tokens_in_form(body: bytes) -> tuple[str, ...]:
    """The tokens that a form asks to revoke (RFC 7009 §2.1): one, or whichever of several a service reads."""
    pairs = (pair.decode("latin-1").partition("=") for pair in body.split(b"&"))
    return tuple(
        dict.fromkeys(unquote_plus(value) for name, _, value in pairs if unquote_plus(name) == "token")
    )


def parts_hold_password(body: bytes) -> bool:
    """The same for `multipart/form-data`, by the names of its parts (RFC 7578 §4.2)."""
    return any(names_password(name.decode("utf-8", "replace")) for name in _PART.findall(body))
