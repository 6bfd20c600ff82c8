"""The values that travel down the walk: Request, Entry, Ticket, Reply, Outcome, and their reasons."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any

import msgspec

from proxy.core.headers import Headers, RawHeaders
from proxy.core.words import Tier as Tier
from proxy.core.words import XCache as XCache

ENTRY_VERSION = 2


class Reason(StrEnum):
    """Why a request was not a hit, or why an answer was not stored. One spelling everywhere."""

    # not looked up
    NO_ROUTE = "no-route"
    PASS_ROUTE = "pass-route"
    MODE_OFF = "mode-off"
    SHADOW = "shadow"
    HOLDBACK = "holdback"
    WRITE = "write"
    MAX_FORWARDS = "max-forwards"
    REQUEST_BODY = "request-body"
    REQUEST_FORM = "request-form"
    REQUEST_ACCEPT = "request-accept"
    OVERRIDE_HEADER = "override-header"
    REQUEST_UPGRADE = "request-upgrade"
    REQUEST_METHOD = "request-method"
    REQUEST_NO_STORE = "request-no-store"
    REQUEST_PRECONDITION = "request-precondition"
    KEY_UNUSABLE = "key-unusable"
    CREDENTIALS = "credentials"
    TOKEN_MISSING = "token-missing"
    TOKEN_MALFORMED = "token-malformed"
    TOKEN_SIGNATURE = "token-signature"
    TOKEN_ALGORITHM = "token-algorithm"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_NOT_YET = "token-not-yet-valid"
    TOKEN_ISSUER = "token-issuer"
    TOKEN_AUDIENCE = "token-audience"
    TOKEN_SUBJECT = "token-subject"
    TOKEN_HEADER = "token-header"
    TOKEN_REVOKED = "token-revoked"
    TOKEN_INACTIVE = "token-inactive"
    TOKEN_OUTDATED = "token-outdated"
    CALLER_MISSING = "caller-missing"
    CALLER_UNKNOWN = "caller-unknown"
    TOKEN_SCOPE = "token-scope"
    TOKEN_CLAIM = "token-claim"
    TOKEN_KEYS_MISSING = "token-keys-missing"
    TOKEN_USER_UNKNOWN = "token-user-unknown"
    USER_INACTIVE = "user-inactive"
    USER_GONE = "user-gone"
    NOT_OWNER = "not-owner"
    CALLER_COPY = "caller-copy"
    BATCH_ORDER = "batch-order"
    BATCH_DUPLICATES = "batch-duplicates"
    # looked up, not used
    ABSENT = "absent"
    EXPIRED = "expired"
    REQUEST_NO_CACHE = "request-no-cache"
    REQUEST_MAX_AGE = "request-max-age"
    REQUEST_MIN_FRESH = "request-min-fresh"
    FENCED = "fenced"
    VARY_MISS = "vary-miss"
    ALIAS_UNPROVEN = "alias-unproven"
    CORRUPT = "corrupt"
    STORE_DOWN = "store-down"
    PARTIAL = "partial"
    TOO_MANY_MISSES = "too-many-misses"
    ONLY_IF_CACHED = "only-if-cached"
    # upstream answered, not stored
    STATUS = "status"
    NO_STORE = "no-store"
    PRIVATE = "private"
    SET_COOKIE = "set-cookie"
    VARY = "vary"
    AUTHORIZATION = "authorization"
    ENCODED = "content-encoding"
    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    NOT_A_USER = "not-a-user"
    OTHER_USER = "other-user"
    FIELD_NOT_LISTED = "field-not-listed"
    SECRET_FOUND = "secret-found"
    NO_TTL = "no-ttl"
    HOST_REFLECTED = "host-reflected"
    ENDLESS = "endless"
    CREDENTIALS_REFLECTED = "credentials-reflected"
    STALE_FILL = "stale-fill"
    UPSTREAM_FAILED = "upstream-failed"


class Request(msgspec.Struct, frozen=True):
    """As it came, nothing unquoted or reordered; `target` is path and query. `trusted`: so are its claims.

    `interim` is told of upstream's answers before the answer (1xx), where the client understands them.
    """

    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes] | None = None
    peer: str | None = None
    scheme: str = "http"
    http_version: str = "1.1"
    trusted: bool = True
    interim: Callable[[int, RawHeaders], None] | None = None


class Reply(msgspec.Struct, frozen=True):
    """An answer on its way to the client.

    `body` is bytes (complete), or an iterator (streamed on as it comes). `headers` are end-to-end lines
    only; for a streamed body a Content-Length among them says its length, without one it is chunked.
    `version` is that of the HTTP in which it came.
    """

    status: int
    reason: bytes
    headers: RawHeaders
    body: bytes | AsyncIterator[bytes] = b""
    offer: Any = None
    """A core.offers.Offer where the same request may be answered from memory without another walk."""
    version: str = "1.1"


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A stored answer: upstream's status, end-to-end headers and body, and what proves whose it is.

    Times are wall-clock seconds. `keys` maps alias names to the (normalised) values this copy proves;
    `age` is the Age that upstream's answer carried already. `user_id` is None for an alias that
    belongs to nobody (a stored 404). `expires` ends freshness, `dead` ends any use (stale windows over).
    """

    version: int = ENTRY_VERSION
    epoch: str = ""
    user_id: str | None
    keys: dict[str, str] = {}
    active: bool | None = None
    status: int
    headers: RawHeaders = ()
    body: bytes = b""
    stored: float
    expires: float
    dead: float
    age: int = 0


ENTRY_ENCODER = msgspec.msgpack.Encoder()


class Ref(msgspec.Struct, frozen=True, gc=False):
    """Names one stored answer: the user (`key` is "id" or an alias name, `value` normalised) and the slot.

    A slot is a view's name, or `{view}#{token hash}` for what is stored per token.
    """

    key: str
    value: str
    slot: str

    def __repr__(self) -> str:
        # The value may be an e-mail address or a phone number.
        return f"Ref({self.key}, slot={self.slot.split('#')[0]})"


class Ticket(msgspec.Struct, frozen=True):
    """Taken before upstream is asked. A fill below the user's floor, or of another epoch, is refused.

    `seq` and `epoch` are the shared store's; `local` is this process's memory's. A part that could not be
    had is None, and that tier then refuses the fill. `mark` is what was left at an alias key: "nobody has
    this key" is stored only while the mark is still there, so a write that gives the key away refuses it.
    `lease` is the right to fill the key, if it was asked for; `busy` are the seconds that another replica has
    it. `evicted` is how many keys Redis had thrown out for want of memory.
    """

    seq: int | None = None
    epoch: str | None = None
    mark: str | None = None
    local: LocalTicket | None = None
    lease: str | None = None
    busy: float = 0.0
    evicted: str = ""


class LocalTicket(msgspec.Struct, frozen=True):
    """The same for the memory of this process."""

    seq: int
    mark: int | None = None


class Found(msgspec.Struct, frozen=True):
    """A stored answer and the tier it came from. It may be stale: see `Entry.expires`."""

    entry: Entry
    tier: Tier


class Absent(msgspec.Struct, frozen=True):
    """Nothing usable is stored, and why."""

    reason: Reason = Reason.ABSENT


Looked = Found | Absent


class Batch(msgspec.Struct, frozen=True):
    """Users (by id) and aliases (name, value) that are fenced or evicted together, or everything.

    `unnamed`, of a write under way: and users whom nobody can name before its answer.
    """

    users: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    everything: bool = False
    unnamed: bool = False

    @property
    def named(self) -> bool:
        """Whether it names anybody."""
        return bool(self.users or self.aliases or self.everything)


class Fence(msgspec.Struct, frozen=True):
    """A fence by its name, which no other writer has, and what it stands around."""

    name: str
    batch: Batch


class Evicted(msgspec.Struct, frozen=True):
    """What an eviction removed: entries (slots) and aliases.

    `delivered` is False where Redis could not be told yet and will be, before it is trusted again.
    """

    entries: int = 0
    aliases: int = 0
    delivered: bool = True

    def __add__(self, other: Evicted) -> Evicted:
        return Evicted(
            self.entries + other.entries, self.aliases + other.aliases, self.delivered and other.delivered
        )


class Outcome(msgspec.Struct):
    """What became of one request; observers get it once, at the end. Nothing personal but `evicted_ids`.

    `stored` is None where nothing was to be stored; `ttl` is seconds; `taken` names the secret-looking
    fields that were taken out; `everything` says that the eviction dropped all users; `refused` that the
    answer was given here, without asking upstream. `seconds` is how long the walk took, up to the head of the
    answer, and `upstream_seconds` the part of it spent waiting for upstream. `request_id` and `trace_id` are
    what the client called the request, empty where it did not, or not in a form that can be logged.
    `fence_seconds` is what a write waited until no replica could answer from memory, and `evicted_ids` are
    the users that an eviction named, a few of them.
    """

    route: str = ""
    kind: str = "pass"
    method: str = ""
    view: str | None = None
    x_cache: XCache = XCache.BYPASS
    reason: Reason | None = None
    tier: Tier | None = None
    status: int = 0
    stored: bool | None = None
    skipped: Reason | None = None
    collapsed: bool = False
    refused: bool = False
    upstream_status: int | None = None
    upstream_failed: bool = False
    evicted: Evicted | None = None
    everything: bool = False
    taken: tuple[str, ...] = ()
    ttl: int | None = None
    seconds: float = 0.0
    upstream_seconds: float | None = None
    request_id: str = ""
    trace_id: str = ""
    upstream_error: str = ""
    fence_seconds: float | None = None
    evicted_ids: tuple[str, ...] = ()
