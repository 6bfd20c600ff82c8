"""Settings that may be printed: what is secret in them is not shown."""

from __future__ import annotations

from typing import Any

import msgspec


class Discreet(msgspec.Struct, frozen=True, kw_only=True):
    """A struct that never prints its secrets: not in logs, tracebacks, debuggers or test reports."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, _discreet(name, getattr(self, name))) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


def _discreet(name: str, value: Any) -> Any:
    if name in ("secret", "admin_token", "hash_keys", "seal_keys"):
        return value and "***"
    return _place(value) if name in ("url", "jwks_url") and value else value


def _place(url: str) -> str:
    """The URL without user, password and query; a query may hold a password too."""
    scheme, separator, rest = url.partition("://")
    userinfo, _, place = rest.rpartition("@")
    # A '?' before the last '@' may belong to either, so nothing of it is shown.
    return scheme + separator + ("***" if "?" in userinfo else place.partition("?")[0])
