"""Did each read show what it had to? A user is written by one writer, so the user's versions are a line.

A read must not be older than any write that was answered before the read began, nor than any read of the
same user that had ended by then: together, reads and writes are linearizable per user (design §7.5).

What docs/coherence.md does not promise is excused, and nothing else: each write that a read missed must have
gone through a replica that could not tell Redis of it and had not told it by then; or the replica that was
read was cut off itself, and the write has been known for no longer than its memory may be behind.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

# Reads that are kept to explain a violation, and writes before those that it missed.
READS, WRITES = 25, 3
# Seconds that the memory of a replica without Redis may be behind: `fallback_ttl`, and what a fill takes.
BEHIND = 6.0
# Nobody's replica: the service itself was asked, or it was so from the start.
DIRECT = -1

KEPT_BACK = "a write that its replica could not tell Redis of"
CUT_OFF = "memory of a replica without Redis"

# The id that upstream gave, which it gives once, and its version; GONE once that user is deleted.
Version = tuple[int, float]
GONE = float("inf")
NEVER: Version = (-1, 0)
# The kind of a key and its value, such as ("email", "ada@example.com").
Key = tuple[str, object]


def span(begun: float, ended: float) -> str:
    """A time, for people."""
    return f"{begun:.3f} to {ended:.3f}"


def _named(version: Version | None) -> str:
    if version is None:
        return "nobody"
    return f"user {version[0]}, " + ("deleted" if version[1] == GONE else f"version {version[1]}")


@dataclass(frozen=True, slots=True)
class Commit:
    """A version that upstream committed; times in monotonic seconds.

    The write was sent through `replica` at `begun`; at `over` its writer had a good answer, or else upstream
    was asked what became of it. The user has `keys` from then on; `named` are those that the request named.
    """

    user: int
    version: Version
    keys: frozenset[Key]
    begun: float
    over: float
    answered: bool
    by: str
    replica: int = DIRECT
    named: frozenset[Key] = frozenset()

    def __str__(self) -> str:
        email = next((f" as {value}" for kind, value in self.keys if kind == "email"), "")
        told = f"{self.by}, {'answered' if self.answered else 'unanswered'}"
        return f"{span(self.begun, self.over)}: {told}: {_named(self.version)}{email}"


@dataclass(frozen=True, slots=True)
class Read:
    """An answer to whom `key` leads; `version` None is "to nobody"."""

    user: int
    begun: float
    ended: float
    version: Version | None
    key: Key
    by: str
    replica: int = DIRECT

    def __str__(self) -> str:
        return f"{span(self.begun, self.ended)}: {self.by} {self.key[1]}: {_named(self.version)}"


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the documented exceptions hold: `replica` did not trust Redis."""

    begun: float
    ended: float
    why: str
    replica: int

    def __str__(self) -> str:
        return f"{span(self.begun, self.ended)}: replica {self.replica}, {self.why}"

    def holds(self, begun: float, ended: float) -> bool:
        """Whether some of that time was in it."""
        return begun <= self.ended and self.begun <= ended

    def keeps_back(self, commit: Commit, read: Read) -> bool:
        """Whether its replica may not have told the others of that write when the read began."""
        its = self.replica == commit.replica and self.holds(commit.begun, commit.over)
        return its and read.begun <= self.ended


@dataclass(frozen=True, slots=True)
class Violation:
    """A read that was too old, and what it should have known."""

    read: Read
    floor: Version
    since: Commit | Read
    history: tuple[Commit | Read, ...]

    def __str__(self) -> str:
        lines = [f"violation: {_named(self.read.version)} after {_named(self.floor)}", f"  read  {self.read}"]
        lines += [f"  after {self.since}", *(f"        {event}" for event in self.history)]
        return "\n".join(lines)


@dataclass(slots=True)
class Verdict:
    """`excused` counts the reads that were too old and may have been, by why."""

    violations: list[Violation] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Line:
    """A user's commits in order; the first ones are known, each since that moment."""

    commits: list[Commit]
    since: list[float] = field(default_factory=list)

    def learn(self, version: Version, moment: float) -> None:
        """From that moment on the version, and all before it, are known."""
        while len(self.since) < len(self.commits) and self.commits[len(self.since)].version <= version:
            self.since.append(moment)

    def missed(self, read: Read) -> list[int]:
        """Which known commits the read should have shown, if it is too old, the latest first.

        Those of the user that it shows; "nobody" misses the one that gave the key away. Others must have
        freed the key only if their request names it: what an answer shows is not announced where Redis holds
        nothing older, and the memory of a replica may.
        """
        latest_first = range(len(self.since) - 1, -1, -1)
        if read.version is not None:
            shown = read.version
            newer = takewhile(lambda n: self.commits[n].version > shown, latest_first)
            return [n for n in newer if self.commits[n].version[0] == shown[0] or self._names(n, read)]
        has = list(takewhile(lambda n: read.key in self.commits[n].keys, latest_first))
        return [n for n in has if n == has[-1] or self._names(n, read)]

    def _names(self, number: int, read: Read) -> bool:
        return read.key in self.commits[number].named

    def absent(self, read: Read, floor: Version) -> Version | None:
        """The first version, from `floor` on, that may have been there and has not the key; None for none."""
        if read.key not in self.commits[len(self.since) - 1].keys:
            return floor
        later = (self.commits[n] for n in range(len(self.since), len(self.commits)))
        return next((c.version for c in later if c.begun <= read.ended and read.key not in c.keys), None)


def check(commits: Iterable[Commit], reads: Iterable[Read], windows: Sequence[Window]) -> Verdict:
    """Judges all reads. `commits` holds each user's first version too."""
    verdict = Verdict()
    by_user: dict[int, tuple[list[Commit], list[Read]]] = defaultdict(lambda: ([], []))
    for commit in commits:
        by_user[commit.user][0].append(commit)
    for read in reads:
        by_user[read.user][1].append(read)
    for written, seen in by_user.values():
        line = _Line(sorted(written, key=lambda commit: commit.version))
        _check_user(line, sorted(seen, key=lambda read: read.begun), windows, verdict)
    return verdict


def _check_user(line: _Line, reads: list[Read], windows: Sequence[Window], verdict: Verdict) -> None:
    # What will have to be known, by the moment from which on it has to be.
    coming: list[tuple[float, Version, int, Commit | Read]] = [
        (one.over, one.version, number, one) for number, one in enumerate(line.commits) if one.answered
    ]
    heapq.heapify(coming)
    floor, since = NEVER, None
    for number, read in enumerate(reads, len(line.commits)):
        while coming and coming[0][0] < read.begun:
            moment, version, _, event = heapq.heappop(coming)
            if version > floor:
                floor, since = version, event
                line.learn(floor, moment)
        if since is None:
            continue
        shown = read.version or line.absent(read, floor)
        missed = line.missed(read)
        if why := _excuse(read, line, missed, windows):
            # Where it is old, it shows nothing that others have to know.
            verdict.excused[why] += 1
        elif shown is None or shown < floor:
            verdict.violations.append(Violation(read, floor, since, _around(read, line, missed, reads)))
        else:
            heapq.heappush(coming, (read.ended, shown, number, read))


def _excuse(read: Read, line: _Line, missed: list[int], windows: Sequence[Window]) -> str:
    """Why the read may have missed these; empty if it may not have, or if there are none."""
    if not missed:
        return ""
    cut_off = any(one.replica == read.replica and one.holds(read.begun, read.ended) for one in windows)
    late = [n for n in missed if not any(one.keeps_back(line.commits[n], read) for one in windows)]
    if not late:
        return KEPT_BACK
    return CUT_OFF if cut_off and all(read.begun - line.since[n] <= BEHIND for n in late) else ""


def _around(read: Read, line: _Line, missed: list[int], reads: list[Read]) -> tuple[Commit | Read, ...]:
    """The writes that it missed, some before and all after them by then, and the reads around it."""
    first = max(0, min(missed, default=len(line.since)) - WRITES)
    events: list[Commit | Read] = [one for one in line.commits[first:] if one.begun <= read.ended]
    near = [one for one in reads if one.ended >= read.begun - 0.2 and one.begun <= read.ended]
    return tuple(sorted([*events, *near[-READS:]], key=lambda event: event.begun))
