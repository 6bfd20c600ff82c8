"""Who may ask about tokens: what upstream said to callers a moment ago, by hashes that stand for them."""

from __future__ import annotations

from collections import OrderedDict

MOST = 10_000
# As with stored answers: what is later than that from now was heard before a clock was set back.
_STEP = 5.0


class Askers:
    """Bounded by `limit`: those go first of whom nothing was heard for the longest time.

    In this process alone, and forgotten when the settings are read again. Times are wall-clock seconds.
    """

    def __init__(self, limit: int = MOST) -> None:
        self._limit = limit
        # Since when, and until when it counts; refused where that is no time at all.
        self._heard: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Askers({len(self._heard)})"

    def accept(self, name: str, asked: float, seconds: float) -> None:
        """Upstream, `asked` then, gave that caller an answer; it counts for so long from then on.

        What it said to a later question has the last word.
        """
        if seconds > 0:
            self._put(name, asked, asked + seconds)

    def refuse(self, name: str, asked: float) -> None:
        """Upstream, `asked` then, gave that caller none."""
        self._put(name, asked, asked)

    def accepted(self, name: str, now: float) -> bool:
        """Whether an acceptance counts still. Asking renews nothing."""
        since, until = self._heard.get(name, (0.0, 0.0))
        return since - _STEP <= now < until

    def refused(self, name: str) -> bool:
        """Whether a refusal was the last that was heard."""
        since, until = self._heard.get(name, (0.0, 1.0))
        return since == until

    def _put(self, name: str, asked: float, until: float) -> None:
        since, _ = self._heard.get(name, (asked, 0.0))
        if asked < since <= asked + _STEP:
            return
        self._heard[name] = (asked, until)
        self._heard.move_to_end(name)
        if len(self._heard) > self._limit:
            self._heard.popitem(last=False)
