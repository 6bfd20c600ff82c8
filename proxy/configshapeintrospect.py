"""The shape of the routes that answer about tokens."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET

from proxy.configshapebase import Dotted, Duration, Text, Unset, told


class Introspect(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Answers about a token: the caller's, or with `match: POST …` that in a form (RFC 7662 §2.1)."""

    answer: Annotated[
        Literal["view", "upstream", "rfc7662"],
        told(
            "`view`: the token's user, out of the copies that look-ups share. `upstream`: the "
            "service's own answer, stored per token. `rfc7662`: a standard answer, built here from the token "
            'and its user; `{"active": false}` for a token that is not good, with 401, or by POST with 200.',
            "view",
        ),
    ]
    view: Annotated[
        Text, told("Which representation of the user, or of the answer; of the user with `rfc7662`.", "users")
    ]
    subject: (
        Annotated[
            Dotted,
            told(
                "Where the user's id stands in the answer about an opaque token (no `tokens` block). "
                "Default: `sub` and the id of a user, which must not differ.",
                "user_id",
            ),
        ]
        | Unset
    ) = UNSET
    fields: (
        Annotated[
            list[Text],
            told(
                "What an `rfc7662` answer shows of the user. Default: `[username]`.",
                ["username", "email"],
            ),
        ]
        | Unset
    ) = UNSET
    form: (
        Annotated[
            Text,
            told(
                "With `match: POST …`: the token's parameter in the form. Default: `token`.",
                "token",
            ),
        ]
        | Unset
    ) = UNSET
    caller_ttl: (
        Annotated[
            Duration,
            told(
                "With `match: POST …`: how long callers whom the service answered are answered from here. "
                "Default: `60s`; 0s: `view` and `rfc7662` are forwarded each time.",
                "60s",
            ),
        ]
        | Unset
    ) = UNSET
    claims: Annotated[
        list[Text],
        told("What an `rfc7662` answer shows of the token besides its standard members.", ["role"]),
    ] = []
