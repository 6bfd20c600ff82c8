"""MemoryStore's bounds: users, floors, marks and "nobody" records; correctness never depends on them."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.core.model import Absent, Entry, Found, LocalTicket, Reason, Ref
from proxy.store.memory import MemoryStore
from tests.contract.kit import Clock, Kit, by


def make(max_users: int) -> Kit:
    """A small store."""
    clock = Clock()
    return Kit("memory", MemoryStore(max_users, now=clock, monotonic=clock), clock)


async def test_the_least_recently_used_user_goes() -> None:
    """A user's slots go together, with the aliases; reading keeps a user."""
    kit = make(2)
    await kit.put(kit.entry("1"))
    await kit.put(kit.entry("2"))
    await kit.put(kit.entry("1", b"me"), by("id", "1", "me#a"))
    await kit.put(kit.entry("2"), by("id", "2", "me#a"))
    await kit.body(by("email", "u1@x"))
    await kit.put(kit.entry("3"))
    assert [b"{}", None, b"{}"] == [await kit.body(by("email", f"u{n}@x")) for n in (1, 2, 3)]
    assert None is await kit.store.resolve("phone", "+2")
    assert (2, 1) == (kit.store.stats.users, kit.store.stats.evictions)


async def test_memory_is_given_back() -> None:
    """When all users are gone, by eviction, expiry or for want of room, nothing is held any more."""
    kit = make(3)
    for number in range(20):
        await kit.put(kit.entry(str(number), headers=((b"A", b"b"),)))
        await kit.put(kit.entry(str(number), b"longer"), by("id", str(number), f"me#{number}"))
        await kit.put(kit.entry(None), by("email", f"none{number}@x"))
    await kit.store.evict(["19"])
    kit.clock.time += 60
    for number in range(17, 20):
        await kit.body(by("id", str(number), "users"))
        await kit.body(by("id", str(number), f"me#{number}"))
    await kit.body(by("email", "none19@x"))
    stats = kit.store.stats
    assert (0, 0, {}) == (stats.users, stats.bytes, dict(kit.store._links))
    assert (2 * 2 + 1, 17 + 19) == (stats.expirations, stats.evictions)


async def test_what_is_over_is_swept_by_fills() -> None:
    """Users whom nobody reads any more go without a timer."""
    kit = make(100)
    for number in range(20):
        await kit.put(kit.entry(str(number)))
        await kit.put(kit.entry(None), by("phone", f"0{number}"))
    kit.clock.time += 60
    for number in range(20, 27):
        await kit.put(kit.entry(str(number)))
    assert 7 == kit.store.stats.users
    assert 11 - 7 == len(kit.store._nobodies)


async def test_a_user_who_is_evicted_and_filled_again_and_again_costs_nothing_more() -> None:
    """The list that sweeps walk along does not grow with the number of fills."""
    kit = make(100)
    for number in range(10):
        await kit.put(kit.entry(str(number)))
    for _ in range(500):
        await kit.store.evict(["0"])
        await kit.put(kit.entry("0"))
    assert len(kit.store._ring) <= 20


async def test_aliases_of_a_user_are_bounded_by_what_is_stored() -> None:
    """A user whose e-mail changes with every fill keeps the last one only."""
    kit = make(100)
    for number in range(50):
        await kit.put(kit.entry("1", keys={"email": f"{number}@x"}))
    assert {("email", "49@x"): "1"} == dict(kit.store._links)


async def test_a_forgotten_floor_refuses_what_it_would_have_refused() -> None:
    """More evictions than the bound holds: a fill from before one of them is still stale."""
    kit = make(2)
    ticket = kit.store.begin()
    for number in range(10):
        await kit.store.evict([str(number)])
        later = kit.store.begin()
    assert len(kit.store._floors) <= 2
    for number in range(10):
        entry = kit.entry(str(number))
        assert Reason.STALE_FILL == kit.store.put(by("id", str(number)), entry, ticket)
        assert None is kit.store.put(by("id", str(number)), entry, later)


async def test_marks_and_nobodies_are_bounded() -> None:
    """A flood of unknown keys costs a tenth of the users' room; a mark that went refuses its "nobody"."""
    kit = make(20)
    first = kit.store.begin(by("email", "first@x"))
    for number in range(50):
        await kit.put(kit.entry(None), by("email", f"{number}@x"))
        kit.store.begin(by("phone", f"{number}"))
    assert (3, 3) == (len(kit.store._nobodies), len(kit.store._nobodies._marks))
    late = kit.entry(None)
    assert Reason.STALE_FILL == kit.store.put(by("email", "first@x"), late, first)


@pytest.mark.parametrize(("after", "found"), [(0.999, True), (1.0, False)])
async def test_max_ttl_caps_what_is_put_in(after: float, found: bool) -> None:
    """The copy's life is capped, by the monotonic clock; the answer itself is not changed."""
    clock, monotonic = Clock(), Clock(5.0)
    kit = Kit("memory", MemoryStore(10, now=clock, monotonic=monotonic), clock)
    kit.store.max_ttl = 1.0
    await kit.put(kit.entry())
    await kit.put(kit.entry(None, b"no"), by("email", "none@x"))
    clock.time -= 3600
    monotonic.time += after
    expected = ([b"{}", b"no"], 2) if found else ([None, None], 0)
    bodies = [await kit.body(by("id", "42")), await kit.body(by("email", "none@x"))]
    assert expected == (bodies, kit.store.stats.users + len(kit.store._nobodies))


async def test_an_unproven_alias_is_removed() -> None:
    """A slot whose answer does not carry the alias: a miss, counted, and the alias goes (design §7.2)."""
    kit = make(10)
    await kit.put(kit.entry())
    await kit.put(kit.entry(keys={}), by("id", "42", "profile"))
    assert Absent(Reason.ALIAS_UNPROVEN) == await kit.store.get(by("email", "u42@x", "profile"))
    assert (1, None) == (kit.store.stats.aliases_removed, await kit.store.resolve("email", "u42@x"))


USERS = st.sampled_from(["1", "2", "3", "4"])
EMAILS = st.sampled_from(["a", "b", "c"])


class Model(RuleBasedStateMachine):
    """Upstream is a table of versions; look-ups and writes overlap in every order; the store is tiny.

    Whatever is found must be at least as new as the last write that has ended.
    """

    @initialize()
    def start(self) -> None:
        """Nobody exists yet."""
        self.clock = Clock()
        self.store = MemoryStore(2, now=self.clock, monotonic=self.clock)
        self.version = 0
        # Each user's e-mail and version, as upstream has it.
        self.table: dict[str, tuple[str, int]] = {}
        self.reads: list[tuple[Ref, Entry, LocalTicket]] = []

    def answer(self, ref: Ref) -> Entry:
        """What upstream says now."""
        user_id: str | None = ref.value
        if ref.key == "email":
            user_id = next((one for one, (email, _) in self.table.items() if email == ref.value), None)
        now = self.clock.time
        found = self.table.get(user_id or "")
        keys = {"email": found[0]} if found else {}
        body = b"%d" % found[1] if found else b"none"
        status = 200 if found else 404
        return Entry(
            user_id=user_id, keys=keys, status=status, body=body, stored=now, expires=now + 10, dead=now + 10
        )

    @rule(user=USERS, email=st.none() | EMAILS, view=st.sampled_from(["users", "me#1"]))
    def begin(self, user: str, email: str | None, view: str) -> None:
        """A look-up takes its ticket and asks upstream; the answer is on its way."""
        ref = by("email", email, view) if email else by("id", user, view)
        ticket = self.store.begin(ref)
        self.reads.append((ref, self.answer(ref), ticket))

    @rule(index=st.integers(0, 100))
    def end(self, index: int) -> None:
        """An answer arrives, maybe much later, and is stored or refused."""
        if self.reads:
            ref, entry, ticket = self.reads.pop(index % len(self.reads))
            self.store.put(ref, entry, ticket)

    @rule(user=USERS, email=EMAILS)
    def write(self, user: str, email: str) -> None:
        """A create, an update or a rename; the e-mail may be taken from its owner."""
        evicted, freed = [user], [("email", email)]
        for one, (owned, _) in list(self.table.items()):
            if one == user:
                freed.append(("email", owned))
            elif owned == email:
                del self.table[one]
                evicted.append(one)
        self.version += 1
        self.table[user] = (email, self.version)
        self.store.drop(evicted, freed)

    @rule(user=USERS)
    def delete(self, user: str) -> None:
        """A user goes."""
        self.table.pop(user, None)
        self.store.drop([user])

    @rule()
    def bulk(self) -> None:
        """Everybody is changed at once."""
        self.version += 1
        self.table = {one: (email, self.version) for one, (email, _) in self.table.items()}
        self.store.drop((), everything=True)

    @rule(seconds=st.sampled_from([1, 9, 11]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.clock.time += seconds

    @invariant()
    def nothing_found_is_stale(self) -> None:
        """All writes have ended, so what is found is what upstream says."""
        refs = [by("id", user) for user in "1234"] + [by("email", email) for email in "abc"]
        for ref in [*refs, *(by(ref.key, ref.value, "me#1") for ref in refs)]:
            looked = self.store.look(ref)
            if isinstance(looked, Found):
                expected = self.answer(ref)
                assert (expected.user_id, expected.body) == (looked.entry.user_id, looked.entry.body)

    @invariant()
    def the_books_are_right(self) -> None:
        """Bounds hold, and aliases belong to users who are there."""
        store = self.store
        users = store._users.values()
        assert all(store._users[user_id].proves(*alias) for alias, user_id in store._links)
        assert sum(slot.size for user in users for slot in user.slots.values()) == store._tables.bytes
        assert (True, True) == (len(users) <= 2, len(store._floors) <= 2)


Model.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestModel = Model.TestCase


async def test_a_key_leads_on_while_any_answer_proves_it() -> None:
    """Another view's answer has gone, or says less by now."""
    kit = make(10)
    keys = {"email": "a@x"}
    await kit.put(kit.entry("1", b"one", keys=keys))
    await kit.put(kit.entry("1", b"two", keys=keys), by("id", "1", "other"))
    await kit.put(kit.entry("1", b"three", keys={}))
    assert b"two" == await kit.body(by("email", "a@x", "other"))


async def test_the_books_tell_what_memory_takes() -> None:
    """Users of 400 bytes with three keys, and headers of their own bytes, as they come from a socket."""
    kit = make(5000)

    def entry(number: int) -> Entry:
        keys = {name: f"{name}-{number:06}@example.com" for name in ("email", "username", "phone")}
        lines = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"max-age=300, public")]
        headers = tuple((bytes(bytearray(name)), bytes(bytearray(value))) for name, value in lines)
        return kit.entry(str(number), b"%0400d" % number, keys=keys, headers=headers, active=True)

    for number in range(500):
        kit.store.put(by("id", str(number)), entry(number), kit.store.begin())
    gc.collect()
    tracemalloc.start()
    try:
        before, told = tracemalloc.get_traced_memory()[0], kit.store.stats.bytes
        for number in range(1000, 4000):
            kit.store.put(by("id", str(number)), entry(number), kit.store.begin())
        gc.collect()
        taken, told = tracemalloc.get_traced_memory()[0] - before, kit.store.stats.bytes - told
    finally:
        tracemalloc.stop()
    assert 0.8 < told / taken < 1.2, (told / 3000, taken / 3000)
    assert taken / 3000 < 1650
