"""Did each read show what it had to? Users are written by one writer each, so a user's versions are a line.

A read must not be older than any write that was answered before the read began, nor than any read of the
same user that had ended by then: together, reads and writes are linearizable per user (design §7.5).

What docs/coherence.md does not promise is excused, and nothing else: each write that a read missed must have
gone through a replica that could not tell Redis of it and had not told it by then; or the replica that was
read was cut off itself, and the write is no older than its memory may be.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

# Events that are kept to explain a violation.
SHOWN = 25
# Older writes that are kept for that.
WRITTEN = 4
# Seconds that the memory of a replica without Redis may be behind: `fallback_ttl`, and the time to notice.
BEHIND = 6.0
# Nobody's replica: the service itself was asked, or it was so from the start.
DIRECT = -1


@dataclass(frozen=True, slots=True)
class Commit:
    """A version that upstream committed; times in monotonic seconds.

    `begun` is when the write was sent through `replica`, `answered` when the writer was told, None where it
    never was.
    """

    user: int
    version: int
    email: str
    begun: float
    answered: float | None
    by: str
    replica: int = DIRECT


@dataclass(frozen=True, slots=True)
class Read:
    """An answer. `version` None is "nobody has this key"; `email` the key asked for, None for another key."""

    user: int
    begun: float
    ended: float
    version: int | None
    email: str | None
    by: str
    replica: int = DIRECT


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the documented exception holds: `replica` did not trust Redis."""

    begun: float
    ended: float
    why: str
    replica: int

    def holds(self, begun: float, ended: float) -> bool:
        """Whether some of that time was in it."""
        return begun <= self.ended and self.begun <= ended

    def keeps_back(self, commit: Commit, read: Read) -> bool:
        """Whether its replica may not have told the others of that write when the read began."""
        told = read.ended if commit.answered is None else commit.answered
        return self.replica == commit.replica and self.holds(commit.begun, told) and read.begun <= self.ended


@dataclass(frozen=True, slots=True)
class Violation:
    """A read that was too old, and what it should have known."""

    read: Read
    floor: int
    since: Commit | Read
    history: tuple[Commit | Read, ...]

    def __str__(self) -> str:
        lines = [f"user {self.read.user}: version {self.read.version} after {self.floor}", f"  {self.read}"]
        return "\n".join([*lines, f"  but {self.since}", *(f"    {event}" for event in self.history)])


@dataclass(slots=True)
class Verdict:
    """`excused` counts reads that were too old and may have been."""

    violations: list[Violation] = field(default_factory=list)
    excused: int = 0


def check(commits: Iterable[Commit], reads: Iterable[Read], windows: Sequence[Window]) -> Verdict:
    """Judges all reads. `commits` holds each user's first version too."""
    verdict = Verdict()
    by_user: dict[int, tuple[list[Commit], list[Read]]] = defaultdict(lambda: ([], []))
    for commit in commits:
        by_user[commit.user][0].append(commit)
    for read in reads:
        by_user[read.user][1].append(read)
    for written, seen in by_user.values():
        _check_user(sorted(written, key=lambda commit: commit.version), seen, windows, verdict)
    return verdict


def _check_user(
    commits: list[Commit], reads: list[Read], windows: Sequence[Window], verdict: Verdict
) -> None:
    # What will have to be known, by the moment from which on it has to be.
    coming: list[tuple[float, int, int, Commit | Read]] = [
        (commit.answered, commit.version, number, commit)
        for number, commit in enumerate(commits)
        if commit.answered is not None
    ]
    heapq.heapify(coming)
    floor, since = 0, None
    for number, read in enumerate(sorted(reads, key=lambda one: one.begun), len(commits)):
        while coming and coming[0][0] < read.begun:
            _, version, _, event = heapq.heappop(coming)
            if version > floor:
                floor, since = version, event
        shown = read.version if read.version is not None else _absent_from(commits, read, floor)
        if since is not None and (shown is None or shown < floor):
            if _excused(read, _missed(commits, read, shown, floor), windows):
                verdict.excused += 1
            else:
                verdict.violations.append(Violation(read, floor, since, _around(read, commits, reads)))
        if shown is not None:
            heapq.heappush(coming, (read.ended, shown, number, read))


def _absent_from(commits: list[Commit], read: Read, floor: int) -> int | None:
    """The first version, from `floor` on, with which the e-mail that was asked for led nowhere; else None."""
    possible = (c for c in commits if c.version >= floor and c.begun <= read.ended)
    return next((c.version for c in possible if c.email != read.email), None)


def _missed(commits: list[Commit], read: Read, shown: int | None, floor: int) -> list[Commit]:
    """The writes that the read should have shown: those after its version.

    For "nobody" it is the one that gave the address that was asked for. Those since name the address no more
    than in their answers, so only one that was answered had to make "nobody" of it forgotten.
    """
    older = [commit for commit in commits if commit.version <= floor]
    if shown is not None:
        return [commit for commit in older if commit.version > shown]
    *since, gave = takewhile(lambda commit: commit.email == read.email, reversed(older))
    return [gave, *(one for one in since if one.answered is not None and one.answered < read.begun)]


def _excused(read: Read, missed: list[Commit], windows: Sequence[Window]) -> bool:
    cut_off = any(one.replica == read.replica and one.holds(read.begun, read.ended) for one in windows)
    return bool(missed) and all(
        any(one.keeps_back(commit, read) for one in windows)
        or (cut_off and (commit.answered is None or read.begun - commit.answered <= BEHIND))
        for commit in missed
    )


def _around(read: Read, commits: list[Commit], reads: list[Read]) -> tuple[Commit | Read, ...]:
    """The last writes, however old, and the events of the second before the read's end."""
    events: list[Commit | Read] = [c for c in commits if read.begun - 1 <= c.begun <= read.ended]
    events += [one for one in reads if one.ended >= read.begun - 0.2 and one.begun <= read.ended]
    older = [commit for commit in commits if commit.begun < read.begun - 1]
    return (*older[-WRITTEN:], *sorted(events, key=lambda event: event.begun)[-SHOWN:])
