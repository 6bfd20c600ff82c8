"""UserCache by itself, for people who embed it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.cache import UserCache
from proxy.core.errors import SecretFieldError
from proxy.store.memory import MemoryStore

USER = {"id": 42, "email": "Ada@example.com", "username": "ada", "phone": "+4930123456"}


async def test_a_user_is_found_by_every_key() -> None:
    """Stored once, found four ways; the e-mail address without regard to ASCII case."""
    async with UserCache() as cache:
        assert await cache.cache_user(USER)

        assert USER == await cache.get_user_by_id("42") == await cache.get_user_by_id(42)
        assert USER == await cache.get_user_by_email("ada@EXAMPLE.com")
        assert USER == await cache.get_user_by_username("ada")
        assert USER == await cache.get_user_by_phone("+4930123456")
        assert await cache.get_user_by_username("Ada") is None


@pytest.mark.parametrize(
    "key", [{"user_id": 42}, {"email": "ada@example.com"}, {"username": "ada"}, {"phone": "+4930123456"}]
)
async def test_a_user_goes_with_all_keys(key: dict[str, Any]) -> None:
    """Named by any one of them; the count says what was removed."""
    async with UserCache() as cache:
        await cache.cache_user(USER)

        removed = await cache.invalidate_user(**key)

        assert (1, 3, True) == (removed.entries, removed.aliases, removed.delivered)
        assert await cache.get_user_by_id(42) is None
        assert await cache.get_user_by_email("ada@example.com") is None


async def test_an_old_ticket_brings_nothing_back() -> None:
    """What was read before an invalidation is not stored after it."""
    async with UserCache() as cache:
        ticket = await cache.ticket()
        await cache.invalidate_user(user_id=42)

        assert not await cache.cache_user(USER, ticket=ticket)
        assert await cache.get_user_by_id(42) is None


@pytest.mark.parametrize(
    ("user", "field"),
    [
        ({"id": 1, "hashed_password": "x"}, "hashed_password"),
        ({"id": 1, "a": [{"apiKey": "x"}]}, "a.[].apiKey"),
    ],
)
async def test_a_secret_is_never_stored(user: dict[str, Any], field: str) -> None:
    """The error names the field; the cache stays empty."""
    async with UserCache() as cache:
        with pytest.raises(SecretFieldError) as caught:
            await cache.cache_user(user)

        assert field == caught.value.field
        assert await cache.get_user_by_id(1) is None


@pytest.mark.parametrize("user", [{}, {"id": None}, {"id": True}, {"id": ""}, {"email": "a@b"}])
async def test_a_user_without_an_id_is_a_mistake(user: dict[str, Any]) -> None:
    """It is said so, and nothing is stored."""
    async with UserCache() as cache:
        with pytest.raises(ValueError, match="no usable id at 'id'"):
            await cache.cache_user(user)


async def test_time_ends_a_copy() -> None:
    """At `ttl` seconds it is over, and reading does not renew it."""
    now = 1000.0
    async with UserCache(MemoryStore(now=lambda: now), now=lambda: now) as cache:
        await cache.cache_user(USER, ttl=10)
        now = 1009.9
        assert USER == await cache.get_user_by_id(42)
        now = 1010.0
        assert await cache.get_user_by_id(42) is None


async def test_counts_and_health() -> None:
    """Rates are percent; an empty cache has none to tell."""
    async with UserCache() as cache:
        assert 0.0 == (await cache.get_stats())["hit_rate_percent"]
        await cache.cache_user(USER)
        await cache.get_user_by_id(42)
        await cache.get_user_by_id(42)
        await cache.get_user_by_id(43)
        await cache.invalidate_user(42)

        expected = {
            "hits": 2,
            "misses": 1,
            "invalidations": 1,
            "hit_rate_percent": 66.67,
            "total_lookups": 3,
        }
        assert expected == await cache.get_stats()
        health = await cache.health_check()
        assert ("ok", "memory", expected) == (health["status"], health["backend"], health["stats"])


async def test_a_key_is_needed_to_invalidate() -> None:
    """None at all, or one that can't be a key, is a mistake of the caller."""
    async with UserCache() as cache:
        with pytest.raises(ValueError, match="give at least one of"):
            await cache.invalidate_user()
        with pytest.raises(ValueError, match="can't be a user's email"):
            await cache.invalidate_user(email="")
