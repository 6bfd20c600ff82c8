"""Two sets of rules over one Redis: neither finds what the other stored, and neither keeps the other cold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from proxy.core.keeping import Keeping, rules
from proxy.core.model import Absent, Found, Reason, Ticket
from proxy.core.settings import UserKey, UserModel, View
from proxy.store.redis import RedisStore
from tests.contract.kit import Clock, Kit, by
from tests.valkey import Valkey

MODEL = UserModel(keys=(UserKey(name="email", path=("email",)),), active=("is_active",))
VIEWS = {"users": View(name="users", ttl=60.0), "short": View(name="short", ttl=60.0)}
WEAK = rules(MODEL, VIEWS, sealed=False)
STRICT = rules(msgspec.structs.replace(MODEL, secrets=("nickname",)), VIEWS, sealed=False)
ID, EMAIL, TOKEN = by("id", "42"), by("email", "u42@x"), by("id", "42", "users#a-token")


@pytest.fixture(name="two")
async def _two(valkey: Valkey) -> AsyncIterator[tuple[Kit, Kit]]:
    clock = Clock()
    async with AsyncExitStack() as stack:
        kits = []
        for keeping in (WEAK, STRICT):
            store = RedisStore(valkey.url, now=clock, deadline=5.0, keeping=keeping)
            stack.push_async_callback(store.close)
            kits.append(Kit("valkey", store, clock))
        yield kits[0], kits[1]


async def test_what_was_kept_under_other_rules_is_not_found(two: tuple[Kit, Kit]) -> None:
    """By id, by alias, and about nobody."""
    weak, strict = two
    await weak.put(weak.entry())
    await weak.put(weak.entry(None), by("email", "nobody@x"))

    for ref in (ID, EMAIL, by("email", "nobody@x")):
        assert isinstance(await strict.store.get(ref), Absent)
        assert isinstance(await weak.store.get(ref), Found)


async def test_both_keep_their_own_side_by_side(two: tuple[Kit, Kit], valkey: Valkey) -> None:
    """The first fill under new rules removes what was kept under the old ones; then both have a copy."""
    weak, strict = two
    await weak.put(weak.entry(body=b"weak"))
    await strict.put(strict.entry(body=b"strict"))
    assert None is await weak.body(ID)
    await weak.put(weak.entry(body=b"weak"))

    for _ in range(3):
        assert b"weak" == await weak.body(ID) == await weak.body(EMAIL)
        assert b"strict" == await strict.body(ID) == await strict.body(EMAIL)
        await strict.put(strict.entry(body=b"strict"))
    # Not once an hour, but a day later.
    valkey.ask("HSET", "user:id:42", "rid", "1")
    await strict.put(strict.entry(body=b"strict"))
    assert None is await weak.body(ID)
    assert b"strict" == await strict.body(ID)


async def test_a_write_drops_what_either_has_kept(two: tuple[Kit, Kit]) -> None:
    """And a fill of before it is refused, under whichever rules."""
    weak, strict = two
    await strict.put(strict.entry())
    await weak.put(weak.entry())
    ticket: Ticket = await weak.store.ticket(ID)
    evicted = await strict.store.evict(["42"])

    assert 1 <= evicted.entries
    assert isinstance(await weak.store.get(ID), Absent)
    assert Reason.STALE_FILL == await weak.store.fill(ID, weak.entry(), ticket)


async def test_the_answers_of_other_views_stay(two: tuple[Kit, Kit]) -> None:
    """A view that is kept as before is not cooled by one that is not; tokens' answers go with their view."""
    weak, _ = two
    store = weak.store
    views = {**VIEWS, "short": View(name="short", ttl=60.0, fields=frozenset({"id"}))}
    await weak.put(weak.entry(body=b"token"), TOKEN)
    for slot in ("users", "short"):
        await weak.put(weak.entry(body=slot.encode()), by("id", "42", slot))
    store._keeping = rules(MODEL, views, sealed=False)

    assert b"users" == await weak.body(ID)
    assert b"token" == await weak.body(TOKEN)
    assert None is await weak.body(by("id", "42", "short"))


@pytest.mark.parametrize(
    "other",
    [
        rules(msgspec.structs.replace(MODEL, id=("uid",)), VIEWS, sealed=False),
        rules(msgspec.structs.replace(MODEL, active=None), VIEWS, sealed=False),
        rules(msgspec.structs.replace(MODEL, keys=()), VIEWS, sealed=False),
        rules(msgspec.structs.replace(MODEL, hash_keys=(b"k" * 32,)), VIEWS, sealed=False),
        rules(MODEL, VIEWS, sealed=True),
        STRICT,
    ],
)
def test_every_rule_counts(other: Keeping) -> None:
    """Whatever decides what is kept, and how."""
    assert WEAK.sign("users") != other.sign("users")


@pytest.mark.parametrize(("what", "other"), [("BUILT_IN", "another list"), ("ENTRY_VERSION", 99)])
def test_another_version_of_the_program_counts(
    what: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a longer list of secret names, or that writes answers otherwise."""
    monkeypatch.setattr(f"proxy.core.keeping.{what}", other)
    assert WEAK.sign("users") != rules(MODEL, VIEWS, sealed=False).sign("users")


def test_what_is_no_rule_does_not_count() -> None:
    """Longer or shorter lives cool nothing, nor does the order of a list, nor the second key of two."""
    lives = {name: msgspec.structs.replace(view, ttl=1.0) for name, view in VIEWS.items()}
    secrets = [msgspec.structs.replace(MODEL, secrets=names) for names in (("a", "b"), ("b", "a"))]
    keys = [msgspec.structs.replace(MODEL, hash_keys=keys) for keys in ((b"a" * 32,), (b"a" * 32, b"b" * 32))]

    assert WEAK == rules(MODEL, lives, sealed=False)
    for one, other in (secrets, keys):
        assert rules(one, VIEWS, sealed=False) == rules(other, VIEWS, sealed=False)
    assert "" == Keeping().sign("users")
