"""Whether the shared store is asked at all."""

from __future__ import annotations


class Breaker:
    """Opens at a failure that counts at once, or after `limit` others in a row; closed from outside.

    `opened` counts the outages since the start.
    """

    def __init__(self, limit: int = 3) -> None:
        self._limit = limit
        self._failures = 0
        self.open = False
        self.opened = 0

    @property
    def state(self) -> str:
        """`closed` or `open`."""
        return "open" if self.open else "closed"

    def failed(self, *, at_once: bool = False) -> bool:
        """Counts a failure; says whether it opened the breaker."""
        self._failures += 1
        if self.open or not (at_once or self._failures >= self._limit):
            return False
        self.open = True
        self.opened += 1
        return True

    def succeeded(self) -> None:
        """Ends a row of failures. A straggler's success does not close the breaker."""
        if not self.open:
            self._failures = 0

    def close(self) -> None:
        """The shared store is trusted again."""
        self.open = False
        self._failures = 0

    def __repr__(self) -> str:
        return f"Breaker({self.state}, failures={self._failures})"
