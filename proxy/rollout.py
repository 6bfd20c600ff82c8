"""What is done with requests while the proxy runs: the mode, and the share of hits that is looked at.

The one place that is asked on each request, by the walk and by whatever answers before it. A mode may change
at any time, so nobody keeps a copy of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from proxy.core.rolloutsettings import Mode

_NEVER: Final = 1 << 62


class Look(StrEnum):
    """What a hit is picked for. HOLDBACK: upstream answers it, for comparison. TRUTH: upstream is asked
    behind the answer."""

    HOLDBACK = "holdback"
    TRUTH = "truth"


class Rollout:
    """The mode of this process, and the shares of its hits that are picked.

    Every hit is counted by `pick`, once. What answers hits before the walk calls `walks` on each of them
    instead, and leaves the request to the walk where that says so; the walk's own `pick` then takes it.
    `mode` is to be read on each request: `serving` is the same as one comparison less.
    """

    __slots__ = ("_holdback", "_left", "_mode", "_random", "_share", "configured", "sampling", "serving")

    def __init__(
        self,
        mode: Mode = Mode.SERVE,
        *,
        holdback: float = 0.0,
        truth: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._random = draw
        self.configured = mode
        """What the settings say; a mode that an operator chose lasts until these change."""
        self._mode = mode
        self.serving = mode is Mode.SERVE
        self.sample(holdback, truth)

    @property
    def mode(self) -> Mode:
        """What is done with requests from now on."""
        return self._mode

    def switch(self, mode: Mode) -> None:
        """Another mode, from the next request on."""
        self._mode = mode
        self.serving = mode is Mode.SERVE

    def configure(self, mode: Mode, holdback: float, truth: float) -> None:
        """New settings. A mode that was not changed in them leaves the one in force alone, so that reloading
        routes does not switch on again what an operator has switched off."""
        if mode is not self.configured:
            self.configured = mode
            self.switch(mode)
        self.sample(holdback, truth)

    def sample(self, holdback: float, truth: float) -> None:
        """New shares (0 to 1) of hits: held back, and of the others those that are checked."""
        self._share = holdback + (1 - holdback) * truth
        self.sampling = self._share > 0
        self._holdback = holdback / self._share if self._share else 0.0
        self._left = self._gap()

    def _gap(self) -> int:
        """Hits up to the next pick, that one counted: 1/share on average. Drawn, because a fixed one may
        keep step with the traffic, and then picks the same user for ever."""
        if not self._share:
            return _NEVER
        mean = 1 / self._share
        # From 1 to 2·mean - 1, of which the mean is exact also where it is no whole number.
        gap = 1 + 2 * (mean - 1) * self._random()
        whole = int(gap)
        return whole + (self._random() < gap - whole)

    def walks(self) -> bool:
        """Counts a hit that can be answered before the walk; True: leave it to the walk, which picks it."""
        self._left -= 1
        if self._left > 0:
            return False
        # The walk's `pick` counts it again.
        self._left = 1
        return True

    def pick(self) -> Look | None:
        """Counts a hit of the walk; what it is picked for, if it is."""
        self._left -= 1
        if self._left > 0:
            return None
        self._left = self._gap()
        if not self._share:
            return None
        return Look.HOLDBACK if self._random() < self._holdback else Look.TRUTH
