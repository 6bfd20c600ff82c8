"""Settings in words: what each route does, what is suspicious, what the routes alone say of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config import SETTINGS, load, warnings
from proxy.configdangers import dangers
from proxy.configgiven import Flags
from proxy.core.forwarding import has_override
from proxy.core.headers import Headers
from proxy.core.keys import key_value, redis_key
from proxy.core.revoking import Revoke
from proxy.core.routing import READS, Match, Router
from proxy.core.settings import Introspect, Lookup, Pass, Resource, Route, Settings, Target, UserModel, Write

# Longer than any algorithm asks for, so that the stand-in raises no warning of its own.
_STAND_IN = "0" * 64
_SECRETS = {
    "JWT_SECRET": "without it tokens can't be proven",
    "CACHE_HASH_KEY": "serve needs it, and the keys that explain shows are made with it",
    "CACHE_ENCRYPT_KEY": "serve needs it",
}
_KNOWN = frozenset(setting.env for setting in SETTINGS) - _SECRETS.keys()


# Key and access of an introspection by POST.
_FORM = ("token, caller", "callers with an answer")


class _WithSecret(dict[str, str]):
    """An environment in which the secrets are always set; `missing` names the variables that are not.

    A routes file can be checked where the secrets are not at hand: on a laptop, in CI.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.missing: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping, but for the variables that are no settings: the secrets."""
        value = super().get(name, default)
        if value or name in _KNOWN:
            return value
        self.missing.append(name)
        return _STAND_IN


def load_without_secret(environ: Mapping[str, str], flags: Flags) -> tuple[Settings, tuple[str, ...]]:
    """The settings and what is suspicious about them, one sentence each. Raises ConfigError."""
    given = _WithSecret(environ)
    settings = load(given, flags)
    missing = [f"{name} is not set here; {_SECRETS.get(name, 'serve needs it')}" for name in given.missing]
    return settings, (*missing, *warnings(settings), *dangers(settings), *_drops(settings))


def described(settings: Settings, route: Route) -> dict[str, Any]:
    """`{"match", "kind", "key", "view", "ttl_seconds", "access", "evicts"}` of a route."""
    told: dict[str, Any] = {"match": route.name, "kind": kind_of(route)}
    match route.action:
        case Lookup() as action:
            key = f"{action.by} (many)" if action.many else action.by
            told |= {"key": key, "access": _access(route), "evicts": ["its user, by any write here"]}
        case Introspect() as action:
            key, access = ("token", "the token's user") if not action.form else _FORM
            told |= {"key": key, "access": access, "evicts": []}
        case Write() as action:
            evicts = ["everything"] if action.all else [_evicted(target) for target in action.targets]
            if action.revoke is Revoke.TOKEN:
                evicts.append("the caller's token and its user")
            elif action.revoke is Revoke.USER:
                evicts.append("all tokens of these users")
            told |= {"evicts": evicts}
        case Resource():
            told |= {"key": "url", "access": _access(route), "evicts": ["its URL, by any write there"]}
        case Pass():
            pass
    if isinstance(route.action, Lookup | Introspect):
        view = settings.views[route.action.view]
        told |= {"view": view.name, "ttl_seconds": view.ttl}
    return told


def kind_of(route: Route) -> str:
    """`lookup`, `batch`, `introspect`, `write` or `pass`, as `/explain` and the counters call it."""
    if isinstance(route.action, Lookup) and route.action.many:
        return "batch"
    return type(route.action).__name__.lower()


def explained(settings: Settings, method: str, url: str, headers: Headers) -> dict[str, Any]:
    """What the routes alone say of a request: as `/explain` tells it, without what only a proxy knows."""
    match = Router(settings.routes).match(method, url)
    if method in READS and has_override(headers):
        match = Router(settings.routes).match_write_path(url) or match
    if match is None:
        return _said(
            {"route": None, "kind": "pass"}, "BYPASS", "no route matches this method and URL exactly"
        )
    told: dict[str, Any] = {"route": match.route.name}
    if isinstance(match.route.action, Pass):
        return _said(told | {"kind": "pass"}, "BYPASS", "the route says pass")
    if isinstance(match.route.action, Write) or match.implied:
        # An implied write has the route of the look-up on whose path it is.
        evicts = (
            ["the user on whose path it is"] if match.implied else described(settings, match.route)["evicts"]
        )
        told |= {"kind": "write", "implied": match.implied, "evicts": evicts}
        return _said(
            told, "BYPASS", "a write is always forwarded; when it succeeds, the users it changes are evicted"
        )
    told |= {
        name: value
        for name, value in described(settings, match.route).items()
        if name not in ("match", "evicts")
    }
    keys = _keys(settings.user, match)
    return _said(told | ({"keys": keys} if keys else {}), "UNKNOWN", "it depends on what is stored")


def _said(told: dict[str, Any], would_be: str, why: str) -> dict[str, Any]:
    return told | {"would_be": would_be, "why": why}


def _keys(user: UserModel, match: Match) -> list[str]:
    action = match.route.action
    if not isinstance(action, Lookup):
        return []
    value = match.values.get(action.var, ())
    found = (value,) if isinstance(value, str) else value
    kept = (key_value(user, action.by, one) for one in found)
    return [redis_key(action.by, one) for one in kept if one is not None]


def _access(route: Route) -> str:
    return "no credentials" if route.access.value == "unset" else route.access.value


def _evicted(target: Target) -> str:
    return f"the user whose {target.key} is {'.'.join((target.place, *target.path))}"


def _drops(settings: Settings) -> Iterator[str]:
    """Writes whose user may be unknown: they drop everything, which is right but expensive."""
    for route in settings.routes:
        targets = route.action.targets if isinstance(route.action, Write) else ()
        if targets and all(
            target.key != "id" or target.place in ("request", "response") for target in targets
        ):
            yield (
                f"{route.name}: drops everybody where the user can't be found out; "
                "take the id from path, query or token if it is there"
            )
    by_alias = [
        route.name
        for route in settings.routes
        if isinstance(route.action, Lookup) and route.action.by != "id"
    ]
    if by_alias:
        yield (
            f"a write on the path of {', '.join(by_alias)} drops everybody where neither the cache nor "
            "upstream, asked by that look-up, nor request or answer names the user; let writers use the id"
        )
