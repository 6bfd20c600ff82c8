"""Look-ups that miss, within the budget of the client that makes them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from proxy.core.edgesettings import OverBudget
from proxy.core.errors import TooManyMisses
from proxy.core.misses import client_of
from proxy.core.model import Reason, Reply
from proxy.steps.exchange import Exchange


async def within_budget(x: Exchange, ask: Callable[[bool], Awaitable[Reply]]) -> Reply:
    """What `ask` brings from upstream. It is given whether "not found" may be kept: not of a client that has
    asked for nobody too often. Users that are found are kept all the same, as others may be behind the same
    address.

    Raises TooManyMisses where the settings say so.
    """
    limits = x.services.settings.limits
    if not limits.not_found:
        return await ask(True)
    misses, now = x.services.misses, x.services.now()
    client = client_of(x.request, x.services.settings.edge)
    wait = misses.wait(client, limits.not_found, now)
    if wait and limits.over_not_found is OverBudget.REFUSE:
        x.outcome.reason, x.outcome.refused = Reason.TOO_MANY_MISSES, True
        raise TooManyMisses(math.ceil(wait))
    reply = await ask(not wait)
    if reply.status == 404 and not wait:
        misses.count(client, limits.not_found, now)
    return reply
