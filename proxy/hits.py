"""What answers hits before the walk, put together, and what each of these hits is asked."""

from __future__ import annotations

from proxy.answer import date_now
from proxy.fastpath import Replays
from proxy.forms import Forms
from proxy.pipeline import Pipeline
from proxy.requestlog import RequestLog
from proxy.steps.atonce import AtOnce


def ready_answers(pipeline: Pipeline, request_log: RequestLog) -> Replays:
    """Both ways: by the whole head, and by its form."""
    services = pipeline.services
    rollout, logged = services.rollout, request_log.every > 0

    def wanted() -> bool:
        # Each is asked, as each of them counts.
        sampled = rollout.sampling and rollout.walks()
        return (logged and request_log.wants_next_hit()) | sampled | (not rollout.serving)

    look = services.cache.store.glance
    forms = Forms(
        AtOnce(services), pipeline.router, look, date_now, wanted=wanted, serving=lambda: rollout.serving
    )
    # A user is asked for by more than one client, token and spelling of a head.
    return Replays(2 * services.settings.memory_entries, date_now, wanted, forms)
