"""May an answer be kept for all whom the route's rules let in? Asked where it is taken apart first."""

from __future__ import annotations

from proxy.core import policy
from proxy.core.headers import Headers
from proxy.core.model import Reply
from proxy.core.settings import View
from proxy.steps.exchange import Exchange


def keepable(x: Exchange, view: View, reply: Reply, times: tuple[float, float]) -> policy.Storable | None:
    """For how long; None where not, as the outcome then says. `times`: when it was asked for, and now."""
    asked, now = times
    storable = policy.storable(
        view=view,
        status=200,
        request_headers=x.request.headers,
        reply_headers=Headers(reply.headers),
        authorized_by_rule=True,
        asked=asked,
        now=now,
        negative_allowed=False,
        credential_headers=x.services.settings.credential_headers,
    )
    if isinstance(storable, policy.Skip):
        x.outcome.skipped = storable.reason
        return None
    return storable
