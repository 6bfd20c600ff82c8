"""What every store promises: whatever is in front of or behind it, the answers are the same."""

from __future__ import annotations

import msgspec
import pytest

from proxy.core.model import Absent, Evicted, Found, Reason, Ref, Ticket
from tests.contract.kit import Kit, by

ID = by("id", "42")
EMAIL = by("email", "u42@x")
PHONE = by("phone", "+42")


async def test_nothing_is_found_where_nothing_was_stored(kit: Kit) -> None:
    """A cold store says absent, by id and by alias."""
    assert [Absent(), Absent()] == [await kit.store.get(ID), await kit.store.get(EMAIL)]


@pytest.mark.parametrize("ref", [ID, EMAIL, PHONE], ids=lambda ref: ref.key)
async def test_an_answer_filled_by_any_key_is_found_by_all(kit: Kit, ref: Ref) -> None:
    """A user is stored once and found by the id and by each alias, unchanged but for the epoch."""
    entry = kit.entry(body=b'{"id":42}', headers=((b"ETag", b'"a"'),), active=True)
    await kit.put(entry, ref)
    for other in (ID, EMAIL, PHONE):
        looked = await kit.store.get(other)
        assert isinstance(looked, Found)
        assert entry == msgspec.structs.replace(looked.entry, epoch=entry.epoch)


async def test_slots_are_apart(kit: Kit) -> None:
    """A view's answer is not found in another view, nor a token's answer by another token."""
    await kit.put(kit.entry(), by("id", "42", "users"))
    await kit.put(kit.entry(body=b"t"), by("id", "42", "me#aa"))
    assert b"t" == await kit.body(by("id", "42", "me#aa"))
    assert Absent() == await kit.store.get(by("id", "42", "me#bb"))
    assert Absent() == await kit.store.get(by("email", "u42@x", "profile"))


async def test_nobody_has_an_alias(kit: Kit) -> None:
    """A 404 by alias is stored and found, in the view that asked only."""
    await kit.put(kit.entry(None, b"no"), EMAIL)
    assert b"no" == await kit.body(EMAIL)
    assert None is await kit.body(by("email", "u42@x", "profile"))
    assert None is await kit.body(by("phone", "u42@x"))


async def test_nobody_has_an_id(kit: Kit) -> None:
    """A 404 by id is stored in its slot, and evicted like a user."""
    gone = kit.entry(body=b"no", status=404, keys={})
    await kit.put(gone)
    assert b"no" == await kit.body(ID)
    assert Evicted(entries=1) == await kit.store.evict(["42"])
    assert Absent() == await kit.store.get(ID)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "cold"])
@pytest.mark.parametrize("ref", [ID, EMAIL], ids=lambda ref: ref.key)
async def test_a_fill_from_before_an_eviction_is_refused(kit: Kit, ref: Ref, cached: bool) -> None:
    """What was read before a write is not stored after it, even where the write found nothing cached."""
    if cached:
        await kit.put(kit.entry())
    ticket = await kit.store.ticket(ref)
    await kit.store.evict(["42"])
    assert Reason.STALE_FILL == await kit.store.fill(ref, kit.entry(body=b"old"), ticket)
    assert [None, None] == [await kit.body(ID), await kit.body(EMAIL)]
    await kit.put(kit.entry(body=b"new"), ref)
    assert b"new" == await kit.body(EMAIL)


async def test_an_eviction_leaves_other_users_fills_alone(kit: Kit) -> None:
    """A floor belongs to one user."""
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["7"])
    assert None is await kit.store.fill(ID, kit.entry(), ticket)


async def test_a_ticket_without_its_parts_stores_nothing(kit: Kit) -> None:
    """A store refuses a ticket that it did not give out."""
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), Ticket())
    assert Reason.STALE_FILL == await kit.store.fill(EMAIL, kit.entry(None), Ticket())
    assert Absent() == await kit.store.get(ID)


async def test_nobody_is_not_stored_after_the_key_was_given_away(kit: Kit) -> None:
    """A create frees the keys it gives to a user, so a 404 from before it is refused."""
    ticket = await kit.store.ticket(EMAIL)
    await kit.store.evict(["42"], [("email", "u42@x")])
    assert Reason.STALE_FILL == await kit.store.fill(EMAIL, kit.entry(None, b"no"), ticket)
    assert Absent() == await kit.store.get(EMAIL)


async def test_nobody_by_id_is_not_stored_after_a_create(kit: Kit) -> None:
    """The same for a 404 by id."""
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["42"])
    gone = kit.entry(status=404, keys={})
    assert Reason.STALE_FILL == await kit.store.fill(ID, gone, ticket)


async def test_nobody_is_not_stored_over_a_user_who_was_filled_meanwhile(kit: Kit) -> None:
    """A 404 loses to a user who was found since."""
    ticket = await kit.store.ticket(EMAIL)
    await kit.put(kit.entry())
    assert Reason.STALE_FILL == await kit.store.fill(EMAIL, kit.entry(None), ticket)
    assert b"{}" == await kit.body(EMAIL)


async def test_readers_of_one_alias_share_its_mark(kit: Kit) -> None:
    """Of two look-ups under way either may store "nobody"."""
    first, second = await kit.store.ticket(EMAIL), await kit.store.ticket(EMAIL)
    assert None is await kit.store.fill(EMAIL, kit.entry(None, b"no"), first)
    assert b"no" == await kit.body(EMAIL)
    assert second.mark == first.mark


async def test_freeing_an_alias_removes_its_nobody(kit: Kit) -> None:
    """A stored 404 goes with the write that gives its key away, and is counted."""
    await kit.put(kit.entry(None), EMAIL)
    assert Evicted(entries=1) == await kit.store.evict([], [("email", "u42@x")])
    assert Absent() == await kit.store.get(EMAIL)


async def test_an_answer_about_an_opaque_token_needs_its_mark(kit: Kit) -> None:
    """Whoever ended the token knew no user whose floor to raise: the mark is what the late answer lacks."""
    ref = by("token", "a-hash", "told#a-hash")
    entry = kit.entry(keys={"token": "a-hash"})
    late = await kit.store.ticket(ref)
    await kit.store.evict([], [("token", "a-hash")])

    assert None is not await kit.store.fill(ref, entry, late)
    assert None is await kit.body(ref)
    await kit.put(entry, ref)
    assert b"{}" == await kit.body(ref)


async def test_a_user_fills_over_nobody(kit: Kit) -> None:
    """Once somebody has the key, the stored 404 is over."""
    await kit.put(kit.entry(None), EMAIL)
    await kit.put(kit.entry())
    assert b"{}" == await kit.body(EMAIL)


async def test_a_renamed_user_is_not_found_by_the_old_name(kit: Kit) -> None:
    """An alias that its object no longer carries is a miss, and is removed (trap 5)."""
    await kit.put(kit.entry())
    await kit.put(kit.entry(keys={"email": "new@x"}))
    assert await kit.store.get(EMAIL) in (Absent(Reason.ALIAS_UNPROVEN), Absent())
    assert None is await kit.store.resolve("email", "u42@x")
    assert b"{}" == await kit.body(by("email", "new@x"))


async def test_an_alias_moves_to_its_new_owner(kit: Kit) -> None:
    """Two users, one e-mail: the last one filled has it, and the other's eviction does not take it."""
    await kit.put(kit.entry("1", keys={"email": "a@x"}))
    await kit.put(kit.entry("2", b"two", keys={"email": "a@x"}))
    assert b"two" == await kit.body(by("email", "a@x"))
    await kit.store.evict(["1"])
    assert b"two" == await kit.body(by("email", "a@x"))


async def test_an_eviction_removes_all_slots_and_aliases_and_counts_them(kit: Kit) -> None:
    """Everything of a user goes at once, and nothing of others."""
    await kit.put(kit.entry())
    await kit.put(kit.entry(), by("id", "42", "profile"))
    await kit.put(kit.entry("7"))
    assert Evicted(entries=2, aliases=2) == await kit.store.evict(["42"])
    assert [None, None] == [await kit.body(ID), await kit.body(PHONE)]
    assert None is await kit.store.resolve("phone", "+42")
    assert b"{}" == await kit.body(by("email", "u7@x"))
    assert Evicted() == await kit.store.evict(["42"])


async def test_an_eviction_by_alias_takes_the_user(kit: Kit) -> None:
    """An alias that leads to a user evicts that user, and refuses the fills that are under way."""
    await kit.put(kit.entry())
    ticket = await kit.store.ticket(ID)
    assert Evicted(entries=1, aliases=2) == await kit.store.evict([], [("email", "u42@x")])
    assert Absent() == await kit.store.get(ID)
    assert Reason.STALE_FILL == await kit.store.fill(ID, kit.entry(), ticket)


@pytest.mark.parametrize("ref", [ID, EMAIL], ids=lambda ref: ref.key)
async def test_everything_goes(kit: Kit, ref: Ref) -> None:
    """Users, "nobody" and fills under way are all dropped; what comes later is stored."""
    await kit.put(kit.entry())
    await kit.put(kit.entry(None), by("email", "none@x"))
    late, nobody = await kit.store.ticket(ref), await kit.store.ticket(by("phone", "+0"))
    await kit.store.evict([], everything=True)
    assert [None, None] == [await kit.body(ref), await kit.body(by("email", "none@x"))]
    assert Reason.STALE_FILL == await kit.store.fill(ref, kit.entry(), late)
    assert Reason.STALE_FILL == await kit.store.fill(by("phone", "+0"), kit.entry(None), nobody)
    assert [None, None] == [await kit.body(ref), await kit.body(by("phone", "+0"))]
    await kit.put(kit.entry(body=b"new"), ref)
    await kit.put(kit.entry(None, b"no"), by("email", "none@x"))
    assert [b"new", b"no"] == [await kit.body(ref), await kit.body(by("email", "none@x"))]


@pytest.mark.parametrize(("after", "found"), [(59.999, True), (60, False), (60.001, False)])
@pytest.mark.parametrize("ref", [ID, EMAIL], ids=lambda ref: ref.key)
async def test_an_answer_is_dead_at_its_end(kit: Kit, ref: Ref, after: float, found: bool) -> None:
    """Until `dead` it may be used, from that instant on not, however often it was read."""
    kit.store = getattr(kit.store, "redis", kit.store)  # without the short life of copies in memory
    await kit.put(kit.entry(), ref)
    kit.clock.time += 59
    assert b"{}" == await kit.body(ref)
    kit.clock.time += after - 59
    assert (b"{}" if found else None) == await kit.body(ref)


@pytest.mark.parametrize(("after", "found"), [(59.999, True), (60, False)])
async def test_nobody_is_dead_at_its_end(kit: Kit, after: float, found: bool) -> None:
    """The same for a stored 404, which then makes room for the next one."""
    kit.store = getattr(kit.store, "redis", kit.store)
    await kit.put(kit.entry(None), EMAIL)
    kit.clock.time += after
    assert (Absent(Reason.EXPIRED) == await kit.store.get(EMAIL)) is not found
    if not found:
        await kit.put(kit.entry(None, b"again"), EMAIL)
        assert b"again" == await kit.body(EMAIL)


async def test_stale_answers_are_found_until_they_are_dead(kit: Kit) -> None:
    """Freshness is judged by the reader, so an answer past `expires` is found."""
    await kit.put(kit.entry(expires=kit.clock.time - 1))
    assert b"{}" == await kit.body(ID)


@pytest.mark.parametrize(
    ("ref", "user_id", "life", "reason"),
    [
        (ID, "42", 0, Reason.NO_TTL),
        (ID, "42", -1, Reason.NO_TTL),
        (EMAIL, None, 0, Reason.NO_TTL),
        (ID, "7", 60, Reason.OTHER_USER),
        (ID, None, 60, Reason.KEY_UNUSABLE),
        (EMAIL, "!42", 60, Reason.KEY_UNUSABLE),
        (EMAIL, "", 60, Reason.KEY_UNUSABLE),
        (EMAIL, "4" * 301, 60, Reason.KEY_UNUSABLE),
        (EMAIL, "\udc80", 60, Reason.KEY_UNUSABLE),
        (by("email", "x" * 301), None, 60, Reason.KEY_UNUSABLE),
        (by("id", "!w"), "!w", 60, Reason.KEY_UNUSABLE),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    kit: Kit, ref: Ref, user_id: str | None, life: float, reason: Reason
) -> None:
    """No time to live, another user, or an id that could be mistaken for a state of its alias."""
    ticket = await kit.store.ticket(ref)
    entry = kit.entry(user_id, dead=kit.clock.time + life)
    assert reason == await kit.store.fill(ref, entry, ticket)
    assert None is await kit.body(ref)


async def test_unusable_values_are_never_found(kit: Kit) -> None:
    """A value that no key can be made of is a miss, and evicting it is harmless."""
    for value in ("", "\udc80", "x" * 301):
        assert isinstance(await kit.store.get(by("email", value)), Absent)
        assert isinstance(await kit.store.get(by("id", value)), Absent)
        assert None is await kit.store.resolve("email", value)
        assert Evicted() == await kit.store.evict([value], [("email", value)])


async def test_an_alias_resolves_to_its_id(kit: Kit) -> None:
    """The id that an alias leads to; an id leads to itself; a mark and a "nobody" lead nowhere."""
    await kit.put(kit.entry())
    assert "42" == await kit.store.resolve("email", "u42@x")
    assert "9" == await kit.store.resolve("id", "9")
    assert None is await kit.store.resolve("email", "none@x")
    await kit.store.ticket(by("email", "none@x"))
    assert None is await kit.store.resolve("email", "none@x")
    await kit.put(kit.entry(None), by("email", "none@x"))
    assert None is await kit.store.resolve("email", "none@x")


async def test_a_user_keeps_a_bounded_number_of_token_slots(kit: Kit) -> None:
    """The 65th token's answer drops the 64 before it, and no shared view."""
    await kit.put(kit.entry(body=b"view"))
    for number in range(64):
        await kit.put(kit.entry(), by("id", "42", f"me#{number}"))
    await kit.put(kit.entry(body=b"again"), by("id", "42", "me#0"))
    assert b"{}" == await kit.body(by("id", "42", "me#63"))
    await kit.put(kit.entry(), by("id", "42", "me#64"))
    assert [None, b"{}", b"view"] == [
        await kit.body(by("id", "42", "me#63")),
        await kit.body(by("id", "42", "me#64")),
        await kit.body(ID),
    ]


async def test_any_bytes_come_back_as_they_were(kit: Kit) -> None:
    """Bodies and headers are bytes, values any text."""
    entry = kit.entry("ü:{1}", bytes(range(256)), headers=((b"X-\xff", b"\x80"),), keys={"email": "Ü\n@x"})
    await kit.put(entry)
    looked = await kit.store.get(by("email", "Ü\n@x"))
    assert isinstance(looked, Found)
    assert (entry.body, entry.headers) == (looked.entry.body, looked.entry.headers)


async def test_a_refused_fill_is_counted(kit: Kit) -> None:
    """`refused_fills` says how often a write won."""
    ticket = await kit.store.ticket(ID)
    await kit.store.evict(["42"])
    await kit.store.fill(ID, kit.entry(), ticket)
    stats = kit.store.stats
    assert 1 == getattr(stats, "redis", stats).refused_fills


async def test_health_says_what_answers(kit: Kit) -> None:
    """A store that works says so, with its latency in milliseconds."""
    health = await kit.store.health()
    assert ("ok", True) == (health["status"], health["latency_ms"] >= 0)
    assert ("memory" if kit.kind == "memory" else "redis") == health["backend"]


async def test_closing_twice_is_harmless(kit: Kit) -> None:
    """`close` is idempotent."""
    await kit.store.close()
    await kit.store.close()
