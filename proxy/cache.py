"""The user cache: look up, fill once, evict over all keys of a user. Usable by itself from Python."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Self

import orjson

from proxy.core.errors import SecretFieldError
from proxy.core.keeping import rules
from proxy.core.keys import identify, key_values
from proxy.core.model import Batch, Entry, Evicted, Fence, Found, Looked, Reason, Ref, Ticket
from proxy.core.offers import HeldEntry
from proxy.core.ports import Store
from proxy.core.redaction import Redactor
from proxy.core.settings import RedisSettings, UserKey, UserModel, View
from proxy.leases import Leases
from proxy.store.opened import MOST, Join, open_store

log = logging.getLogger("proxy.cache")

DEFAULT_MODEL = UserModel(
    keys=(
        UserKey(name="email", path=("email",), ignore_case=True),
        UserKey(name="username", path=("username",)),
        UserKey(name="phone", path=("phone",)),
    ),
    active=("is_active",),
)


def open_users(redis: RedisSettings, max_users: int, resource_bytes: int = MOST, **more: Any) -> Store:
    """The store that the settings ask for, joined to the feed of its replicas; `more`: see open_store."""

    def feed() -> Join:
        from proxy.feed import join

        return join

    return open_store(redis, max_users, feed, resource_bytes=resource_bytes, **more)


class UserCache:
    """Answers by user, over any Store.

    `source`: a Store, a Redis URL (Redis behind this process's memory), or None for memory only. By itself:

        async with UserCache("redis://127.0.0.1:6379") as cache:
            ticket = await cache.ticket()
            user = await load_from_database(42)
            await cache.cache_user(user, ttl=300, ticket=ticket)
            await cache.get_user_by_email("ada@example.com")
    """

    def __init__(
        self,
        source: Store | str | None = None,
        *,
        model: UserModel = DEFAULT_MODEL,
        view: str = "users",
        max_users: int = 10_000,
        wait_timeout: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        if source is None or isinstance(source, str):
            keeping = rules(model, {view: View(name=view, ttl=0.0)}, sealed=False)
            source = open_users(RedisSettings(url=source), max_users, keeping=keeping)
        self.store: Store = source
        self._model = model
        self._view = view
        self._redactor = Redactor(model.secrets)
        self._now = now
        self.leases = Leases(self.store, wait_timeout=wait_timeout, now=now)
        self._background: set[asyncio.Task[None]] = set()
        self._hits = self._misses = self._invalidations = 0

    # -- what the proxy's walk uses ------------------------------------------------------------------

    async def get(self, ref: Ref) -> Looked:
        """The stored answer, proven to be that user's; it may be stale."""
        return await self.store.get(ref)

    def hold(self, ref: Ref) -> HeldEntry | None:
        """What `get` would find in memory now, to be asked later whether it still would."""
        return self.store.hold(ref)

    async def get_many(self, refs: Iterable[Ref]) -> list[Looked]:
        """The same for several, in their order, asked for at once."""
        return await asyncio.gather(*(self.store.get(ref) for ref in refs))

    async def ticket(self, ref: Ref | None = None) -> Ticket:
        """Take it before you read a user from the source of truth, give it to the fill (design §7.1)."""
        return await self.store.ticket(ref)

    async def fill(self, ref: Ref, entry: Entry, ticket: Ticket) -> Reason | None:
        """Stores `entry` unless the user was written since the ticket; the reason if it was not stored."""
        return await self.leases.put(ref, entry, ticket)

    async def resolve(self, key: str, value: str) -> str | None:
        """The id that an alias leads to, unproven; None where nobody knows."""
        return await self.store.resolve(key, value)

    async def evict(
        self,
        user_ids: Iterable[str] = (),
        aliases: Iterable[tuple[str, str]] = (),
        *,
        everything: bool = False,
    ) -> Evicted:
        """Removes users with all their keys, and whatever says that nobody has these aliases."""
        return await self.store.evict(user_ids, aliases, everything=everything)

    async def fence(self, batch: Batch) -> Fence:
        """Before a write: what `batch` names is neither answered nor stored until `settle`.

        Raises StoreError where the settings refuse writes that Redis can't be told of.
        """
        return await self.store.fence(batch)

    async def settle(self, fence: Fence, batch: Batch | None, *, linger: float = 0.0) -> Evicted:
        """After a write: evicts `batch` (None: nothing was changed) and takes the fence down.

        It stands for `linger` more seconds where upstream may still be at work, and evicts once more.
        """
        return await self.store.settle(fence, batch, linger=linger)

    async def token_state(
        self, user_id: str, token: str, until: float, issued: float | None = None
    ) -> Reason | None:
        """None where nobody has revoked the token of that hash; see Store."""
        return await self.store.token_state(user_id, token, until, issued)

    async def revoke(self, user_id: str, token: str, until: float, name: str = "") -> None:
        """The token of that hash is good no more, until it would have ended; see Store."""
        await self.store.revoke(user_id, token, until, name)

    async def restore(self, token: str, name: str) -> None:
        """The logout `name` changed nothing; see Store."""
        await self.store.restore(token, name)

    async def revoke_user(
        self, user_id: str, before: float, until: float, name: str = "", *, sure: bool = True
    ) -> None:
        """The user's tokens of up to `before` are not good by themselves; an eviction follows. See Store."""
        await self.store.revoke_user(user_id, before, until, name, sure=sure)

    async def restore_user(self, user_id: str, name: str) -> None:
        """The write `name` changed nothing; see Store."""
        await self.store.restore_user(user_id, name)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` behind an answer already given; its failure is logged by type and goes no further."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("background refresh failed", extra={"error": type(error).__name__})

    def warm_up(self) -> None:
        """Connects and joins the feed behind whatever comes next, so that the first request need not."""

        async def join() -> None:
            await self.ticket()

        self.in_background(join())

    # -- for people who embed it ---------------------------------------------------------------------

    async def get_user_by_id(self, user_id: int | str) -> dict[str, Any] | None:
        """The cached user as a dict, or None."""
        return await self._get_user("id", str(user_id))

    async def get_user_by_email(self, email: str) -> dict[str, Any] | None:
        """The cached user with that e-mail address, ASCII case ignored, or None."""
        return await self._get_user("email", email)

    async def get_user_by_username(self, username: str) -> dict[str, Any] | None:
        """The cached user with that username, or None."""
        return await self._get_user("username", username)

    async def get_user_by_phone(self, phone: str) -> dict[str, Any] | None:
        """The cached user with that phone number, or None."""
        return await self._get_user("phone", phone)

    async def cache_user(
        self, user: Mapping[str, Any], ttl: float = 300, *, ticket: Ticket | None = None
    ) -> bool:
        """Stores a user for `ttl` seconds under its id and aliases; False where it was refused.

        Give the `ticket` that was taken before the user was read, or a write in between may be undone.
        Raises SecretFieldError for a user that holds a secret-looking field, ValueError for one without id.
        """
        document = dict(user)
        if (secret := self._redactor.find(document)) is not None:
            raise SecretFieldError(secret)
        identified = identify(self._model, document)
        if identified is None:
            raise ValueError(f"the user has no usable id at {'.'.join(self._model.id)!r}")
        now = self._now()
        entry = Entry(
            user_id=identified.user_id,
            keys=identified.keys,
            active=identified.active,
            status=200,
            headers=((b"Content-Type", b"application/json"),),
            body=orjson.dumps(document),
            stored=now,
            expires=now + ttl,
            dead=now + ttl,
        )
        ref = Ref("id", identified.user_id, self._view)
        return await self.fill(ref, entry, ticket or await self.ticket(ref)) is None

    async def invalidate_user(
        self,
        user_id: int | str | None = None,
        email: str | None = None,
        username: str | None = None,
        phone: str | None = None,
    ) -> Evicted:
        """Removes a user named by any of its keys, with all its aliases; says what was removed.

        Raises ValueError where no key is given, or one that can't be a key.
        """
        aliases = []
        for name, value in (("email", email), ("username", username), ("phone", phone)):
            if value is not None:
                aliases += [(name, kept) for kept in self._kept(name, value)]
        ids = [] if user_id is None else self._kept("id", str(user_id))
        if not ids and not aliases:
            raise ValueError("give at least one of user_id, email, username, phone")
        evicted = await self.evict(ids, aliases)
        self._invalidations += 1
        return evicted

    async def get_stats(self) -> dict[str, Any]:
        """What this object's own methods did; `/stats` has what the proxy did."""
        total = self._hits + self._misses
        return {
            "hits": self._hits,
            "misses": self._misses,
            "invalidations": self._invalidations,
            "hit_rate_percent": round(100 * self._hits / total, 2) if total else 0.0,
            "total_lookups": total,
        }

    async def health_check(self) -> dict[str, Any]:
        """`{"status", "backend", "latency_ms", "stats"}`; never raises."""
        health = dict(await self.store.health())
        return {**health, "stats": await self.get_stats()}

    def retire(self) -> None:
        """Stores nothing from now on: what is asked for was found under settings that hold no more."""
        self.leases.retired = True

    async def rest(self) -> None:
        """Ends background work; the store stays open."""
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def close(self) -> None:
        """Ends background work and gives back connections."""
        await self.rest()
        await self.store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _get_user(self, key: str, value: str) -> dict[str, Any] | None:
        try:
            looked = await self.get(Ref(key, self._kept(key, value)[0], self._view))
        except ValueError:
            looked = None
        if isinstance(looked, Found) and looked.entry.expires > self._now() and looked.entry.status == 200:
            self._hits += 1
            user: dict[str, Any] = orjson.loads(looked.entry.body)
            return user
        self._misses += 1
        return None

    def _kept(self, key: str, value: str) -> tuple[str, ...]:
        kept = key_values(self._model, key, value)
        if not kept:
            raise ValueError(
                f"that can't be a user's {key}: empty, longer than 256 characters, or unprintable"
            )
        return kept
