"""Scripts by digest, and what else is known of commands without a client: memory alone needs no redis-py."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import Final

Command = tuple[str | bytes, ...]


class _WrongType(Enum):
    """The reply to a command on a key that holds another type."""

    WRONG_TYPE = "WRONGTYPE"


WRONG_TYPE: Final = _WrongType.WRONG_TYPE


# Every script of this process by digest: a server that has lost them gets them all at once.
TEXTS: dict[str, str] = {}


_FOLDER: Final = Path(__file__).with_name("lua")


class Script:
    """One single-key script of `lua/`, run by digest; `shared` are files of functions put before it."""

    def __init__(self, name: str, *shared: str) -> None:
        parts = [f"{part}.lua" for part in (*shared, name)]
        self.text = "\n".join(_FOLDER.joinpath(part).read_text("utf-8") for part in parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        TEXTS[self.digest] = self.text

    def call(self, key: str, *args: str | bytes) -> Command:
        """The command that runs it on `key`."""
        return ("EVALSHA", self.digest, "1", key, *args)
