"""A hit in Redis answered without a walk, for a user whose answer is not ready.

What a request asks beside its target stands in its field lines, its form. Where the walk has shown that a
form may have any fresh copy that a route looks up, only the route and the key are read from the next head of
that form, and the copy is looked at as `Store.glance` does. Everything out of the ordinary is walked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Final, Protocol

from proxy.core.cachecontrol import LARGEST
from proxy.core.keys import key_value
from proxy.core.model import Ref
from proxy.core.offers import Grant
from proxy.core.packed import Packed
from proxy.core.ports import Glance
from proxy.core.routing import Router
from proxy.core.settings import Lookup, Settings
from proxy.heads import Heads
from proxy.readytext import MOST_TRACES, foldless, nameless
from proxy.tallies import Tallies, Tally

# Forms that are known: one for each kind of client, and for each token. The oldest go first.
MOST: Final = 4096
# Request lines that were read, of users whom memory has no room for.
MOST_TARGETS: Final = 20_000
# What the edge's grammar allows of a target in ASCII, in the form that names a path.
_LINE: Final = re.compile(rb"GET (/[!-\"$-~]*) HTTP/1\.1")
_TARGET_AT: Final = len(b"GET  HTTP/1.1")

Look = Callable[[Ref, Callable[[Packed | None], None]], Glance | None]


class Asker(Protocol):
    """The connection that asks."""

    def given(self, head: bytes, answer: bytes | None) -> bool:
        """The answer to that head, or None: walk. Whether the answer was taken."""
        ...


class _Right:
    """A grant and where its hits are counted."""

    __slots__ = ("grant", "tally")

    def __init__(self, grant: Grant, tally: Tally) -> None:
        self.grant = grant
        self.tally = tally


class _Pending:
    """A request whose copy is being looked at."""

    __slots__ = ("_asker", "_forms", "_head", "_right")

    def __init__(self, forms: Forms, asker: Asker, head: bytes, right: _Right) -> None:
        self._forms = forms
        self._asker = asker
        self._head = head
        self._right = right

    def found(self, copy: Packed | None) -> None:
        """That is what the store has."""
        answer = None if copy is None else self._forms.answer(self._right.grant, copy)
        if self._asker.given(self._head, answer) and answer is not None:
            self._right.tally.count += 1


# A request line, and what routes may give to whoever says the rest of the head.
Form = tuple[bytes, dict[str, _Right]]


class Forms:
    """What is known of forms; see Replays for `wanted` and `date`. `serving`: may the cache be asked now?"""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        look: Look,
        date: Callable[[], bytes],
        *,
        wanted: Callable[[], bool],
        serving: Callable[[], bool],
    ) -> None:
        self._user = settings.user
        # Where keys are hashed, no address is kept in memory either.
        self._keeps = not settings.user.hash_keys
        self._longest = settings.limits.target + _TARGET_AT
        self._most = settings.limits.head
        self._router = router
        self._look = look
        self._wanted = wanted
        self._serving = serving
        self._heads = Heads(date)
        self._rights: dict[bytes, dict[str, _Right]] = {}
        self._targets: dict[bytes, tuple[str, Ref]] = {}
        self._tallies = Tallies()
        self.counted = self._tallies.counted

    def __len__(self) -> int:
        return len(self._rights)

    def learn(self, head: bytes, grant: Grant) -> None:
        """The walk has granted the form of `head` what its route looks up."""
        plain, lines = nameless(head)
        if lines > MOST_TRACES or not foldless(head):
            return
        form = sha256(plain[plain.index(b"\r\n") :]).digest()
        rights = self._rights.setdefault(form, {})
        rights[grant.outcome.route] = _Right(grant, self._tallies.of(grant.outcome))
        if len(self._rights) > MOST:
            del self._rights[next(iter(self._rights))]

    def of(self, plain: bytes) -> Form | None:
        """The form of a head without lines that only name it, if it is a known one."""
        if not self._rights:
            return None
        end = plain.find(b"\r\n")
        rights = self._rights.get(sha256(plain[end:]).digest())
        return None if rights is None else (plain[:end], rights)

    def ask(self, head: bytes, form: Form, asker: Asker) -> Glance | None:
        """Looks for the answer, which `asker` is `given` later; None: walk at once."""
        line, rights = form
        known = self._targets.get(line)
        target = known or self._read(line)
        if target is None or len(head) > self._most or not self._serving():
            return None
        right = rights.get(target[0])
        if right is None:
            return None
        glance = self._look(target[1], _Pending(self, asker, head, right).found)
        if known is None and glance is not None and self._keeps:
            self._targets[line] = target
            if len(self._targets) > MOST_TARGETS:
                del self._targets[next(iter(self._targets))]
        return glance

    def _read(self, line: bytes) -> tuple[str, Ref] | None:
        """The route of a request line, and what it looks up; None where it is no look-up of one user."""
        found = _LINE.fullmatch(line)
        if found is None or len(line) > self._longest:
            return None
        match = self._router.match("GET", found[1].decode("ascii"))
        if match is None:
            return None
        action = match.route.action
        if not isinstance(action, Lookup) or action.many:
            return None
        value = match.values[action.var]
        kept = key_value(self._user, action.by, value) if isinstance(value, str) else None
        return None if kept is None else (match.route.name, Ref(action.by, kept, action.view))

    def answer(self, grant: Grant, copy: Packed) -> bytes | None:
        """The copy as the walk would give it now; None: walk."""
        now = time()
        if copy.status != 200 or not copy.stored <= now < copy.expires <= copy.stored + LARGEST:
            return None
        # As late as can be: what has ended meanwhile counts.
        if not grant.good(now):
            return None
        text = self._heads.answer(copy, now)
        return None if text is None or self._wanted() else text
