"""Who may ask about tokens: what upstream said to callers a moment ago, by hashes that stand for them."""

from __future__ import annotations

from collections import OrderedDict

MOST = 10_000
# As with stored answers: what is later than that from now was heard before a clock was set back.
_STEP = 5.0


class Askers:
    """Acceptances and refusals, each bounded by `limit`: what was heard first goes first.

    In this process alone, and forgotten when the settings are read again. Times are wall-clock seconds.
    """

    def __init__(self, limit: int = MOST) -> None:
        self._limit = limit
        # Kept apart, so that a flood of strangers pushes out no acceptance.
        self._accepted: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"Askers({len(self._accepted)} accepted, {len(self._refused)} refused)"

    def accept(self, name: str, asked: float, seconds: float) -> None:
        """Upstream, `asked` then, gave that caller an answer; it counts for so long from then on.

        What it said to a later question has the last word.
        """
        if _later(self._refused.get(name), asked):
            return
        self._refused.pop(name, None)
        if seconds > 0:
            self._accepted[name] = (asked, asked + seconds)
            self._bound(self._accepted, name)

    def refuse(self, name: str, asked: float) -> None:
        """Upstream, `asked` then, gave that caller none."""
        since, _ = self._accepted.get(name, (None, 0.0))
        if _later(since, asked):
            return
        self._accepted.pop(name, None)
        self._refused[name] = asked
        self._bound(self._refused, name)

    def accepted(self, name: str, now: float) -> bool:
        """Whether an acceptance counts still. Asking renews nothing."""
        since, until = self._accepted.get(name, (0.0, 0.0))
        return since - _STEP <= now < until

    def refused(self, name: str) -> bool:
        """Whether a refusal was the last that was heard."""
        return name in self._refused

    def _bound(
        self, heard: OrderedDict[str, tuple[float, float]] | OrderedDict[str, float], name: str
    ) -> None:
        heard.move_to_end(name)
        if len(heard) > self._limit:
            heard.popitem(last=False)


def _later(heard: float | None, asked: float) -> bool:
    return heard is not None and asked < heard <= asked + _STEP
