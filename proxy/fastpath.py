"""A hot GET answered from ready bytes, before a task and a request are made of it.

A head is known by its bytes, as a hash: tokens are not kept. It is answered only if the pipeline offered that
very answer for that very head, and all that the offer rests on still stands. The connection asks only where a
head begins at a proven boundary between two requests; everything else is read and walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from time import time
from typing import Final

import msgspec
from msgspec.structs import replace

from proxy.core.model import Entry, Outcome, Reply
from proxy.core.offers import Grant, Offer, Source
from proxy.core.ports import Glance
from proxy.forms import Asker, Form, Forms
from proxy.heads import Heads, Kind
from proxy.readytext import HOLE, LONGEST, MOST_TRACES, foldless, nameless, parts_of
from proxy.seen import Seen
from proxy.tallies import Tallies, Tally

# Answers that one segment of pipelined requests gets here; the next one is walked, so that others get a turn.
PIPELINED: Final = 16
# Bytes of whole answers that are kept for the rest of their second.
KEPT: Final = 4 * 1024 * 1024


class _Ready(msgspec.Struct, eq=False, gc=False):
    """An answer but for its Age, its ttl and, where the service gave none, its Date.

    From `since` until before `sure` (wall-clock seconds) nothing is to be asked but the clock, the sources of
    the offer and `trusted`. `text` is the whole answer in this second, or None where it was not kept. Few
    objects are touched on a hit: with many answers in turn, each is a walk to memory.
    """

    offer: Offer
    copy: Entry
    kind: Kind
    tally: Tally
    of: Source
    or_of: Source
    or_this: Source
    trusted: Callable[[], bool] | None
    text: bytes | None = None
    since: float = 0.0
    sure: float = 0.0
    seen: int = -1
    seen_of: int = -1
    seen_this: int = -1

    def unchanged(self) -> bool:
        """Whether nothing has changed since it was asked for, and memory may be used.

        A counter that stands still is the same object still, so its value need not even be read.
        """
        return (
            self.of.generation is self.seen
            and self.or_of.generation is self.seen_of
            and self.or_this.generation is self.seen_this
            and (self.trusted is None or self.trusted())
        )

    def good(self, now: float) -> bool:
        """Whether the answer may be given: all that is not sure is asked."""
        if self.since <= now < self.sure and self.unchanged():
            return True
        seen = self.of.generation, self.or_of.generation, self.or_this.generation
        if not self.offer.good(now):
            return False
        self.seen, self.seen_of, self.seen_this = seen
        self.since = now
        self.sure = min(self.offer.ends, *(hold.lasts() for hold in self.offer.holds))
        return True

    def render(self, now: float, date: Callable[[], bytes]) -> bytes:
        """The whole answer at `now`; what it rests on counts as used then."""
        for hold in self.offer.holds:
            hold.touch()
        return self.kind.text(self.copy, now, date)


def _says(kind: Kind, copy: Entry) -> bytes:
    return kind.text(copy, copy.expires - 0.5, lambda: HOLE)


class Replays:
    """The answers that are ready, by head; `limit` bounds the users in them, the oldest answers go first.

    `date` gives the text of this second's Date. `wanted` is asked before each hit: whoever must see some of
    them says that this one is to be walked. `forms` answer what is not ready.
    """

    def __init__(
        self,
        limit: int,
        date: Callable[[], bytes],
        wanted: Callable[[], bool] | None = None,
        forms: Forms | None = None,
    ) -> None:
        self._limit = limit
        self._date = date
        self._wanted = wanted
        self._forms = forms
        self._heads = Heads() if forms is None else forms.heads
        # That of the last head, where its answer was not ready: it may be asked for.
        self.form: Form | None = None
        self._seen = Seen(limit)
        self._ready: dict[bytes, _Ready] = {}
        self._users = 0
        # Whole answers of this second, from its first moment until before the next one's.
        self._begun = self._over = 0.0
        self._kept: list[_Ready] = []
        self._room = KEPT
        # The last head that was not known as it stood had a line that only names it.
        self._named = False
        self._tallies = Tallies()

    def __len__(self) -> int:
        return len(self._ready)

    def clear(self) -> None:
        """Forgets all answers; for whoever changes what no offer rests on."""
        self._ready.clear()
        self._users = 0

    def counted(self) -> Iterator[tuple[Outcome, int]]:
        """What was answered here since the last call, by kind."""
        yield from self._tallies.counted()
        if self._forms is not None:
            yield from self._forms.counted()

    def answer(self, head: bytes) -> bytes | None:
        """The answer to a whole request head, or None: walk."""
        ready, self.form = None, None
        # No head with such a line is known by itself, and who sends one sends another: one hash is spared.
        if not self._named:
            key = sha256(head).digest()
            ready = self._ready.get(key)
            if ready is None and self._forms is not None:
                form = self._forms.of(head)
                if form is not None:
                    return self._by_form(head, form, key)
        if ready is None:
            plain, lines = nameless(head)
            alike, self._named = self._named, lines > 0
            if lines > MOST_TRACES or not (lines or alike):
                return None
            key = sha256(plain).digest()
            ready = self._ready.get(key)
            if ready is None:
                form = None if self._forms is None else self._forms.of(plain)
                return None if form is None else self._by_form(head, form, key)
        now = time()
        # From both sides: the clock may have been set back.
        text = ready.text if self._begun <= now < self._over else None
        # As `unchanged` has it, without a call.
        stands = (
            text is not None
            and ready.of.generation is ready.seen
            and ready.or_of.generation is ready.seen_of
            and ready.or_this.generation is ready.seen_this
            and (ready.trusted is None or ready.trusted())
        )
        if not stands and not ready.good(now):
            self._forget(key)
            self.form = None if self._forms is None else self._forms.of(nameless(head)[0])
            return None
        if self._wanted is not None and self._wanted():
            return None
        ready.tally.count += 1
        return self._render(ready, now) if text is None else text

    def _by_form(self, head: bytes, form: Form, key: bytes) -> bytes | None:
        """A token's first time the form does; one that comes again is walked, and then ready."""
        if self._forms is not None and form[2] is not None and not self._seen.again(key):
            text, worth = self._forms.answer(head, form)
            if not worth:
                return text
        self.form = form
        return None

    def ask(self, head: bytes, asker: Asker) -> Glance | None:
        """See Forms; for the head whose answer has just turned out not to be ready."""
        form, forms = self.form, self._forms
        return None if form is None or forms is None else forms.ask(head, form, asker)

    def _render(self, ready: _Ready, now: float) -> bytes:
        """The whole answer; kept for the rest of this second while there is room."""
        if not self._begun <= now < self._over:
            for one in self._kept:
                one.text = None
            self._kept.clear()
            self._begun, self._room = float(int(now)), KEPT
            self._over = self._begun + 1
        text = ready.render(now, self._date)
        # One that may end before this second does is asked each time.
        if self._room > 0 and self._over <= ready.sure:
            ready.text = text
            self._room -= len(text)
            self._kept.append(ready)
        return text

    def _forget(self, key: bytes) -> None:
        ready = self._ready.pop(key)
        self._users -= ready.offer.users

    def learn(self, head: bytes, reply: Reply) -> None:
        """Makes the answer to `head` ready, if the pipeline offered it and its form is the one known here."""
        offer, body = reply.offer, reply.body
        if len(head) > LONGEST:
            return
        grant = offer if isinstance(offer, Grant) else offer.grant if isinstance(offer, Offer) else None
        if grant is not None and self._forms is not None:
            self._forms.learn(head, grant)
        if not isinstance(offer, Offer) or not isinstance(body, bytes):
            return
        if offer.users > self._limit:
            return
        plain, lines = nameless(head)
        parts = parts_of(reply)
        if lines > MOST_TRACES or not foldless(head) or parts is None:
            return
        key = sha256(plain).digest()
        if key in self._ready:
            self._forget(key)
        while self._ready and self._users + offer.users > self._limit:
            self._forget(next(iter(self._ready)))
        self._users += offer.users
        self._ready[key] = self._made(offer, body, *parts)

    def _made(self, offer: Offer, body: bytes, before: bytes, after: list[bytes]) -> _Ready:
        # Put together, or told otherwise than it was stored.
        kind = Kind([before], (), after)
        copy = Entry(
            user_id=None,
            status=200,
            body=body,
            stored=offer.born,
            expires=offer.expires,
            dead=offer.expires,
        )
        stored = offer.copy
        if stored is not None and (stored.stored - stored.age, stored.expires) != (offer.born, offer.expires):
            stored = None
        alike = None if stored is None else self._heads.kind(stored)
        if stored is not None and alike is not None and _says(alike, stored) == _says(kind, copy):
            kind, copy = alike, stored
        tally = self._tallies.of(offer.outcome)
        # Memory, and perhaps keys of tokens, and perhaps the rules of a batch: never more.
        sources = list(dict.fromkeys(hold.source for hold in offer.holds))
        trusted = next((hold.trusted for hold in offer.holds if hold.trusted is not None), None)
        of, or_of, or_this = (*sources, sources[0], sources[0])[: max(len(sources), 3)]
        # Of what is said again for each of them, one is enough.
        offer = replace(offer, outcome=tally.outcome, born=copy.stored, grant=None, copy=None)
        return _Ready(offer, copy, kind, tally, of, or_of, or_this, trusted)
