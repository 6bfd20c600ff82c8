"""The shape of `routes.yaml` as types: what editors check against, and what the reference is written from.

What a file means is decided by the readers in the other `config…` modules. These types say the same once more
in the form that a JSON schema needs; a test holds their names, defaults and examples against the readers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, field

from proxy.configshapeaccess import Allow, Require, Revoking, TokenFrom, Write
from proxy.configshapebase import Algorithm, Dotted, Duration, KeyName, Size, Text, Unset, told
from proxy.configshapeedge import Edge, Limits, Upstream
from proxy.configshapeintrospect import Introspect
from proxy.configshaperesources import Resource, Resources
from proxy.configshaperollout import Holdback, Mode, Truth

ViewName = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Variable = Annotated[str, Meta(title="name of a variable", pattern="^[A-Za-z_][A-Za-z0-9_]*$")]


class Block(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A mapping whose keys are all known."""


class Key(Block):
    """One more unique key of a user."""

    path: Annotated[Dotted, told("Where it stands in the JSON answer.", "contact.email")]
    ignore_case: Annotated[
        bool, told("ASCII letters compare without case, as the service does it.", True)
    ] = False


class User(Block):
    """How to read a user out of a JSON answer. Paths are dotted: `data.user.id`."""

    id: Annotated[Dotted, told("The user's id; a number or a string.", "data.id")] = "id"
    keys: Annotated[
        dict[KeyName, Key], told("The other unique keys: an eviction removes the user by all of them.")
    ] = {}
    active: (
        Annotated[
            Dotted, told("A member that is false for a user whose tokens are not good any more.", "is_active")
        ]
        | Unset
    ) = UNSET
    secrets: Annotated[
        list[Text],
        told(
            "Names of secret fields, in addition to the built-in list; matched at any depth.",
            ["hashed_password"],
        ),
    ] = []
    max_size: Annotated[Size, told("A larger answer is passed on and not stored.", "1MiB")] = "256KiB"


class View(Block):
    """One representation of a user. Routes that answer alike share one, and so share its copies."""

    ttl: Annotated[
        Duration, told("How long a copy is fresh. `USER_CACHE_TTL` wins for the view `users`.", "300s")
    ]
    ttl_overrides: (
        Annotated[
            Literal["upstream"],
            told(
                "Upstream's lifetimes are known to be wrong: `ttl` counts alone, not as a ceiling.",
                "upstream",
            ),
        ]
        | Unset
    ) = UNSET
    negative_ttl: Annotated[Duration, told('How long "no such user" is kept.', "10s")] = "0s"
    stale_while_revalidate: Annotated[
        Duration, told("How long a copy that ran out may be served while a new one is fetched.", "30s")
    ] = "0s"
    stale_if_error: Annotated[
        Duration, told("How long a copy that ran out may be served where the service fails.", "5m")
    ] = "0s"
    fields: (
        Annotated[
            Annotated[list[Text], Meta(min_length=1)],
            told(
                "The only top-level fields that may be stored; an answer with any other is passed on.",
                ["id", "username"],
            ),
        ]
        | Unset
    ) = UNSET


class Tokens(Block):
    """How bearer tokens (JWT) are proven here. The keys have one source: a secret, a file, or a key set."""

    secret_env: (
        Annotated[
            Variable,
            told(
                "The environment variable that holds the shared secret. `JWT_SECRET` unless another "
                "source is named.",
                "JWT_SECRET",
            ),
        ]
        | Unset
    ) = UNSET
    public_key_file: (
        Annotated[
            Text,
            told("A PEM file of public keys or certificates; a relative path starts at the routes file."),
        ]
        | Unset
    ) = UNSET
    jwks_url: (
        Annotated[
            Annotated[str, Meta(pattern="^https?://")],
            told(
                "A key set (RFC 7517), fetched at start and again.",
                "https://login.example/.well-known/jwks.json",
            ),
        ]
        | Unset
    ) = UNSET
    algorithms: (
        Annotated[
            Annotated[list[Algorithm], Meta(min_length=1)],
            told(
                "What a token may be signed with. HS… is for a secret, the others are for public "
                "keys. Default: `[HS256]`, or `[RS256, ES256]` with public keys.",
                ["HS256"],
            ),
        ]
        | Unset
    ) = UNSET
    issuer: Annotated[
        Text | None,
        told("What `iss` must be; null: not checked. Required in a list.", "https://login.example"),
    ] = None
    audience: Annotated[Text | None, told("What `aud` must hold; null: not checked.", "users")] = None
    leeway: Annotated[Duration, told("For clocks that differ, on `exp` and `nbf`.", "5s")] = "0s"
    subject: Annotated[Dotted, told("The claim that holds the user's id.", "user.id")] = "sub"


class Lookup(Block):
    """Answers one user, or with `many` a list of users, from the cache."""

    by: Annotated[Text, told("`id`, or the name of another key of the user.", "id")]
    view: Annotated[Text, told("Which representation of the user the route answers.", "users")]
    many: (
        Annotated[Text, told("The `list` variable of the match: the route answers an array of users, by id.")]
        | Unset
    ) = UNSET


class Route(Block):
    """One line of `routes`: what it matches, and `lookup`, `introspect`, `write`, `resource` or `pass`."""

    match: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Z][A-Z-]*(,[A-Z][A-Z-]*)* /\S*$")],
        told(
            "`METHOD[,METHOD] /path/{name[:type]}[?key={name}&key=literal]`. Types: `int`, "
            "`uuid`, `list`, `path`, or none: one segment. GET implies HEAD.",
            "GET /users/{id:int}",
            "PUT,PATCH /users/{id:int}/name",
        ),
    ]
    lookup: Annotated[Lookup, told("The route answers users from the cache.")] | Unset = UNSET
    introspect: Annotated[Introspect, told("The route answers about the caller's token.")] | Unset = UNSET
    write: Annotated[Write, told("The route changes users.")] | Unset = UNSET
    resource: Annotated[Resource, told("The route is cached as RFC 9111 says, by its whole URL.")] | Unset = (
        UNSET
    )
    pass_: Annotated[Literal[True], told("The route is forwarded and changes no user.")] | Unset = field(
        name="pass", default=UNSET
    )
    access: (
        Annotated[
            Literal["anyone", "token", "owner", "caller"],
            told(
                "Who may be given the shared copy; without it, requests that carry credentials share "
                "nothing. `caller`: each caller has a copy of their own. For all that is cached; "
                "`owner` and `caller` for look-ups.",
                "anyone",
            ),
        ]
        | Unset
    ) = UNSET
    allow: Annotated[Allow, told("Who besides the user may have the copy, with `access: owner`.")] | Unset = (
        UNSET
    )
    require: (
        Annotated[Require, told("What a token must say besides being good; without it, forwarded.")] | Unset
    ) = UNSET
    secrets: Annotated[
        Literal["strip", "bypass"],
        told(
            "`strip`: secret-looking fields are taken out. `bypass`: such an answer is passed on "
            "as it is, and nothing of it stored. For all that is cached.",
            "bypass",
        ),
    ] = "strip"


class Keys(Block):
    """Where the keys are."""

    key_env: Annotated[Variable, told("The environment variable that holds them.", "USERS_CACHE_KEY")]


class RoutesFile(Block):
    """The settings of user-cache-proxy: what the users service looks like, and what is cached."""

    version: Annotated[Literal[1], told("The version of this format.")]
    upstream: Annotated[Upstream, told("Where the service is.")] | Unset = UNSET
    edge: Annotated[Edge, told("What is said of clients to the service.")] | Unset = UNSET
    limits: Annotated[Limits, told("What clients may take.")] | Unset = UNSET
    user: Annotated[User, told("How to read a user out of an answer.")] | Unset = UNSET
    views: Annotated[dict[ViewName, View], told("The representations of a user, by name.")] = {}
    tokens: Annotated[
        Tokens | list[Tokens] | None,
        told("How bearer tokens are proven; null: they are not. A list: several issuers, each named."),
    ] = None
    on_redis_loss: Annotated[
        Literal["forward", "reject"],
        told(
            "What becomes of a write while Redis can't be told of it. `forward`: it goes on, and "
            "a replica that still reaches Redis may serve the old user for a while. `reject`: "
            "503.",
            "reject",
        ),
    ] = "forward"
    mode: Mode = "serve"
    holdback: Holdback = "0%"
    truth: Annotated[Truth, told("Which hits are checked against upstream.")] | Unset = UNSET
    hash_keys: (
        Annotated[
            bool | Keys,
            told("Users are kept under hashes of their keys; the secret is in `CACHE_HASH_KEY`.", True),
        ]
        | Unset
    ) = UNSET
    encrypt: (
        Annotated[bool | Keys, told("Answers in Redis are sealed; the key is in `CACHE_ENCRYPT_KEY`.", True)]
        | Unset
    ) = UNSET
    token_from: (
        Annotated[
            Literal["header"] | TokenFrom,
            told(
                "Where tokens are: `header` (Authorization, the default), a cookie, or a parameter.", "header"
            ),
        ]
        | Unset
    ) = UNSET
    revoking: Annotated[Revoking, told("When all tokens of a user are revoked.")] | Unset = UNSET
    credential_headers: Annotated[
        list[Text],
        told("Headers that say who is asking, besides Authorization and Cookie.", ["X-Api-Key"]),
    ] = []
    resources: Annotated[Resources, told("What the routes of this kind share.")] | Unset = UNSET
    routes: Annotated[list[Route], told("What is done with which request; the first match wins.")] = []
