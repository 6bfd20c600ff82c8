"""The legacy service: its made-up users and the file they live in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from upstream_stub.database import Database, Taken
from upstream_stub.passwords import hash_password, verify_password
from upstream_stub.people import default_password, people, person


def test_the_same_seed_gives_the_same_people() -> None:
    """A user depends on the seed and the id, not on how many others there are."""
    few, many = list(people(7, 10)), list(people(7, 200))

    assert few == many[:10]
    assert person(7, 150) == many[149]
    assert few != list(people(8, 10))


def test_names_do_not_depend_on_the_seed() -> None:
    """Examples can name ada1 and her password whatever the seed."""
    for seed in (0, 7):
        ada, grace = people(seed, 2)

        assert (1, "ada1", "ada1@example.com", "admin") == (ada.id, ada.username, ada.email, ada.role)
        assert (2, "grace2", "user") == (grace.id, grace.username, grace.role)
        assert verify_password("password-2", grace.hashed_password)
        assert not verify_password("password-1", grace.hashed_password)


def test_people_are_as_documented() -> None:
    """Unique keys, E.164 numbers, one admin, and the documented ones inactive."""
    everybody = list(people(7, 1000))

    for field in ("id", "email", "username", "phone", "hashed_password"):
        assert 1000 == len({getattr(user, field) for user in everybody}), field
    assert all(re.fullmatch(r"\+4915\d{9}", user.phone or "") for user in everybody)
    assert [1] == [user.id for user in everybody if user.role == "admin"]
    assert sorted({13, *range(25, 1001, 25)}) == [user.id for user in everybody if not user.is_active]
    assert all(user.created_at <= user.updated_at for user in everybody)


def test_passwords_are_really_verified() -> None:
    """A hash knows its password and no other, and two hashes of one password differ."""
    first, second = hash_password("correct horse"), hash_password("correct horse")

    assert first != second
    assert verify_password("correct horse", first)
    assert not verify_password("correct horsf", first)
    assert not verify_password("", first)
    assert "password-5" == default_password(5)


def test_a_file_keeps_what_was_written(tmp_path: Path) -> None:
    """A restart fills nothing in again: changes, revocations and even a deleted table's emptiness stay."""
    path = str(tmp_path / "users.db")
    database = Database(path)
    database.fill(people(7, 2))
    first = database.user_by_id(1)
    assert first is not None
    database.update_users([first], {"bio": "changed"})
    database.delete_user(2)
    database.revoke("token", 1)
    database.close()

    again = Database(path)
    again.fill(people(7, 5))

    kept = again.user_by_id(1)
    assert kept is not None
    assert ("changed", 2, 1, True) == (kept.bio, kept.version, again.count_users(), again.is_revoked("token"))
    again.delete_user(1)
    again.fill(people(7, 5))
    assert 0 == again.count_users()
    again.close()


def test_an_update_of_many_is_all_or_nothing() -> None:
    """One user who cannot be changed, and none is."""
    database = Database(":memory:")
    database.fill(people(7, 3))
    users = database.users_by_ids([1, 2])

    with pytest.raises(Taken) as refused:
        database.update_users(users, {"phone": "+4915000000000"})

    assert "phone" == refused.value.field
    assert users == database.users_by_ids([1, 2])
    database.close()
