"""What RFC 9111 lets a shared cache do with a resource: may it be kept, and may it be served now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.cachecontrol import LARGEST, NO_DIRECTIVES, RequestDirectives
from proxy.core.freshness import HEURISTIC, Directives, guessed_lifetime, initial_age, stated_lifetime
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Entry, Reason
from proxy.core.policy import Expired, Fresh, Plan, Skip, plan, shareable
from proxy.core.representation import stored_headers
from proxy.core.settings import Resource
from proxy.core.targeted import directives as directives_of
from proxy.core.validation import freshened, has_validator
from proxy.core.variants import members, selecting

# RFC 9110 §15: the statuses that this program knows the meaning of (RFC 9111 §5.2.2.3).
_UNDERSTOOD = HEURISTIC | {
    201,
    202,
    205,
    302,
    303,
    307,
    400,
    401,
    402,
    403,
    406,
    409,
    411,
    412,
    413,
    415,
    416,
}
_UNDERSTOOD |= {417, 421, 422, 426, 428, 429, 431, 451, 500, 502, 503, 505}
# 206 and 304 are about other answers.
_NEVER = frozenset({206, 304})
# RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10, §5.2.2.4: nothing stale, not even while upstream is down.
_NEVER_STALE = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"})
# These never end, so nobody may wait for their end.
_ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer may be kept: fresh for `lifetime` seconds (none at all where it is not above 0).

    `age` is the whole seconds that it came with, `dead_after` ends any use; `omitted` are (lower-case) fields
    that are not kept, `names` what it varies on.
    """

    lifetime: float
    age: int
    dead_after: float
    omitted: frozenset[bytes]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """For how many seconds a stale answer may be served; `never` outweighs all."""

    stale_while_revalidate: float
    stale_if_error: float
    never: bool


def keep(
    rule: Resource,
    *,
    status: int,
    request: Headers,
    reply: Headers,
    authorized_by_rule: bool,
    asked: float,
    now: float,
    credential_headers: tuple[str, ...] = (),
) -> Kept | Skip:
    """Whether the answer to a GET may be kept (RFC 9111 §3). Its request asked for that already.

    `asked` and `now` are when it was sent and when the answer's head arrived.
    """
    directives, aimed = directives_of(reply, rule.targeted)
    refused = None if authorized_by_rule else shareable(request, directives, credential_headers)
    refusal = _refusal(status, reply, directives, refused)
    if refusal is not None:
        return Skip(refusal)
    names = selecting(reply)
    if names is None:
        return Skip(Reason.VARY)
    lifetime = stated_lifetime(directives, reply, now, expires=not aimed)
    if lifetime is None:
        if status not in HEURISTIC and "public" not in directives:
            return Skip(Reason.STATUS)
        lifetime = guessed_lifetime(reply, now, part=rule.heuristic, most=rule.heuristic_max)
    if "no-cache" in directives and not _listed(directives["no-cache"]):
        lifetime = 0.0
    age = initial_age(reply, asked, now)
    left = lifetime - age
    validator = has_validator(reply)
    if not left > 0 and not validator:
        return Skip(Reason.NO_TTL)
    windows = _windows(directives, rule)
    stale = 0.0 if windows.never else max(windows.stale_while_revalidate, windows.stale_if_error)
    dead_after = max(left + stale, max(left, 0.0) + (rule.keep if validator else 0.0))
    if not dead_after > 0:
        return Skip(Reason.NO_TTL)
    dead_after = min(dead_after, float(LARGEST))
    return Kept(left, int(age), dead_after, _omitted(directives), names)


def _refusal(status: int, reply: Headers, directives: Directives, refused: Reason | None) -> Reason | None:
    if status < 200 or status in _NEVER:
        return Reason.STATUS
    if "must-understand" in directives:
        # RFC 9111 §5.2.2.3: no-store beside it is for caches that do not know the status.
        if status not in _UNDERSTOOD:
            return Reason.STATUS
    elif "no-store" in directives:
        return Reason.NO_STORE
    if "private" in directives and not _listed(directives["private"]):
        return Reason.PRIVATE
    omitted = _omitted(directives)
    if any(name.encode() not in omitted and name in reply for name in ("set-cookie", "set-cookie2")):
        return Reason.SET_COOKIE
    if refused is not None:
        return refused
    if (reply.get("content-type") or "").strip(" \t").lower().startswith(_ENDLESS):
        return Reason.ENDLESS
    return None


def _listed(argument: str | None) -> frozenset[bytes]:
    """The fields that a qualified directive lists (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    return frozenset(name.encode("latin-1") for name in members(argument))


def _omitted(directives: Directives) -> frozenset[bytes]:
    return _listed(directives.get("no-cache")) | _listed(directives.get("private"))


def _windows(directives: Directives, rule: Resource) -> Windows:
    never = any(
        name in directives and not (name == "no-cache" and _listed(directives[name])) for name in _NEVER_STALE
    )
    return Windows(
        _seconds(directives, "stale-while-revalidate", rule.stale_while_revalidate),
        _seconds(directives, "stale-if-error", rule.stale_if_error),
        never,
    )


def _seconds(directives: Directives, name: str, default: float) -> float:
    if name not in directives:
        return default
    argument = directives[name] or ""
    # What can't be read allows nothing.
    return float(min(int(argument), LARGEST)) if argument.isdecimal() and len(argument) < 19 else 0.0


def entry_of(kept: Kept, unit: str, status: int, reply: Headers, body: bytes, now: float) -> Entry:
    """The answer as it is kept; `now` is when its head arrived."""
    lines = stored_headers(reply, changed=False, body=body)
    return Entry(
        user_id=unit,
        status=status,
        headers=tuple(line for line in lines if line[0].lower() not in kept.omitted),
        body=body,
        stored=now,
        expires=now + kept.lifetime,
        dead=now + kept.dead_after,
        age=kept.age,
    )


def index_of(unit: str, names: tuple[str, ...], entry: Entry) -> Entry:
    """What is kept at a URL whose answers vary: the names that select one. It lives as long as `entry`."""
    return Entry(
        user_id=unit,
        status=0,
        headers=((b"Vary", ", ".join(names).encode("latin-1")),),
        stored=entry.stored,
        expires=entry.dead,
        dead=entry.dead,
    )


def names_of(entry: Entry) -> tuple[str, ...] | None:
    """The names of an index; None for an answer."""
    return tuple(entry.headers[0][1].decode("latin-1").split(", ")) if entry.status == 0 else None


def updated(entry: Entry, update: RawHeaders) -> RawHeaders:
    """The stored lines after a 304, or a HEAD that is about them, said `update`."""
    return freshened(entry.headers, update)


def windows_of(entry: Entry, rule: Resource) -> Windows:
    """What the stored lines, or else the rule, say of serving it stale."""
    return _windows(directives_of(Headers(entry.headers), rule.targeted)[0], rule)


def decide(entry: Entry, rule: Resource, directives: RequestDirectives, now: float) -> Plan:
    """Whether to serve this stored answer now (RFC 9111 §4). The first lines decide nearly every hit."""
    stored, expires = entry.stored, entry.expires
    if directives is NO_DIRECTIVES and stored <= now < expires <= stored + LARGEST:
        return Fresh(entry.age + int(now - stored), int(expires - now))
    windows = windows_of(entry, rule)
    found = plan(entry, windows, directives, now)
    if windows.never and not isinstance(found, Fresh):
        return (
            found
            if isinstance(found, Expired) and not found.stale_if_error
            else Expired(Reason.EXPIRED, stale_if_error=False)
        )
    return found
