"""A hot GET answered from ready bytes, before a task and a request are made of it.

A head is known by its bytes, as a hash: tokens are not kept. It is answered only if the pipeline offered that
very answer for that very head, and all that the offer rests on still stands. The connection asks only where a
head begins at a proven boundary between two requests; everything else is read and walked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from time import time
from typing import Final

from proxy.core.forwarding import reply_head
from proxy.core.model import Outcome, Reply
from proxy.core.offers import Offer

# Longer heads are rare, and hashing them costs what a walk does.
LONGEST: Final = 4096
# Answers that one segment of pipelined requests gets here; the next one is walked, so that others get a turn.
PIPELINED: Final = 16
# No line of a stored answer holds a NUL.
_DATE: Final = b"\x00"
# What names a request and says nothing of its answer: only for logs and traces, here and in the service.
_TRACES: Final = re.compile(
    rb"\r\n(?:traceparent|tracestate|x-request-id|x-correlation-id|request-id|b3|x-b3-(?:traceid|spanid|parentspanid"
    rb"|sampled|flags)|x-amzn-trace-id|x-cloud-trace-context|x-datadog-(?:trace-id|parent-id|sampling-priority|tags)"
    rb"|uber-trace-id|sentry-trace|baggage):[\t -~]*(?=\r\n)",
    re.IGNORECASE,
)
# Every one of them once: nobody's limit on the number of lines is got round.
_MOST_TRACES: Final = 20
_BETWEEN: Final = b"\r\nX-Cache: HIT\r\nCache-Status: user-cache-proxy; hit; ttl="
_AGE_AND_TTL: Final = re.compile(rb"\r\nAge: [0-9]+" + re.escape(_BETWEEN) + rb"[0-9]+\r\n")
_FOLDED: Final = re.compile(rb"\r\n[\t ]")


class _Tally:
    """How often a kind of hit was answered here since the counters were last read."""

    __slots__ = ("count", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.count = 0


class _Ready:
    """An answer but for its Age, its ttl and, where the service gave none, its Date."""

    __slots__ = ("after", "age", "before", "body", "dated", "expires", "offer", "stored", "tally")

    def __init__(self, offer: Offer, before: bytes, after: list[bytes], body: bytes, tally: _Tally) -> None:
        self.offer = offer
        self.age, self.stored, self.expires = offer.entry.age, offer.entry.stored, offer.entry.expires
        self.before = before
        self.dated = len(after) == 1
        self.after = after
        self.body = body
        self.tally = tally


class Replays:
    """The answers that are ready, by head; `limit` bounds them, the oldest go first.

    `date` gives the text of this second's Date. `wanted` is asked before each hit: whoever must see some of
    them says that this one is to be walked.
    """

    def __init__(
        self, limit: int, date: Callable[[], bytes], wanted: Callable[[], bool] | None = None
    ) -> None:
        self._limit = limit
        self._date = date
        self._wanted = wanted
        self._ready: dict[bytes, _Ready] = {}
        # The last head that was not known as it stood had a line that only names it.
        self._named = False
        self._tallies: dict[tuple[str, str, str | None], _Tally] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def clear(self) -> None:
        """Forgets all answers; for whoever changes what no offer rests on."""
        self._ready.clear()

    def counted(self) -> Iterator[tuple[Outcome, int]]:
        """What was answered here since the last call, by kind."""
        for tally in self._tallies.values():
            count, tally.count = tally.count, 0
            if count:
                yield tally.outcome, count

    def answer(self, head: bytes) -> bytes | None:
        """The answer to a whole request head, or None: walk."""
        ready = None
        # No head with such a line is known by itself, and who sends one sends another: one hash is spared.
        if not self._named:
            key = sha256(head).digest()
            ready = self._ready.get(key)
        if ready is None:
            plain, lines = _TRACES.subn(b"", head)
            alike, self._named = self._named, lines > 0
            if lines > _MOST_TRACES or not (lines or alike):
                return None
            key = sha256(plain).digest()
            ready = self._ready.get(key)
            if ready is None:
                return None
        now = time()
        if not ready.offer.good(now):
            del self._ready[key]
            return None
        if self._wanted is not None and self._wanted():
            return None
        ready.tally.count += 1
        age, ttl = ready.age + int(now - ready.stored), int(ready.expires - now)
        if ready.dated:
            return b"%b%d%b%d%b%b" % (ready.before, age, _BETWEEN, ttl, ready.after[0], ready.body)
        first, last = ready.after
        return b"%b%d%b%d%b%b%b%b" % (ready.before, age, _BETWEEN, ttl, first, self._date(), last, ready.body)

    def learn(self, head: bytes, reply: Reply) -> None:
        """Makes the answer to `head` ready, if the pipeline offered it and its form is the one known here."""
        offer, body = reply.offer, reply.body
        if not isinstance(offer, Offer) or not isinstance(body, bytes) or len(head) > LONGEST:
            return
        plain, lines = _TRACES.subn(b"", head)
        if lines > _MOST_TRACES or _FOLDED.search(head):
            return
        text, length, persists = reply_head(
            reply, method="GET", http_version="1.1", keep_alive=True, date=_DATE
        )
        parts = _AGE_AND_TTL.split(text)
        # Anything else that looks like ours is upstream's: which is which, only the walk knows.
        if not persists or length != len(body) or len(parts) != 2:
            return
        before, after = parts[0] + b"\r\nAge: ", (b"\r\n" + parts[1]).split(_DATE)
        if len(after) > 2:
            return
        if len(self._ready) >= self._limit:
            del self._ready[next(iter(self._ready))]
        outcome = offer.outcome
        name = (outcome.route, outcome.kind, outcome.view)
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = _Tally(outcome)
        self._ready[sha256(plain).digest()] = _Ready(offer, before, after, body, tally)
