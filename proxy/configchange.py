"""What a change of the settings means for what is stored."""

from __future__ import annotations

from proxy.core.settings import Introspect, Lookup, Resource, Settings


def kept_otherwise(one: Settings, other: Settings) -> bool:
    """Whether what was stored under one might not be under the other: another service was asked, a field
    became a secret, or a route that stored is not the same."""
    for name in ("user", "views", "tokens", "token_from", "credential_headers"):
        if getattr(one, name) != getattr(other, name):
            return True
    if one.upstream.url != other.upstream.url:
        return True
    storing = [route for route in one.routes if isinstance(route.action, Lookup | Introspect | Resource)]
    return any(route not in other.routes for route in storing)
