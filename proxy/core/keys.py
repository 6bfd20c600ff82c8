"""How users are named: one spelling per key value, and what a JSON document says about whose it is."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode

import msgspec

from proxy.core.settings import UserModel

MAX_LENGTH = 256

# C0, DEL and C1 controls would break log lines and protocols; lone surrogates cannot be written as UTF-8;
# a leading '!' is what Redis holds at an alias that has a mark instead of an id.
_UNUSABLE = re.compile(r"!|.*[\x00-\x1f\x7f-\x9f\ud800-\udfff]", re.DOTALL)

# ASCII only: str.lower and str.casefold also merge ß with ss and the Kelvin sign with k, and two people whose
# addresses differ in just that would share an entry.
_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def normalise(value: str, *, ignore_case: bool) -> str | None:
    """The one spelling of a key value, or None where it cannot be a key.

    Unusable are: empty, longer than 256 characters, with control characters or lone surrogates, or with a
    leading '!'. With `ignore_case` the letters A-Z are folded, and no others.
    """
    if not value or len(value) > MAX_LENGTH or _UNUSABLE.match(value):
        return None
    return value.translate(_FOLD) if ignore_case else value


def key_value(model: UserModel, key: str, value: str) -> str | None:
    """What a user is kept under for this value of a key ("id" or an alias), or None where it can't be one.

    Every Ref, alias and entry holds values of this kind and no other: with `model.hash_keys` those of aliases
    are HMACs, so neither memory nor Redis nor the feed has e-mail addresses for keys.
    """
    values = key_values(model, key, value)
    return values[0] if values else None


def key_values(model: UserModel, key: str, value: str) -> tuple[str, ...]:
    """The same, and after it what the user may be kept under by replicas that have another first secret.

    Writes name all of these, or changing the secret would let a stored "nobody has this" outlive a create.
    """
    if key == "id":
        normal = normalise(value, ignore_case=False)
        return () if normal is None else (normal,)
    alias = model.key(key)
    normal = normalise(value, ignore_case=alias is not None and alias.ignore_case)
    if normal is None:
        return ()
    return tuple(_pseudonym(secret, key, normal) for secret in model.hash_keys) or (normal,)


def token_names(model: UserModel, digest: str) -> tuple[str, ...]:
    """What answers about an opaque token are kept under, by its hash; the rest as in `key_values`.

    A token that is short can be found from its hash by trying all of them, so with `model.hash_keys` it is an
    HMAC. Tokens that are proven here carry a signature, which nobody finds by trying.
    """
    return tuple(_pseudonym(secret, "token", digest) for secret in model.hash_keys) or (digest,)


def _pseudonym(secret: bytes, key: str, value: str) -> str:
    if not secret:
        return value
    # Neither a name nor a value holds a NUL. The whole digest: two people must not share one.
    digest = hmac.digest(secret, f"alias\0{key}\0{value}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def user_id(value: object) -> str | None:
    """A user id from JSON or from a path: a whole number or a usable string, as text; else None."""
    text = _text(value)
    return None if text is None else normalise(text, ignore_case=False)


def dig(document: object, path: tuple[str, ...]) -> object:
    """The value at a path of member names. None where it is not there, which JSON's null equals here."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


class Identified(msgspec.Struct, frozen=True):
    """Whose a document is: the id, the value (see `key_value`) of each alias it shows, and whether active.

    `active` is None where the document does not say it.
    """

    user_id: str
    keys: dict[str, str]
    active: bool | None

    def __repr__(self) -> str:
        # Aliases are e-mail addresses and phone numbers.
        return f"Identified(keys={sorted(self.keys)}, active={self.active})"


def identify(model: UserModel, document: object) -> Identified | None:
    """Reads id, aliases and `active` out of a JSON document; None where it holds no usable id.

    An alias that is missing, null or unusable as a key is left out: the document does not prove it.
    """
    found = user_id(dig(document, model.id))
    if found is None:
        return None
    keys: dict[str, str] = {}
    for name, value in aliases_in(model, document):
        keys.setdefault(name, value)
    active = None if model.active is None else truth(dig(document, model.active))
    return Identified(found, keys, active)


def aliases_in(model: UserModel, document: object) -> list[tuple[str, str]]:
    """The aliases that a document shows, as (name, value), each in all its values (see `key_values`)."""
    return [
        (key.name, value)
        for key in model.keys
        if (text := _text(dig(document, key.path))) is not None
        for value in key_values(model, key.name, text)
    ]


def redis_key(key: str, value: str) -> str:
    """The Redis key of a user (`key` is "id") or of an alias (design §6). `key` holds no colon."""
    return f"user:{key}:{value}"


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    # No floats: numbers beyond 2**53 lose digits as floats, and two users would become one.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_LENGTH:
        return str(value)
    return None


def truth(value: object) -> bool | None:
    """JSON's true and false, and 1 and 0 for them; else None."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    return None
