"""Did each read show what it had to? Users are written by one writer each, so a user's versions are a line.

A read must not be older than any write that was answered before the read began, nor than any read of the
same user that had ended by then: together, reads and writes are linearizable per user (design §7.5).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Events that are kept to explain a violation.
SHOWN = 25


@dataclass(frozen=True, slots=True)
class Commit:
    """A version that upstream committed; times in monotonic seconds.

    `begun` is when the write was sent, `answered` when the writer was told, None where it never was.
    """

    user: int
    version: int
    email: str
    begun: float
    answered: float | None
    by: str


@dataclass(frozen=True, slots=True)
class Read:
    """An answer. `version` None is "nobody has this key"; `email` the key asked for, None for another key."""

    user: int
    begun: float
    ended: float
    version: int | None
    email: str | None
    by: str


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the documented exception holds: a replica did not trust Redis."""

    begun: float
    ended: float
    why: str

    def excuses(self, read: Read) -> bool:
        """Whether the read was under way in it."""
        return read.begun <= self.ended and self.begun <= read.ended


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
    """`excused` counts reads in windows that were too old, `in_windows` all reads that were in one."""

    violations: list[Violation] = field(default_factory=list)
    excused: int = 0
    in_windows: int = 0


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
        in_window = any(window.excuses(read) for window in windows)
        verdict.in_windows += in_window
        shown = read.version if read.version is not None else _absent_from(commits, read, floor)
        if since is not None and (shown is None or shown < floor):
            if in_window:
                verdict.excused += 1
            else:
                verdict.violations.append(Violation(read, floor, since, _around(read, commits, reads)))
        if shown is not None:
            heapq.heappush(coming, (read.ended, shown, number, read))


def _absent_from(commits: list[Commit], read: Read, floor: int) -> int | None:
    """The first version, from `floor` on, with which the e-mail that was asked for led nowhere; else None."""
    possible = (c for c in commits if c.version >= floor and c.begun <= read.ended)
    return next((c.version for c in possible if c.email != read.email), None)


def _around(read: Read, commits: list[Commit], reads: list[Read]) -> tuple[Commit | Read, ...]:
    """The events of the second before the read's end."""
    events: list[Commit | Read] = [c for c in commits if read.begun - 1 <= c.begun <= read.ended]
    events += [one for one in reads if one.ended >= read.begun - 0.2 and one.begun <= read.ended]
    return tuple(sorted(events, key=lambda event: event.begun))[-SHOWN:]
