"""The shape of what `routes.yaml` says of `resource` routes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.configshapebase import Duration, Size, told

Field = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class Resource(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Plain RFC 9111 caching of a URL by upstream's own header. `{}` is enough. See docs/http.md."""

    heuristic: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        told("The part of its age that an answer with Last-Modified and no more stays fresh; 0: none.", 0),
    ] = 0.1
    heuristic_max: Annotated[Duration, told("The longest that such a guess may hold.", "1h")] = "1d"
    stale_while_revalidate: Annotated[
        Duration, told("For answers that state none: served stale while a new one is fetched.", "10s")
    ] = "0s"
    stale_if_error: Annotated[
        Duration, told("For answers that state none: served stale where the service fails.", "5m")
    ] = "60s"
    keep: Annotated[Duration, told("How long a stale copy waits to be revalidated.", "1d")] = "1h"
    max_size: Annotated[Size, told("A larger answer is passed on and not stored.", "5MiB")] = "1MiB"
    targeted: Annotated[
        tuple[Field, ...],
        told(
            "Fields that stand in for Cache-Control where they are there, the first one first (RFC 9213).",
            ["Surrogate-Control"],
        ),
    ] = ("CDN-Cache-Control",)


class Resources(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What all `resource` routes share."""

    memory: Annotated[Size, told("Bytes of resources that one process holds.", "256MiB")] = "64MiB"
