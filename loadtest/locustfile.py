"""Many clients of a users API: look-ups by each key, introspections, writes; popular users more often (Zipf).

For the demo (`make run`): its users log in with `password-N`. At the end it prints hit rate and latencies
by kind. `make loadtest` runs it without a page; see README.md.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from urllib.parse import quote

from locust import FastHttpUser, constant, events, task

FRESH = frozenset({"HIT", "STALE"})
INACTIVE = frozenset({13})


@dataclass
class Tally:
    """What came of the requests of one kind: `X-Cache` values, and milliseconds."""

    results: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    @property
    def hit_rate(self) -> float:
        """Of those that a cache had a say in."""
        return sum(self.results[name] for name in FRESH) / (self.results.total() or 1)

    def quantile(self, part: float) -> float:
        """The time within which that part of them was answered."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


tallies: dict[str, Tally] = {}
# What look-ups by id showed: the keys of the other look-ups are not known beforehand.
people: dict[int, dict[str, Any]] = {}
weights: list[float] = []


@events.init_command_line_parser.add_listener
def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--people", type=int, default=1000, help="users with the ids 1 to this many are asked for"
    )
    parser.add_argument("--pause", type=float, default=0, help="seconds between two requests of one client")


@events.test_start.add_listener
def _start(environment: Any, **_: Any) -> None:
    tallies.clear()
    people.clear()
    weights[:] = accumulate(1 / rank for rank in range(1, environment.parsed_options.people + 1))


@events.request.add_listener
def _count(name: str, response_time: float, response: Any, **_: Any) -> None:
    tally = tallies.setdefault(name, Tally())
    tally.results[(response.headers or {}).get("X-Cache", "none") if response is not None else "none"] += 1
    tally.times.append(response_time)


@events.quitting.add_listener
def _report(environment: Any, **_: Any) -> None:
    if not tallies:
        return
    print(f"\n{'kind':<22}{'requests':>9}{'hit rate':>10}{'p50 ms':>9}{'p99 ms':>9}  X-Cache")
    for name, tally in sorted(tallies.items()):
        results = ", ".join(f"{result} {count:,}" for result, count in tally.results.most_common())
        print(
            f"{name:<22}{tally.results.total():>9,}{tally.hit_rate:>10.1%}"
            f"{tally.quantile(0.5):>9.1f}{tally.quantile(0.99):>9.1f}  {results}"
        )
    total = environment.stats.total
    print(f"{total.num_requests:,} requests, {total.num_failures:,} failed")


class Caller(FastHttpUser):
    """A client with a token of its own."""

    def wait_time(self) -> float:
        """As `--pause` says."""
        pause: float = constant(self.environment.parsed_options.pause)(self)
        return pause

    def on_start(self) -> None:
        """Logs in as an active user."""
        most = self.environment.parsed_options.people
        ids = [one for one in range(1, most + 1) if one % 25 and one not in INACTIVE]
        own = random.choice(ids)
        user = self.look_up(own)
        form = {"username": user.get("username", ""), "password": f"password-{own}"}
        with self.client.post("/auth/login", json=form, name="login", catch_response=True) as answer:
            found = answer.json() if answer.status_code == 200 else {}
            if "access_token" not in found:
                answer.failure(f"no token: {answer.status_code}")
        self.bearer = {"Authorization": f"Bearer {found.get('access_token', '')}"}

    def look_up(self, number: int) -> dict[str, Any]:
        """A user by id; what it shows is remembered."""
        answer = self.client.get(f"/users/{number}", name="look-up by id")
        if answer.status_code == 200 and number not in people:
            people[number] = answer.json()
        return people.get(number, {})

    def drawn(self) -> int:
        """Whom to ask for."""
        return random.choices(range(1, len(weights) + 1), cum_weights=weights)[0]

    def by_key(self, key: str, path: str) -> None:
        """A look-up by another key of somebody who has been seen; of others by id."""
        number = self.drawn()
        value = people.get(number, {}).get(key)
        if value is None:
            self.look_up(number)
            return
        self.client.get(path + quote(str(value), safe=""), headers=self.bearer, name=f"look-up by {key}")

    @task(40)
    def by_id(self) -> None:
        """By id."""
        self.look_up(self.drawn())

    @task(15)
    def by_email(self) -> None:
        """By e-mail."""
        self.by_key("email", "/users/by-email/")

    @task(10)
    def by_username(self) -> None:
        """By user name."""
        self.by_key("username", "/users/")

    @task(5)
    def by_phone(self) -> None:
        """By phone."""
        self.by_key("phone", "/users?phone=")

    @task(20)
    def me(self) -> None:
        """Who am I?"""
        self.client.get("/auth/me", headers=self.bearer, name="introspect (me)")

    @task(8)
    def introspect(self) -> None:
        """Is this token good?"""
        self.client.get("/auth/introspect", headers=self.bearer, name="introspect")

    @task(2)
    def write(self) -> None:
        """A change of the caller's own profile."""
        body = {"bio": f"number {random.randrange(10**9)}"}
        self.client.put("/profile", json=body, headers=self.bearer, name="write")
