"""How users are named: one spelling per key value, and what a JSON document says about whose it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Identified:
    """Whose a document is: the id, the normalised value of each alias it shows, and whether active.

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
    found, keys = identify_partly(model, document)
    if found is None:
        return None
    active = None if model.active is None else _truth(dig(document, model.active))
    return Identified(found, keys, active)


def identify_partly(model: UserModel, document: object) -> tuple[str | None, dict[str, str]]:
    """The id, if there is one, and the aliases that a JSON document shows: of a change to a user, say."""
    keys: dict[str, str] = {}
    for key in model.keys:
        text = _text(dig(document, key.path))
        value = None if text is None else normalise(text, ignore_case=key.ignore_case)
        if value is not None:
            keys[key.name] = value
    return user_id(dig(document, model.id)), keys


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


def _truth(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    return None
