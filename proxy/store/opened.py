"""The store that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.core.keeping import ANYHOW, Keeping
from proxy.core.ports import Membership, Store
from proxy.core.settings import RedisSettings
from proxy.store import codec
from proxy.store.memory import MemoryStore

if TYPE_CHECKING:
    from proxy.store.link import Link

Join = Callable[["Link", MemoryStore, Callable[[str, str, bool], None]], Membership]


# What one process holds of resources where nothing else is said.
MOST = 64 * 1024 * 1024


def open_store(
    redis: RedisSettings,
    max_users: int,
    join: Callable[[], Join],
    *,
    resource_bytes: int = MOST,
    keeping: Keeping = ANYHOW,
    patience: float = 0.0,
) -> Store:
    """Memory for `max_users` users and `resource_bytes` of resources, in front of Redis where there is one.

    `patience`: see TieredStore. `join` is asked for the feed's end only where there is Redis.
    """
    memory = MemoryStore(max_users, max_resource_bytes=resource_bytes)
    if redis.url is None:
        return memory
    # Imported here: redis-py costs a memory-only sidecar megabytes and start-up time for nothing.
    from proxy.store.redis import RedisStore
    from proxy.store.tiered import TieredStore
    from proxy.store.wakes import Wakes

    shared = RedisStore(
        redis.url,
        pool_size=redis.pool_size,
        pool_timeout=redis.pool_timeout,
        seal=_seal(redis.seal_keys),
        keeping=keeping,
    )
    wakes = Wakes()
    feed = join()(shared.link, memory, wakes.wake)
    return TieredStore(memory, shared, feed=feed, wakes=wakes, reject=redis.reject_writes, patience=patience)


def _seal(keys: tuple[bytes, ...]) -> codec.Seal:
    if not keys:
        return codec.PLAIN
    # Imported here: who seals nothing need not wait for cryptography.
    from proxy.store.sealing import Sealer

    return Sealer(keys)
