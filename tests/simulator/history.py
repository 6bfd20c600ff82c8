"""What readers saw and writers did, and whether one order of it explains all (Wing and Gong, 1993)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

NEVER = 1 << 60


@dataclass(frozen=True)
class User:
    """One state of a user at upstream; no two writes bring the same version."""

    id: str
    version: int
    email: str

    def __str__(self) -> str:
        return f"v{self.version} <{self.email}>"


Held = dict[str, User | None]
"""All users by id; None where there is none."""


@dataclass
class Op:
    """One operation: from `start` to `end` (NEVER: nobody was told of its end), in the order of events.

    A read saw `saw` under `key`; a write made users what `made` says. `outcome` of a write: done, failed
    (nothing changed), or unknown (it may happen any time, or never).
    """

    actor: str
    kind: Literal["read", "write"]
    key: tuple[str, str] = ("", "")
    start: int = 0
    end: int = NEVER
    saw: User | None = None
    made: Held = field(default_factory=dict)
    outcome: Literal["done", "failed", "unknown"] = "unknown"
    tier: str = ""

    def fits(self, user_id: str, user: User | None) -> bool:
        """Whether a read may have seen this while that user's state was `user`."""
        if self.key[0] == "id":
            return self.saw == user if self.key[1] == user_id else True
        if self.saw is not None and self.saw.id == user_id:
            return self.saw == user
        return user is None or user.email != self.key[1]

    def __str__(self) -> str:
        until = "…" if self.end == NEVER else str(self.end)
        if self.kind == "read":
            found = "nobody" if self.saw is None else f"{self.saw.id} {self.saw}"
            what = (
                f"read {self.key[0]}={self.key[1]} → {found} ({self.tier})" if self.end != NEVER else "read"
            )
        else:
            what = ", ".join(f"write {one} := {user or 'nobody'}" for one, user in self.made.items())
            what = f"{what or 'write'} ({self.outcome})"
        return f"[{self.start:4} {until:>4}] {self.actor:14} {what}"


class History:
    """Operations in the order of their events."""

    def __init__(self, users: Held) -> None:
        self.first = dict(users)
        self.ops: list[Op] = []
        self.notes: list[tuple[int, str]] = []
        self._clock = 0

    def tick(self) -> int:
        """The next place in the order of events."""
        self._clock += 1
        return self._clock

    def note(self, text: str) -> None:
        """Something that happened to the world."""
        self.notes.append((self.tick(), text))

    def begin(self, op: Op) -> Op:
        """An operation starts."""
        op.start = self.tick()
        self.ops.append(op)
        return op

    def end(self, op: Op) -> None:
        """Whoever asked has its answer."""
        op.end = self.tick()

    def violation(self, *, together: bool) -> str | None:
        """The first user whose history no order explains; None where all is well.

        `together`: one order for all reads. Otherwise each read may have an order of its own, which leaves
        "a read that starts after a write was answered sees it". Reads that did not end say nothing.
        """
        reads = [op for op in self.ops if op.kind == "read" and op.end != NEVER]
        groups = [reads] if together else [[op] for op in reads]
        ids = {user_id for op in self.ops for user_id in op.made} | set(self.first)
        for user_id in sorted(ids):
            if not all(self._linear(user_id, group) for group in groups):
                return user_id
        return None

    def _linear(self, user_id: str, reads: list[Op]) -> bool:
        """Whether each operation can have happened at one moment between its start and its end.

        A write of unknown outcome may be left out.
        """
        writes = [
            op for op in self.ops if op.kind == "write" and user_id in op.made and op.outcome != "failed"
        ]
        ops = reads + [op for op in writes if op.outcome == "done"]
        ends = {id(op): op.end for op in ops}
        maybe = [op for op in writes if op.outcome == "unknown"]
        todo = sorted(ops + maybe, key=lambda op: op.start)
        must = sum(1 << index for index, op in enumerate(todo) if id(op) in ends)
        seen: set[tuple[int, User | None]] = set()
        stack: list[tuple[int, User | None]] = [(0, self.first.get(user_id))]
        while stack:
            done, user = stack.pop()
            if done & must == must:
                return True
            if (done, user) in seen:
                continue
            seen.add((done, user))
            left = [(index, op) for index, op in enumerate(todo) if not done >> index & 1]
            horizon = min(ends.get(id(op), NEVER) for _, op in left)
            for index, op in left:
                if op.start > horizon:
                    break
                if op.kind == "write":
                    stack.append((done | 1 << index, op.made[user_id]))
                elif op.fits(user_id, user):
                    stack.append((done | 1 << index, user))
        return False

    def text(self) -> str:
        """All of it, for people."""
        rows = [(op.start, str(op)) for op in self.ops]
        rows += [(at, f"[{at:4}     ] {note}") for at, note in self.notes]
        return "\n".join(line for _, line in sorted(rows))
