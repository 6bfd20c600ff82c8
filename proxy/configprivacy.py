"""What is kept of a person, and how: `hash_keys` and `encrypt` of `routes.yaml`, and their keys.

The keys themselves are in the environment. A list of two is for changing them: the first is used from now on,
the second is what other replicas, or what was stored before, may still have.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.configfile import Node, Reader
from proxy.configgiven import Given
from proxy.configvalues import quoted
from proxy.core.settings import Settings

HASH_KEY, ENCRYPT_KEY = "CACHE_HASH_KEY", "CACHE_ENCRYPT_KEY"

_BYTES = 32
_PLAIN = "plain"
_HOW = f"give {_BYTES} random bytes, e.g. from: openssl rand -base64 {_BYTES}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A block that asks for keys: where it stands, and the environment variable that has them."""

    line: int
    env: str


@dataclass(frozen=True, slots=True)
class PrivacyBlock:
    """None where the file does not ask for it."""

    hash_keys: Asked | None = None
    encrypt: Asked | None = None


def read_privacy(reader: Reader, root: Node) -> PrivacyBlock:
    """`hash_keys` and `encrypt`: true, or `{key_env: NAME}` for keys in another variable."""
    return PrivacyBlock(
        hash_keys=_asked(reader, root.members.get("hash_keys"), HASH_KEY),
        encrypt=_asked(reader, root.members.get("encrypt"), ENCRYPT_KEY),
    )


def _asked(reader: Reader, node: Node | None, env: str) -> Asked | None:
    if node is None:
        return None
    if node.kind == "map":
        table = reader.table(node, ("key_env",))
        return Asked(node.line, reader.required(table, "key_env", _variable, env, env))
    if node.kind == "bool" and node.text.lower() in ("true", "false"):
        return Asked(node.line, env) if node.text.lower() == "true" else None
    reader.wrong(node, f"must be true or false, or {{key_env: {env}}}")
    return None


def hash_keys(given: Given, asked: Asked | None, name: str) -> tuple[bytes, ...]:
    """The secrets that aliases are kept under; an empty one is what `plain` in the list stands for."""
    return _keys(given, asked, f"hash_keys ({name})", hash_key_list)


def encrypt_keys(given: Given, asked: Asked | None, name: str) -> tuple[bytes, ...]:
    """The keys that stored answers are sealed with."""
    return _keys(given, asked, f"encrypt ({name})", key_list)


def _keys(
    given: Given, asked: Asked | None, what: str, parse: Callable[[str], tuple[bytes, ...]]
) -> tuple[bytes, ...]:
    if asked is None:
        return ()
    what = f"{what[:-1]}:{asked.line})"
    text = given.environ.get(asked.env, "")
    if not text:
        given.mistakes.append(f"{asked.env}: is not set, and {what} needs it; {_HOW}")
        return ()
    try:
        return parse(text)
    except ValueError as error:
        given.mistakes.append(f"{asked.env}: {error}")
        return ()


def key_list(text: str) -> tuple[bytes, ...]:
    """One key or two with a comma between them, each in base64 or hex. Raises ValueError."""
    keys = tuple(_key(part.strip()) for part in text.split(","))
    if len(keys) > 2:
        raise ValueError(f"holds {len(keys)} keys; give one, or two while you change it: new,old")
    if len(set(keys)) < len(keys):
        raise ValueError("holds the same key twice; keep one of them")
    return keys


def hash_key_list(text: str) -> tuple[bytes, ...]:
    """The same, in which one may be the word `plain`: for the way to hashed keys and back."""
    parts = [part.strip() for part in text.split(",")]
    keys = key_list(",".join(part for part in parts if part != _PLAIN))
    if len(parts) > 2:
        raise ValueError("holds too much; give one key, or two while you change it: new,old")
    return tuple(
        b"" if part == _PLAIN else keys[0 if _PLAIN in parts else at] for at, part in enumerate(parts)
    )


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"{quoted(text)} is not the name of an environment variable; give e.g. {HASH_KEY}")
    return text


def _key(text: str) -> bytes:
    # The text is a secret and never repeated.
    key = b""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        key = bytes.fromhex(text)
    elif re.fullmatch(r"[A-Za-z0-9+/_-]{43}=?", text):
        try:
            key = b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "=", validate=True)
        except binascii.Error:
            key = b""
    if len(key) != _BYTES:
        raise ValueError(f"is not a key; {_HOW}")
    return key


def doubts(settings: Settings) -> Iterator[str]:
    """What these settings do not hide, though one might think so."""
    names = [key.name for key in settings.user.keys]
    if settings.redis.seal_keys and names and not any(settings.user.hash_keys[:1]):
        yield (
            f"encrypt seals the answers, but {', '.join(names)} stand in the names of keys in Redis; "
            "add hash_keys: true"
        )
    if settings.user.hash_keys and any(key.path == settings.user.id for key in settings.user.keys):
        yield "hash_keys leaves ids as they are, and one of the other keys is the id as well"
