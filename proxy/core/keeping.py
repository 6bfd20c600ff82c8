"""Under which rules an answer was kept: a short name of all that decides what is taken out of it and how it
is found, so that what was kept under other rules is not found.

A replica with a longer list of secrets must not answer with what one with the shorter list has stored, and
both may be at work at once: each has places of its own.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping

import msgspec

from proxy.core.model import ENTRY_VERSION, Ref
from proxy.core.redaction import BUILT_IN
from proxy.core.settings import UserModel, View

SIGN = "~"
_LENGTH = 6  # letters of base64: two sets of rules of one service share a name once in 10^10


class Keeping:
    """Names the place of each slot. Views that keep alike have the same name in it; see `rules`."""

    def __init__(self, common: str = "", views: Mapping[str, str] | None = None) -> None:
        self._common = common
        self._views = dict(views or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keeping) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Keeping({self._common}, {self._views})"

    def sign(self, slot: str) -> str:
        """What the name of that slot ends with; nothing where no rules were given."""
        rules = self._views.get(slot.partition("#")[0], self._common)
        return f"{SIGN}{rules}" if rules else ""

    def placed(self, ref: Ref) -> Ref:
        """Where that is kept."""
        sign = self.sign(ref.slot)
        return Ref(ref.key, ref.value, ref.slot + sign) if sign else ref


# For those who give no rules, and share their store with nobody who does.
ANYHOW = Keeping()


def rules(model: UserModel, views: Mapping[str, View], *, sealed: bool) -> Keeping:
    """The rules of a model of users, and of views; `sealed`: stored answers are encrypted."""
    common = (
        ENTRY_VERSION,
        BUILT_IN,
        (model.id, [(key.name, key.path, key.ignore_case) for key in model.keys], model.active),
        sorted(model.secrets),
        # Its hash says nothing of a key of 32 random bytes.
        [hashlib.sha256(b"rules" + one).hexdigest() for one in model.hash_keys[:1]],
        sealed,
    )
    named = {
        view.name: _name(*common, None if view.fields is None else sorted(view.fields))
        for view in views.values()
    }
    return Keeping(_name(*common), named)


def _name(*parts: object) -> str:
    digest = hashlib.sha256(msgspec.json.encode(parts)).digest()
    return urlsafe_b64encode(digest)[:_LENGTH].decode("ascii").replace("=", "")
