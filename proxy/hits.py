"""What answers hits before the walk, put together, and what each of these hits is asked."""

from __future__ import annotations

from proxy.answer import date_now
from proxy.core.routing import Router
from proxy.core.settings import Settings
from proxy.fastpath import Replays
from proxy.forms import Forms, Look
from proxy.requestlog import RequestLog
from proxy.rollout import Rollout


def ready_answers(
    settings: Settings, router: Router, look: Look, rollout: Rollout, request_log: RequestLog
) -> Replays:
    """Both ways: by the whole head, and by its form for what memory has no room for."""
    logged = request_log.every > 0

    def wanted() -> bool:
        # Each is asked, as each of them counts.
        sampled = rollout.sampling and rollout.walks()
        return (logged and request_log.wants_next_hit()) | sampled | (not rollout.serving)

    forms = Forms(settings, router, look, date_now, wanted=wanted, serving=lambda: rollout.serving)
    # A user is asked for by more than one client, token and spelling of a head.
    return Replays(2 * settings.memory_entries, date_now, wanted, forms)
