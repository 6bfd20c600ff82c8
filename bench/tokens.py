"""What proving a token costs: the first time, and again while it is remembered.

`python -m bench.tokens` prints one line of JSON for each algorithm, in microseconds of CPU time: the best of
`--repeats` runs, which is what the machine can do when nothing else disturbs it, and the median of them.
With `--issuers 3` the token's issuer is the last of so many.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import jwt

from proxy.core.identity import Identity
from proxy.core.issuers import Issuers, prover, together
from proxy.core.settings import TokenSettings
from proxy.core.tokens import Verifier
from tests.keys import pem, private

ALGORITHMS = {"HS256": "", "RS256": "rsa", "ES256": "p256"}
SECRET = "a-secret-of-the-bench-that-is-long-enough"
NOW = 1_000_000.0
FIRST, AGAIN = 200, 5000  # checks in one run


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.tokens", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--issuers", type=int, default=1)
    given = parser.parse_args()
    for algorithm in ALGORITHMS:
        told = {"algorithm": algorithm, "issuers": given.issuers, **measure(algorithm, given)}
        sys.stdout.write(json.dumps(told) + "\n")


def measure(algorithm: str, given: argparse.Namespace) -> dict[str, float]:
    """First checks of tokens that are all different, and one of them again and again."""
    tokens = [signed(algorithm, number) for number in range(FIRST)]
    first, again = [], []
    for _ in range(given.repeats):
        verifier = made(algorithm, given.issuers)
        # The first of all warms up what is built once.
        check(verifier, signed(algorithm, -1))
        first.append(timed(lambda v=verifier: [check(v, token) for token in tokens], FIRST))
        token = tokens[-1]
        again.append(timed(lambda v=verifier, t=token: [check(v, t) for _ in range(AGAIN)], AGAIN))
    return {
        "first_min_us": round(min(first), 2),
        "first_median_us": round(statistics.median(first), 2),
        "again_min_us": round(min(again), 2),
        "again_median_us": round(statistics.median(again), 2),
    }


def made(algorithm: str, issuers: int) -> Verifier | Issuers:
    """A verifier that remembers nothing yet."""
    key = ALGORITHMS[algorithm]
    last = TokenSettings(
        secret=None if key else SECRET,
        public_key=pem(key).decode() if key else None,
        algorithms=(algorithm,),
        issuer="users-api",
    )
    others = [TokenSettings(secret=f"{n} {SECRET}", issuer=f"https://login-{n}") for n in range(issuers - 1)]
    return prover(together([*others, last]) if others else last, lambda _: None)


def signed(algorithm: str, number: int) -> str:
    """A token as services issue them."""
    key = private(ALGORITHMS[algorithm]) if ALGORITHMS[algorithm] else SECRET
    claims = {"sub": "42", "iss": "users-api", "iat": NOW - 60, "exp": NOW + 3600, "jti": str(number)}
    return jwt.encode(claims, key, algorithm=algorithm)


def check(verifier: Verifier | Issuers, token: str) -> None:
    """One check; the token is good."""
    if not isinstance(verifier.verify(token, NOW), Identity):
        raise SystemExit("a good token was refused")


def timed(run: Callable[[], object], count: int) -> float:
    """Microseconds of CPU for each of `count`."""
    begun = time.process_time()
    run()
    return (time.process_time() - begun) / count * 1e6


if __name__ == "__main__":
    main()
