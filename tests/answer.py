"""What the proxy said, whoever asked it and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def x_cache(self) -> str:
        """`X-Cache`."""
        return self.headers.get("X-Cache", "")

    @property
    def cache_status(self) -> str:
        """`Cache-Status`."""
        return self.headers.get("Cache-Status", "")

    def json(self) -> Any:
        """The JSON body."""
        return orjson.loads(self.body)
