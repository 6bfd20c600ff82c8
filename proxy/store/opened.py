"""The store that the settings ask for."""

from __future__ import annotations

from proxy.core.ports import Store
from proxy.core.settings import RedisSettings
from proxy.store.memory import MemoryStore


def open_store(redis: RedisSettings, max_users: int) -> Store:
    """Memory for `max_users` users, in front of Redis where there is a URL. Connects when first used."""
    memory = MemoryStore(max_users)
    if redis.url is None:
        return memory
    # Imported here: redis-py costs a memory-only sidecar megabytes and start-up time for nothing.
    from proxy.store.redis import RedisStore
    from proxy.store.tiered import TieredStore

    return TieredStore(
        memory, RedisStore(redis.url, pool_size=redis.pool_size, pool_timeout=redis.pool_timeout)
    )
