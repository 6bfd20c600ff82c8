"""What the types of `routes.yaml` are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Unset = msgspec.UnsetType
KeyName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, Meta(min_length=1)]
Duration = Annotated[
    Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d)?$")] | Annotated[float, Meta(ge=0)],
    Meta(title="duration"),
]
Size = Annotated[
    Annotated[str, Meta(pattern="^[0-9]{1,12}(B|kB|KB|MB|GB|KiB|MiB|GiB)?$")]
    | Annotated[int, Meta(ge=1, le=1024**3)],
    Meta(title="size"),
]
Dotted = Annotated[str, Meta(title="dotted path", pattern=r"^[^.]+(\.[^.]+)*$")]
Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]


def told(says: str, *examples: Any) -> Meta:
    """What a key means, and values it may have."""
    return Meta(description=says, examples=list(examples) or None)
