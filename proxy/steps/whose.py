"""Whom a path names, by upstream: an alias that nobody knows here would leave its user unfenced."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.core.admission import parse
from proxy.core.errors import UpstreamError
from proxy.core.keys import dig, user_id
from proxy.core.model import Outcome
from proxy.core.rolloutsettings import Mode
from proxy.core.settings import Access
from proxy.core.tokens import Rejected
from proxy.steps import body as bodies
from proxy.steps.callers import identify
from proxy.steps.exchange import Exchange


async def asked(x: Exchange) -> set[str]:
    """The id of the user that the look-up at this path shows, with the writer's own credentials.

    It may be outdated when the write arrives, so the write's own answer is still asked for. A token that is
    bad, or missing where the route asks for one, costs upstream nothing: no fence is raised for it either.
    """
    identity = identify(x)
    if isinstance(identity, Rejected) or (x.route.access is Access.TOKEN and identity is None):
        return set()
    if x.services.rollout.mode is not Mode.SERVE:
        return set()
    look = replace(x, request=replace(x.request, method="GET", body=None, interim=None), outcome=Outcome())
    try:
        reply = await look.forward(fill=True)
        body = await bodies.read(reply, x.services.settings.user.max_size)
    except UpstreamError:
        return set()
    if isinstance(body, bodies.Rest):
        await bodies.close(body)
        return set()
    document = parse(body) if reply.status == 200 and body else None
    whose = user_id(dig(document, x.services.settings.user.id)) if isinstance(document, dict) else None
    return set() if whose is None else {whose}
