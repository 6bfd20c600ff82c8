"""What RFC 9111 lets a shared cache do: may this be stored, may that be served, and how to say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from proxy.core.cachecontrol import (
    LARGEST,
    NO_DIRECTIVES,
    RequestDirectives,
    parse,
    request_directives,
)
from proxy.core.freshness import initial_age, stated_lifetime
from proxy.core.headers import Headers
from proxy.core.model import Entry, Reason
from proxy.core.representation import cache_status, etag_for, reflects_host, stored_headers
from proxy.core.settings import View
from proxy.core.validation import not_modified
from proxy.core.variants import members

__all__ = [
    "CLOCK_STEP",
    "Expired",
    "Fresh",
    "Plan",
    "Skip",
    "Stale",
    "Storable",
    "age_header",
    "cache_status",
    "etag_for",
    "not_modified",
    "plan",
    "reflects_host",
    "shareable",
    "storable",
    "stored_headers",
]

CLOCK_STEP = 5.0  # seconds that clocks of replicas may differ, or one may be set back, unnoticed


class Storable(msgspec.Struct, frozen=True):
    """The answer may be kept: fresh for `lifetime` seconds from now, of any use for `dead_after`.

    `age` is the whole seconds of Age that it came with.
    """

    lifetime: float
    age: int
    dead_after: float


class Skip(msgspec.Struct, frozen=True):
    """The answer is passed on and not kept, and why."""

    reason: Reason


class _Exchange(msgspec.Struct, frozen=True):
    request: Headers
    reply: Headers
    directives: dict[str, str | None]
    authorized_by_rule: bool
    overrides: bool
    private: bool = False
    credential_headers: tuple[str, ...] = ()

    def varies(self) -> bool:
        neutral = _NEUTRAL
        if self.authorized_by_rule:
            neutral = neutral | _NEUTRAL_BY_RULE | frozenset(self.credential_headers)
        return not neutral.issuperset(members(self.reply.joined("vary")))

    def guards(self, reason: Reason) -> bool:
        why = shareable(self.request, self.directives, self.credential_headers)
        return not self.authorized_by_rule and why is reason


_SHARED_DESPITE_AUTHORIZATION = frozenset({"public", "s-maxage", "must-revalidate"})  # RFC 9111 §3.5
# must-revalidate says nothing of cookies, and frameworks add it to personal pages.
_SHARED_DESPITE_COOKIE = frozenset({"public", "s-maxage"})

# Request fields that an answer may vary on and still serve everybody. Of all others the client's own are
# forwarded (Accept, Origin, ...), so their answer is one of several and is not kept (RFC 9111 §4.1).
_NEUTRAL = frozenset({"accept-encoding"})  # a fill always asks for `identity`
_NEUTRAL_BY_RULE = frozenset({"authorization", "cookie"})  # `access` says the callers it admits share a copy

_REFUSALS: tuple[tuple[Reason, Callable[[_Exchange], bool]], ...] = (
    (Reason.REQUEST_NO_STORE, lambda it: request_directives(it.request).no_store),  # §5.2.1.5
    (Reason.NO_STORE, lambda it: "no-store" in it.directives),  # §5.2.2.5, also beside must-understand
    (
        Reason.PRIVATE,
        lambda it: "private" in it.directives and not it.private,
    ),  # §5.2.2.7, with field names as well
    (Reason.SET_COOKIE, lambda it: "set-cookie" in it.reply or "set-cookie2" in it.reply),  # §7.3
    (Reason.VARY, _Exchange.varies),  # §4.1
    (Reason.ENCODED, lambda it: bool(members(it.reply.joined("content-encoding")) - {"identity"})),
    (Reason.AUTHORIZATION, lambda it: it.guards(Reason.AUTHORIZATION)),  # §3.5
    (Reason.CREDENTIALS, lambda it: it.guards(Reason.CREDENTIALS)),
    (
        Reason.NO_TTL,
        lambda it: "no-cache" in it.directives and not it.overrides,
    ),  # §5.2.2.4: each use would need upstream
)


def shareable(
    request: Headers, directives: Mapping[str, str | None], credential_headers: tuple[str, ...] = ()
) -> Reason | None:
    """Why the answer with these directives is not for everybody although the request has credentials.

    None: it has none, or the answer allows it (RFC 9111 §3.5).
    """
    if "authorization" in request and _SHARED_DESPITE_AUTHORIZATION.isdisjoint(directives):
        return Reason.AUTHORIZATION
    if any(name in request for name in ("cookie", *credential_headers)) and _SHARED_DESPITE_COOKIE.isdisjoint(
        directives
    ):
        return Reason.CREDENTIALS
    return None


def storable(
    *,
    view: View,
    status: int,
    request_headers: Headers,
    reply_headers: Headers,
    authorized_by_rule: bool,
    now: float,
    asked: float | None = None,
    token_exp: float | None = None,
    negative_allowed: bool,
    private: bool = False,
    credential_headers: tuple[str, ...] = (),
) -> Storable | Skip:
    """Whether and for how long an answer may be kept (RFC 9111 §3, §4.2, narrowed by design §7.8).

    `authorized_by_rule`: the route's `access` says who may share the copy. `token_exp` bounds everything
    that was answered to one token. `private`: the copy is this caller's alone, who is known by Authorization,
    Cookie and `credential_headers`. `asked` and `now` are when the request was sent and its answer came,
    in wall-clock seconds.
    """
    if status != 200 and not (status == 404 and negative_allowed):
        return Skip(Reason.STATUS)
    directives = parse(reply_headers.joined("cache-control"))
    exchange = _Exchange(
        *(request_headers, reply_headers, directives, authorized_by_rule, view.overrides),
        *(private, credential_headers),
    )
    for reason, refuses in _REFUSALS:
        if refuses(exchange):
            return Skip(reason)
    age = int(initial_age(reply_headers, now if asked is None else asked, now))
    lifetime = view.ttl if status == 200 else view.negative_ttl
    stated = None if view.overrides else stated_lifetime(directives, reply_headers, now)
    if stated is not None:
        lifetime = min(lifetime, stated - age)
    limit = float("inf") if token_exp is None else token_exp - now
    lifetime = min(lifetime, limit)
    # Asked this way round so that a lifetime that is no number is none.
    if not lifetime > 0:
        return Skip(Reason.NO_TTL)
    dead_after = lifetime
    if status == 200 and _NEVER_STALE.isdisjoint(directives):
        dead_after = min(lifetime + max(view.stale_while_revalidate, view.stale_if_error), limit)
    return Storable(lifetime, age, dead_after)


# RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10: no stale answer, not even while upstream is down.
_NEVER_STALE = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})


class Fresh(msgspec.Struct, frozen=True):
    """Serve it: a hit. Whole seconds."""

    age: int
    ttl: int


class Stale(msgspec.Struct, frozen=True):
    """Serve it although it is stale; `revalidate`: and fetch a new one meanwhile (RFC 5861 §3)."""

    age: int
    revalidate: bool


class Expired(msgspec.Struct, frozen=True):
    """Ask upstream. `stale_if_error`: if that fails, this entry may be served (RFC 5861 §4)."""

    reason: Reason
    stale_if_error: bool


Plan = Fresh | Stale | Expired


class Windows(Protocol):
    """For how many seconds a stale answer may be served; a View says so, or an answer itself."""

    @property
    def stale_while_revalidate(self) -> float: ...
    @property
    def stale_if_error(self) -> float: ...


def plan(entry: Entry, windows: Windows, directives: RequestDirectives, now: float) -> Plan:
    """What to do with a stored answer for this request at `now` (RFC 9111 §4.2, §5.2.1).

    An entry from more than `CLOCK_STEP` in the future, or with times that cannot be, counts as expired:
    after a clock was set back it would live for ever.
    """
    stored, expires = entry.stored, entry.expires
    if directives is NO_DIRECTIVES and stored <= now < expires <= stored + LARGEST:
        return Fresh(entry.age + int(now - stored), int(expires - now))
    if not (stored <= now + CLOCK_STEP and expires <= stored + LARGEST):
        return Expired(Reason.EXPIRED, stale_if_error=False)
    since = max(now, stored)
    age, left = entry.age + since - stored, expires - since
    if directives.no_cache:
        return Expired(Reason.REQUEST_NO_CACHE, stale_if_error=False)
    if directives.max_age is not None and age > directives.max_age:
        return Expired(Reason.REQUEST_MAX_AGE, stale_if_error=False)
    if left > 0:
        if directives.min_fresh is not None and left < directives.min_fresh:
            return Expired(Reason.REQUEST_MIN_FRESH, stale_if_error=False)
        return Fresh(int(age), int(left))
    if not (since < entry.dead and _accepts_stale(directives, -left)):
        return Expired(Reason.EXPIRED, stale_if_error=False)
    revalidate = -left < windows.stale_while_revalidate
    if revalidate or directives.max_stale is not None:
        return Stale(int(age), revalidate)
    return Expired(Reason.EXPIRED, stale_if_error=-left < windows.stale_if_error)


def _accepts_stale(directives: RequestDirectives, staleness: float) -> bool:
    """RFC 9111 §5.2.1.1-3: max-age and min-fresh refuse stale answers unless max-stale says how stale."""
    if directives.max_stale is not None:
        return directives.min_fresh is None and staleness <= directives.max_stale
    return directives.max_age is None and directives.min_fresh is None


def age_header(entry: Entry, now: float) -> int:
    """The `Age` of an answer served from `entry` at `now`, whole seconds, never negative (RFC 9111 §5.1)."""
    return entry.age + int(max(now - entry.stored, 0))
