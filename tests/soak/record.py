"""What happened in a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.checker import Commit, Read


@dataclass(slots=True)
class Record:
    """All that happened, at which monotonic second. Latencies are (begun, seconds)."""

    reads: list[Read] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    answers: int = 0
    hits: int = 0
    given_up: int = 0
    """Reads that took too long for their readers."""
    writes: Counter[str] = field(default_factory=Counter)
    """By method."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Writes of unknown outcome, by why."""
    refused: Counter[str] = field(default_factory=Counter)
    """Answers that no fault explains."""
    lost: list[tuple[float, str]] = field(default_factory=list)
    """Connections that broke."""
    latencies: list[tuple[float, float]] = field(default_factory=list)
    direct: list[tuple[float, float]] = field(default_factory=list)
    slow: list[tuple[float, float]] = field(default_factory=list)
    """When the service was slow with something; a write by an alias may ask it first."""
