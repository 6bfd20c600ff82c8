"""Whom a key names, by upstream: an alias that nobody knows here would leave its user unfenced."""

from __future__ import annotations

from urllib.parse import quote

from msgspec.structs import replace

from proxy.core.admission import parse
from proxy.core.errors import UpstreamError
from proxy.core.keys import dig, user_id
from proxy.core.model import Outcome
from proxy.core.rolloutsettings import Mode
from proxy.core.routing import Router
from proxy.core.settings import Access, Literal, Lookup, Part, Route
from proxy.core.tokens import Rejected
from proxy.steps import body as bodies
from proxy.steps.callers import identify
from proxy.steps.exchange import Exchange


def lookups(x: Exchange, key: str) -> list[tuple[Route, Lookup]]:
    """The routes that look one user up by that key; that of the request itself comes first."""
    routes = {route.name: route for route in (x.route, *x.services.settings.routes)}
    return [
        (route, route.action)
        for route in routes.values()
        if isinstance(route.action, Lookup) and route.action.by == key
    ]


async def asked(x: Exchange, key: str, value: str) -> str | None:
    """The id of the user that a look-up by this key shows, with the writer's own credentials.

    It may be outdated when the write arrives, so the write's own answer is still asked for. A token that is
    bad, or missing where the look-up asks for one, costs upstream nothing: no fence is raised for it either.
    """
    identity = identify(x)
    if isinstance(identity, Rejected) or x.services.rollout.mode is not Mode.SERVE:
        return None
    for route, look in lookups(x, key):
        target = _url(route, look.var, value)
        if target is not None and not (route.access is Access.TOKEN and identity is None):
            return await _shown(replace(x, route=route), target)
    return None


async def _shown(x: Exchange, target: str) -> str | None:
    look = replace(
        x, request=replace(x.request, method="GET", target=target, body=None, interim=None), outcome=Outcome()
    )
    try:
        reply = await look.forward(fill=True)
        body = await bodies.read(reply, x.services.settings.user.max_size)
    except UpstreamError:
        return None
    if isinstance(body, bodies.Rest):
        await bodies.close(body)
        return None
    document = parse(body) if reply.status == 200 and body else None
    return user_id(dig(document, x.services.settings.user.id)) if isinstance(document, dict) else None


def _url(route: Route, name: str, value: str) -> str | None:
    """Where that look-up is found; None where the route would not take what comes of it."""
    path = [_text(part, name, value) for part in route.template.segments]
    query = [(parameter, _text(part, name, value)) for parameter, part in route.template.query]
    if None in path or None in dict(query).values():
        return None
    target = "/" + "/".join(str(part) for part in path)
    if query:
        target += "?" + "&".join(f"{parameter}={text}" for parameter, text in query)
    return None if Router((route,)).match("GET", target) is None else target


def _text(part: Part, name: str, value: str) -> str | None:
    if isinstance(part, Literal):
        return part.text
    return quote(value, safe="") if part.name == name else None
