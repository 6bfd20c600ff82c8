"""A hit answered without a walk, for a request whose answer is not ready.

What a request asks beside its target and its token stands in its field lines, its form. Where the walk has
shown that a form may have any fresh copy of a route, only the route, the key and the token are read from the
next head of that form. The token is judged by the walk's own functions, and the copy comes from memory, or
is looked at in Redis as `Store.glance` does. Everything out of the ordinary is walked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from proxy.core.cachecontrol import LARGEST
from proxy.core.model import Entry, Ref, Tier
from proxy.core.offers import Grant
from proxy.core.packed import Packed
from proxy.core.ports import Glance
from proxy.core.routing import Router
from proxy.core.settings import Lookup, Route
from proxy.heads import Heads
from proxy.readytext import HOLE, MOST_TRACES, foldless, nameless
from proxy.steps.atonce import AtOnce, Opened
from proxy.steps.lookup import make_ref
from proxy.steps.offers import asks_who
from proxy.tallies import Tallies, Tally

# Forms that are known: one for each kind of client. The oldest go first.
MOST: Final = 4096
# Request lines that were read, of users whom memory has no room for.
MOST_TARGETS: Final = 20_000
# What the edge's grammar allows of a target in ASCII, in the form that names a path.
_LINE: Final = re.compile(rb"GET (/[!-\"$-~]*) HTTP/1\.1")
_TARGET_AT: Final = len(b"GET  HTTP/1.1")
# As `bearer` reads the line, of which there is one where anybody is asked who they are.
_BEARER: Final = re.compile(rb"\r\nauthorization:[\t ]*bearer +([\w\-.~+/]+=*)[\t ]*\r\n", re.IGNORECASE)

Look = Callable[[Ref, Callable[[Packed | None], None]], Glance | None]


class Asker(Protocol):
    """The connection that asks."""

    def given(self, head: bytes, answer: bytes | None) -> bool:
        """The answer to that head, or None: walk. Whether the answer was taken."""
        ...


class _Right:
    """Where the hits of a form on a route are counted, by where their copies were."""

    __slots__ = ("memory", "redis")

    def __init__(self, memory: Tally, redis: Tally) -> None:
        self.memory = memory
        self.redis = redis


# A head taken apart: its request line, what its form opens by route, and its token.
Form = tuple[bytes, dict[str, _Right], str | None]


class _Target(NamedTuple):
    """What a request line asks a route for; `ref` is None for the user of the token. `opened` is what anybody
    may have of it."""

    route: Route
    ref: Ref | None
    opened: Opened | None


class _Pending:
    """A request whose copy is being looked at."""

    __slots__ = ("_asker", "_form", "_forms", "_head", "_right", "_target")

    def __init__(
        self, forms: Forms, asker: Asker, head: bytes, form: Form, target: _Target, right: _Right
    ) -> None:
        self._forms = forms
        self._asker = asker
        self._head = head
        self._form = form
        self._target = target
        self._right = right

    def found(self, copy: Packed | None) -> None:
        """That is what the store has."""
        answer = None
        if copy is not None:
            # As late as can be: what has ended meanwhile counts.
            opened = self._forms.opened(self._target, self._form)
            answer = None if opened is None else self._forms.text(opened, copy, Tier.REDIS)
        if self._asker.given(self._head, answer) and answer is not None:
            self._right.redis.count += 1


class Forms:
    """What is known of forms; see Replays for `wanted` and `date`. `serving`: may the cache be asked now?"""

    def __init__(
        self,
        judge: AtOnce,
        router: Router,
        look: Look,
        date: Callable[[], bytes],
        *,
        wanted: Callable[[], bool],
        serving: Callable[[], bool],
    ) -> None:
        settings = self._settings = judge.settings
        # Where keys are hashed, no address is kept in memory either.
        self._keeps = not settings.user.hash_keys
        self._longest = settings.limits.target + _TARGET_AT
        # No line of a shorter one is too long.
        self._most = min(settings.limits.head, settings.limits.field)
        self._judge = judge
        self._router = router
        self._look = look
        self._wanted = wanted
        self._serving = serving
        self._date = date
        self.heads = Heads()
        self._rights: dict[bytes, dict[str, _Right]] = {}
        self._targets: dict[bytes, _Target] = {}
        self._tallies = Tallies()
        self.counted = self._tallies.counted

    def __len__(self) -> int:
        return len(self._rights)

    def learn(self, head: bytes, grant: Grant) -> None:
        """The walk has granted the form of `head` what its route finds."""
        plain, lines = nameless(head)
        if lines > MOST_TRACES or not foldless(head):
            return
        rights = self._rights.setdefault(_taken_apart(plain)[0], {})
        tallies = (self._tallies.of(replace(grant.outcome, tier=tier)) for tier in (Tier.MEMORY, Tier.REDIS))
        rights[grant.outcome.route] = _Right(*tallies)
        if len(self._rights) > MOST:
            del self._rights[next(iter(self._rights))]

    def of(self, plain: bytes) -> Form | None:
        """The form of a head without lines that only name it, if it is a known one."""
        if not self._rights:
            return None
        form, token = _taken_apart(plain)
        rights = self._rights.get(form)
        return None if rights is None else (plain[: plain.find(b"\r\n")], rights, token)

    def answer(self, head: bytes, form: Form) -> tuple[bytes | None, bool]:
        """The answer from a copy in memory, if there is one, and whether it is worth while to `ask`."""
        target, right = self._sought(head, form)
        opened = None if target is None else self.opened(target, form)
        if target is None or right is None or opened is None:
            return None, False
        entry = self._judge.found(opened.ref)
        if entry is None:
            return None, True
        text = self.text(opened, entry, Tier.MEMORY)
        if text is not None:
            right.memory.count += 1
            if target.ref is None:
                self._remember(form[0], target)
        return text, False

    def ask(self, head: bytes, form: Form, asker: Asker) -> Glance | None:
        """Looks for the answer, which `asker` is `given` later; None: walk at once."""
        target, right = self._sought(head, form)
        opened = None if target is None else self.opened(target, form)
        if target is None or right is None or opened is None:
            return None
        glance = self._look(opened.ref, _Pending(self, asker, head, form, target, right).found)
        if glance is not None:
            self._remember(form[0], target)
        return glance

    def _sought(self, head: bytes, form: Form) -> tuple[_Target, _Right] | tuple[None, None]:
        line, rights, _ = form
        target = self._targets.get(line) or self._read(line)
        if target is None or len(head) > self._most or not self._serving():
            return None, None
        right = rights.get(target.route.name)
        return (None, None) if right is None else (target, right)

    def _remember(self, line: bytes, target: _Target) -> None:
        if self._keeps and line not in self._targets:
            self._targets[line] = target
            if len(self._targets) > MOST_TARGETS:
                del self._targets[next(iter(self._targets))]

    def _read(self, line: bytes) -> _Target | None:
        """What a request line asks for; None where it can be nothing that is granted."""
        found = _LINE.fullmatch(line)
        if found is None or len(line) > self._longest:
            return None
        match = self._router.match("GET", found[1].decode("ascii"))
        if match is None:
            return None
        route, action = match.route, match.route.action
        if not isinstance(action, Lookup):
            return _Target(route, None, None)
        ref = None if action.many else make_ref(self._settings, action, match.values[action.var])
        return None if ref is None else _Target(route, ref, None if asks_who(route) else Opened(ref))

    def opened(self, target: _Target, form: Form) -> Opened | None:
        """What this caller may have; None: walk."""
        return target.opened or self._judge.opened(target.route, target.ref, form[2])

    def text(self, opened: Opened, copy: Entry | Packed, tier: Tier) -> bytes | None:
        """The copy as the walk would give it now; None: walk."""
        now = time()
        if copy.status != 200 or not copy.stored <= now < copy.expires <= copy.stored + LARGEST:
            return None
        if opened.usable is not None and not opened.takes(copy, tier):
            return None
        kind = self.heads.kind(copy)
        return None if kind is None or self._wanted() else kind.text(copy, now, self._date)


def _taken_apart(plain: bytes) -> tuple[bytes, str | None]:
    """What stands for the lines of a head beside its request line, whatever its token, and the token."""
    lines = plain[plain.find(b"\r\n") :]
    found = _BEARER.search(lines)
    if found is None:
        return sha256(lines).digest(), None
    start, end = found.span(1)
    # No head that was walked holds a NUL: none looks like one whose token was cut out.
    rest = b"%b%b%b%b" % (HOLE, lines[:start], HOLE, lines[end:])
    return sha256(rest).digest(), found[1].decode("ascii")
