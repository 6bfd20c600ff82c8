"""The shape of what `routes.yaml` says of callers and of writes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta

from proxy.configshapebase import Duration, KeyName, Text, Unset, told


class Allow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A claim that lets in."""

    claim: Annotated[Text, told("The claim, as a dotted path.", "role")]
    any: Annotated[list[Text], told("One of these is its value, a word of it, or a member.", ["admin"])]


class TokenFrom(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A place of tokens besides Authorization. One of the two."""

    cookie: Annotated[Text, told("The name of the cookie.", "session")] | Unset = UNSET
    query: Annotated[Text, told("The name of the query parameter.", "access_token")] | Unset = UNSET


class Require(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a token must say."""

    scope: (
        Annotated[Text | list[Text], told("All of these must be in `scope` or `scp`.", "users:read")] | Unset
    ) = UNSET
    claim: Annotated[Text, told("A claim that must be there, as a dotted path.", "tenant")] | Unset = UNSET
    any: Annotated[list[Text], told("One of these is the claim's value.", ["a"])] | Unset = UNSET


Target = Annotated[
    dict[KeyName, Annotated[str, Meta(pattern=r"^(token|(path|query|request|response)\..+)$")]],
    Meta(extra_json_schema={"minProperties": 1, "maxProperties": 1}),
]


class Write(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The users that a request changes."""

    evict: (
        Annotated[
            Literal["all"] | Annotated[list[Target], Meta(min_length=1)],
            told(
                "`all`, or a list of keys and where their values stand: `token`, `path.x`, `query.x`,"
                " `request.x` or `response.x` (dotted JSON).",
                "all",
                [{"id": "token"}],
            ),
        ]
        | Unset
    ) = UNSET
    revoke: (
        Annotated[
            Literal["token", "user", "none"],
            told(
                "`token`: the caller's token, or the one in a form (RFC 7009), is good no more, on every "
                "replica, until its exp. `user`: the "
                "service is asked about all tokens that the users of `evict` (without it: the caller) had "
                "until then. `none`: a password in the body does not mean `user`.",
                "user",
            ),
        ]
        | Unset
    ) = UNSET


class Revoking(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How tokens are told apart that were made before all tokens of their user were revoked."""

    token_life: Annotated[
        Duration,
        told(
            "No token is good for longer after its `iat`; an older one is asked of the service, and a "
            "revocation is forgotten after this.",
            "30d",
        ),
    ] = "366d"
    clock_skew: Annotated[
        Duration, told("How far the clock of whoever makes tokens may be from the proxies' clocks.", "10s")
    ] = "60s"
    passwords: Annotated[
        Literal["revoke", "ignore"],
        told("Whether a write with a password in its body is `revoke: user` where its route says nothing."),
    ] = "revoke"
