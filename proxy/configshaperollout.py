"""The shape of the part of `routes.yaml` that says how much is done with requests."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from proxy.configshapebase import Text, told

Share = Annotated[Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%$")], Meta(title="share")]
Mode = Annotated[
    Literal["serve", "shadow", "off"],
    told(
        "`serve` answers from the cache; `shadow` forwards everything, keeps the cache and compares; "
        "`off` forwards everything. `MODE` and `--mode` win.",
        "shadow",
    ),
]
Holdback = Annotated[Share, told("The share of hits that upstream answers, to compare what both take.", "5%")]


class Truth(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Hits that upstream is asked about behind the answer; a stale one is counted, and its user evicted."""

    sample: Annotated[Share, told("The share of hits that is checked.", "1%")] = "0%"
    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], told("Checks at a time; further ones are left out.", 4)
    ] = 2
    ignore: Annotated[
        list[Text],
        told("Members that may differ. Also for the comparison in shadow mode.", ["last_seen"]),
    ] = []
