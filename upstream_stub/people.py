"""The users a fresh database is filled with, each a function of the seed and the id alone.

What holds for every seed, so that examples can be written down:

* user N has a username made of a first name and N (`ada1`, `grace2`, `alan3`, ...), the e-mail address
  `<username>@example.com` and the password `password-N`;
* user 1 is the only admin;
* user 13 and every 25th user (25, 50, 75, ...) are inactive, nobody else.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from upstream_stub.passwords import hash_password
from upstream_stub.user import User, timestamp

# fmt: off
_FIRST = (
    "Ada", "Grace", "Alan", "Barbara", "Edsger", "Radia", "Donald", "Frances", "Dennis", "Karen",
    "Niklaus", "Adele", "Tony", "Shafi", "John", "Margaret", "Leslie", "Jean", "Kenneth", "Hedy",
    "Linus", "Katherine", "Robin", "Dorothy", "Guido", "Mary", "Rob", "Sophie", "Vint", "Evelyn",
    "Butler", "Annie", "Emmy", "Joan", "Peter", "Elena", "Ivan", "Lynn", "Seymour", "Betty",
)
_LAST = (
    "Lovelace", "Hopper", "Turing", "Liskov", "Dijkstra", "Perlman", "Knuth", "Allen", "Ritchie",
    "Jones", "Wirth", "Goldberg", "Hoare", "Goldwasser", "Backus", "Hamilton", "Lamport", "Sammet",
    "Thompson", "Lamarr", "Torvalds", "Johnson", "Milner", "Vaughan", "Rossum", "Keller", "Pike",
    "Wilson", "Cerf", "Boyd", "Lampson", "Easley", "Shannon", "Clarke", "Naur", "Ortega", "Sutherland",
    "Conway", "Papert", "Holberton",
)
# fmt: on
_TRADES = (
    "Builds bridges",
    "Teaches mathematics",
    "Runs a small bakery",
    "Writes compilers",
    "Repairs clocks",
    "Grows tomatoes",
    "Draws maps",
    "Conducts a choir",
)
_CITIES = ("Bremen", "Lyon", "Porto", "Ghent", "Turin", "Graz", "Uppsala", "Cork", "Brno", "Leiden")
_LIKES = (
    "likes long trains and short meetings",
    "collects maps of places that do not exist",
    "reads the manual first and the novel later",
    "swims in cold lakes before breakfast",
    "plays the cello when nobody is listening",
    "still answers letters by hand, slowly",
)

_TOPICS = (
    "ferries and the islands they serve",
    "typefaces, and why they matter",
    "sourdough that survives holidays",
    "the night sky over the harbour",
    "chess openings nobody plays",
)

# A prime stride over the nine digits after +4915: a bijection, so no two users share a number.
_PHONE_STRIDE = 618_033_989
_PHONE_SPACE = 10**9
_EPOCH = datetime(2015, 1, 1, tzinfo=UTC)


def default_password(user_id: int) -> str:
    """The password a generated user starts with."""
    return f"password-{user_id}"


def is_inactive(user_id: int) -> bool:
    """Whether a generated user starts deactivated."""
    return user_id == 13 or user_id % 25 == 0


def person(seed: int, user_id: int) -> User:
    """The generated user of that id."""
    # A generator per user: user 42 is the same person however many others there are.
    rng = random.Random(f"{seed}:{user_id}")
    first = _FIRST[(user_id - 1) % len(_FIRST)]
    username = f"{first.lower()}{user_id}"
    created = _EPOCH + timedelta(seconds=rng.randrange(8 * 365 * 86400), microseconds=rng.randrange(10**6))
    updated = created + timedelta(seconds=rng.randrange(400 * 86400), microseconds=rng.randrange(10**6))
    salt = hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=16).digest()
    return User(
        id=user_id,
        email=f"{username}@example.com",
        username=username,
        phone=f"+4915{(user_id * _PHONE_STRIDE + seed) % _PHONE_SPACE:09d}",
        display_name=f"{first} {rng.choice(_LAST)}",
        bio=(
            f"{rng.choice(_TRADES)} in {rng.choice(_CITIES)}; {rng.choice(_LIKES)}. "
            f"Ask me about {rng.choice(_TOPICS)}. Here since {created.year}."
        ),
        role="admin" if user_id == 1 else "user",
        is_active=int(not is_inactive(user_id)),
        version=1,
        created_at=timestamp(created),
        updated_at=timestamp(updated),
        hashed_password=hash_password(default_password(user_id), salt),
    )


def people(seed: int, count: int) -> Iterator[User]:
    """Users 1 to `count`."""
    return (person(seed, user_id) for user_id in range(1, count + 1))
