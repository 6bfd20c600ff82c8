"""How long a user's tokens are good after the write that ends them was answered: three replicas, one Valkey.

`python -m bench.deactivation --rounds 20` prints one line of JSON for each kind of ending. `late` counts
answers of 200 to requests that were sent after the write's answer was read, `last_late_ms` when the last of
them came; `last_200_ms` is when the last 200 came at all (below 0: before the write was answered).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.endings import ENDINGS, world


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.deactivation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--replicas", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(measure(given.rounds, given.replicas))


async def measure(rounds: int, replicas: int) -> None:
    """Each round with a new user; the write goes through one replica after the other."""
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), replicas) as w:
            for ending in ENDINGS:
                seen = [await w.end(ending, number % replicas) for number in range(rounds)]
                late = [when for one in seen for _, when in one.late]
                last = [one.last for one in seen if one.last is not None]
                told = {
                    "ending": ending,
                    "rounds": rounds,
                    "replicas": replicas,
                    "hits_before": sum(one.hits for one in seen),
                    "answers_after": sum(one.after for one in seen),
                    "late": len(late),
                    "last_late_ms": round(max(late) * 1000, 3) if late else None,
                    "last_200_ms": round(max(last) * 1000, 3) if last else None,
                }
                sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
