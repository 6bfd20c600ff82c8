"""The settings as frozen values: what `routes.yaml`, the environment and the flags amount to.

Durations are seconds (float), sizes are bytes (int).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from proxy.core.claimrules import Access as Access
from proxy.core.claimrules import ClaimRule, Require
from proxy.core.discreet import Discreet as Discreet
from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.observing import Observing
from proxy.core.resourcesettings import Resource as Resource
from proxy.core.revoking import Revoke as Revoke
from proxy.core.revoking import RevokingSettings
from proxy.core.rolloutsettings import Mode, TruthSettings
from proxy.core.tokenplace import TokenPlace
from proxy.core.upstreamsettings import HostLine as HostLine
from proxy.core.upstreamsettings import UpstreamSettings as UpstreamSettings


class SecretsRule(StrEnum):
    """STRIP takes secret-looking fields out; BYPASS passes such an answer on and stores nothing."""

    STRIP = "strip"
    BYPASS = "bypass"


class Answer(StrEnum):
    """Where an introspection's answer comes from."""

    VIEW = "view"
    UPSTREAM = "upstream"
    RFC7662 = "rfc7662"


class UserKey(msgspec.Struct, frozen=True, kw_only=True):
    """A unique key of a user besides the id."""

    name: str
    path: tuple[str, ...]
    ignore_case: bool = False


class UserModel(Discreet, frozen=True, kw_only=True):
    """How to read a user out of a JSON answer. Paths are tuples of member names.

    With `hash_keys` the values of the other keys are kept as HMACs: under the first secret, and writes know
    them under the others too (see core.keys). The empty secret stands for the plain value.
    """

    id: tuple[str, ...] = ("id",)
    keys: tuple[UserKey, ...] = ()
    active: tuple[str, ...] | None = None
    secrets: tuple[str, ...] = ()
    max_size: int = 256 * 1024
    hash_keys: tuple[bytes, ...] = ()

    def key(self, name: str) -> UserKey | None:
        """The alias of that name (`email`, …), or None."""
        return next((key for key in self.keys if key.name == name), None)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One representation of a user.

    `ttl` is a ceiling over what upstream allows; `overrides`: what upstream says of lifetimes is known to be
    wrong, and `ttl` counts alone.
    """

    name: str
    ttl: float
    negative_ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    overrides: bool = False
    fields: frozenset[str] | None = None


class TokenSettings(Discreet, frozen=True, kw_only=True):
    """How bearer tokens (JWT) are proven here, and with which keys: one of the first three.

    `public_key` is the text of a PEM file, `jwks_url` an http or https URL of a JWK set (RFC 7517).
    With `issuers` there are several: each has its own keys, and this one has none.
    """

    secret: str | None = None
    public_key: str | None = None
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ("HS256",)
    issuer: str | None = None
    audience: str | None = None
    leeway: float = 0.0
    subject: tuple[str, ...] = ("sub",)
    issuers: tuple[TokenSettings, ...] = ()


class VarType(StrEnum):
    """The type of a `{name:type}` variable."""

    SEGMENT = "segment"
    INT = "int"
    UUID = "uuid"
    LIST = "list"
    PATH = "path"


class Var(msgspec.Struct, frozen=True, kw_only=True):
    """A variable of a template."""

    name: str
    type: VarType = VarType.SEGMENT


class Literal(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed text of a template."""

    text: str


Part = Var | Literal


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed `match`: methods, path segments and the query parameters it names, in template order.

    `source` is the text as written; `methods` does not list the HEAD that GET implies.
    """

    source: str
    methods: frozenset[str]
    segments: tuple[Part, ...]
    query: tuple[tuple[str, Part], ...] = ()


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """Answers one user, or (`many`: the list variable) an array of users. `by` is `id` or an alias name."""

    by: str
    var: str
    view: str
    many: bool = False


class Introspect(msgspec.Struct, frozen=True, kw_only=True):
    """Answers about the caller's token.

    `opaque`: tokens can't be proven here; where the id of the user may stand in upstream's answer.
    `fields` of the user and `claims` of the token are what an RFC 7662 answer shows besides its standard
    members. `form`: the token is this parameter of a form (POST), else it is where all tokens are; who was
    allowed to ask by it is remembered for `caller_ttl`.
    """

    answer: Answer
    view: str
    opaque: tuple[tuple[str, ...], ...] = ()
    fields: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    form: str = ""
    caller_ttl: float = 0.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One user that a write changes: `key` is `id` or an alias name, and its value is found at `place`:
    `token`, or path, query, request or response, with the dotted `path` in it.
    """

    key: str
    place: str
    path: tuple[str, ...] = ()


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """The users a request changes; `all`: everybody. `revoke`: whose tokens are good no more."""

    targets: tuple[Target, ...] = ()
    all: bool = False
    revoke: Revoke = Revoke.AUTO


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """Forward, store nothing."""


Action = Lookup | Introspect | Write | Pass | Resource


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `routes`. `name` is its label in logs and metrics: the match as written."""

    name: str
    template: Template
    action: Action
    access: Access = Access.UNSET
    allow: ClaimRule | None = None
    require: Require | None = None
    secrets: SecretsRule = SecretsRule.STRIP


class RedisSettings(Discreet, frozen=True, kw_only=True):
    """How to reach Redis; `url` None means memory only.

    `reject_writes`: writes get 503 while Redis can't be told of them (`on_redis_loss: reject`). With
    `seal_keys` stored answers are sealed: by the first, and opened with any.
    """

    url: str | None = None
    pool_size: int = 10
    pool_timeout: float = 5.0
    reject_writes: bool = False
    seal_keys: tuple[bytes, ...] = ()


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of PEM files: a certificate with its chain, and the private key."""

    certificate: str
    key: str


class Settings(Discreet, frozen=True, kw_only=True):
    """Everything the process is told from outside; `credential_headers` have lower-case names."""

    upstream: UpstreamSettings
    user: UserModel
    views: dict[str, View]
    tokens: TokenSettings | None
    routes: tuple[Route, ...]
    credential_headers: tuple[str, ...] = ()
    token_from: TokenPlace = TokenPlace()
    revoking: RevokingSettings = RevokingSettings()
    redis: RedisSettings = RedisSettings()
    edge: EdgeSettings = EdgeSettings()
    limits: LimitSettings = LimitSettings()
    listen: Address = Address(host="0.0.0.0", port=8080)  # noqa: S104 - a sidecar serves its pod's port
    admin: Address = Address(host="127.0.0.1", port=9090)
    admin_token: str | None = None
    tls: TlsSettings | None = None
    drain_delay: float = 0.0
    memory_entries: int = 10000
    resource_memory: int = 64 * 1024 * 1024
    workers: int = 1
    mode: Mode = Mode.SERVE
    holdback: float = 0.0
    truth: TruthSettings = TruthSettings()
    log_level: str = "info"
    log_format: str = "json"
    observing: Observing = Observing()
    fast_path: bool = True
    routes_file: str = ""
