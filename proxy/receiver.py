"""Who takes the bytes of an answer instead of the connection that they come on."""

from __future__ import annotations

from typing import Protocol


class Receiver(Protocol):
    """Takes the bytes of an answer instead of the connection itself."""

    def received(self, data: bytes) -> None:
        """Bytes from upstream."""
        ...

    def interrupted(self) -> None:
        """The connection is about to be lost, or upstream's time is up: `begin` is to be called now."""
        ...
