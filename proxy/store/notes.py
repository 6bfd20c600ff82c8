"""Notes in `user:members` of writes whose users nobody can name before their answer.

Should their proxy die, the note runs out, and whoever renews its lease next evicts everybody (lua/renew.lua).
All such writes of a process share one, as the table is read with each announcement.
"""

from __future__ import annotations

import secrets
from collections import Counter

from proxy.store import codec
from proxy.store.lives import WEEK_MS
from proxy.store.scripts import Command, Script

_PLEDGE, _REDEEM = Script("pledge"), Script("redeem")


class Notes:
    """Which note each write of this process stands in. Nobody joins one that is about to be removed."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._writes: Counter[str] = Counter()
        self._joined = ""

    def pledged(self, fence: str, seconds: float) -> Command:
        """The command that notes the write of that fence, or that it takes longer, for `seconds`."""
        note = self._of.get(fence)
        if note is None:
            self._joined = self._joined or codec.SIGN + secrets.token_hex(6)
            note = self._of[fence] = self._joined
            self._writes[note] += 1
        return _PLEDGE.call(codec.MEMBERS_KEY, note, str(int(seconds * 1e6)), WEEK_MS)

    def leaving(self, fence: str) -> list[Command]:
        """Takes the write out of its note; of the last one the command that removes it, and then `left`."""
        note = self._of.get(fence)
        if note is None:
            return []
        if self._writes[note] > 1:
            self.left(fence)
            return []
        if note == self._joined:
            self._joined = ""
        return [redeemed(note)]

    def left(self, fence: str) -> None:
        """That write is noted no more."""
        note = self._of.pop(fence, None)
        if note is not None:
            self._writes -= Counter((note,))

    def __len__(self) -> int:
        return len(self._writes)


def redeemed(note: str | bytes, holding: bytes = b"") -> Command:
    """The command that removes a note, if it holds that."""
    return _REDEEM.call(codec.MEMBERS_KEY, note, holding)
