"""What was refused before it was a request: counted, and told in the log no faster than a disk can bear."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from proxy.core.errors import ClientError
from proxy.telemetry import Telemetry

log = logging.getLogger("proxy.request")

# Lines a second that may come on average, and at once after a silence.
RATE, BURST = 10.0, 20.0


class Refusals:
    """Observes refusals. A line holds the status, the problem and a fixed sentence, nothing that was sent.

    `on`: lines are wanted. `now` is monotonic seconds.
    """

    def __init__(self, telemetry: Telemetry, *, on: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._telemetry = telemetry
        self._on = on
        self._now = now
        self._left, self._since = BURST, now()
        self._untold = 0

    def __call__(self, error: ClientError) -> None:
        """One refusal: a count, and a line where there is room for one; it says how many had none before."""
        self._telemetry.refused[error.problem] += 1
        if not self._on:
            return
        now = self._now()
        self._left = min(BURST, self._left + RATE * (now - self._since))
        self._since = now
        if self._left < 1:
            self._untold += 1
            return
        self._left -= 1
        fields: dict[str, object] = {"status": error.status} if error.status else {}
        fields |= {"problem": error.problem, "detail": error.detail}
        if self._untold:
            fields["untold"], self._untold = self._untold, 0
        log.info("request refused", extra=fields)
