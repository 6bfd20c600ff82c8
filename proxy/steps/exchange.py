"""One request on its walk: what it is, what serves it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from time import perf_counter
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.askers import Askers
from proxy.cache import UserCache
from proxy.checks import Checks
from proxy.core import forwarding, upgrading
from proxy.core.errors import UpstreamError
from proxy.core.issuers import Issuers
from proxy.core.misses import Misses
from proxy.core.model import Outcome, Reply, Request
from proxy.core.ports import Upstream
from proxy.core.redaction import Redactor
from proxy.core.settings import Route, Settings
from proxy.core.tokens import Verifier
from proxy.rollout import Rollout
from proxy.steps import body as bodies

Rewrite = Callable[[Request], Request]


class Services(msgspec.Struct, frozen=True):
    """What lives as long as the process. `now` is the wall clock in seconds.

    `user_view` is the view whose answers show whether a user is active.
    """

    settings: Settings
    cache: UserCache
    upstream: Upstream
    verifier: Verifier | Issuers | None
    redactor: Redactor
    user_view: str
    now: Callable[[], float]
    rollout: Rollout = msgspec.field(default_factory=Rollout)
    checks: Checks = msgspec.field(default_factory=Checks)
    askers: Askers = msgspec.field(default_factory=Askers)
    misses: Misses = msgspec.field(default_factory=Misses)


class Exchange(msgspec.Struct, frozen=True):
    """A request that matched `route` with these decoded values; steps write its `outcome`.

    `token` is the caller's, where it was read before the request was.
    """

    services: Services
    request: Request
    route: Route
    values: Mapping[str, str | tuple[str, ...]]
    outcome: Outcome
    token: str | None = None

    async def forward(
        self,
        *,
        fill: bool = False,
        target: str | None = None,
        rewrite: Rewrite | None = None,
        switch: bool = False,
    ) -> Reply:
        """Upstream's answer, its head rewritten for the client; `fill` where it may be shared.

        `rewrite` has the last word on the request as upstream gets it.

        Raises UpstreamError.
        """
        # Of a question that the client has not asked it need not hear.
        request = self.request
        if target is not None and target != request.target:
            request = replace(request, target=target, interim=None)
        return await send(self.services, request, self.outcome, fill=fill, rewrite=rewrite, switch=switch)


async def send(
    services: Services,
    request: Request,
    outcome: Outcome,
    *,
    fill: bool = False,
    rewrite: Rewrite | None = None,
    switch: bool = False,
) -> Reply:
    """Forwards `request` and notes in `outcome` what upstream said. Raises UpstreamError.

    `switch`: upstream may answer with another protocol, if the request asks for one.
    """
    began = perf_counter()
    try:
        sent = forwarding.forwarded(request, fill=fill, rules=services.settings.edge)
        if switch:
            sent = upgrading.asking(sent, upgrading.wanted(request))
        reply = await services.upstream.send(sent if rewrite is None else rewrite(sent))
    except UpstreamError as error:
        outcome.upstream_failed, outcome.upstream_error = True, error.problem
        raise
    finally:
        outcome.upstream_seconds = (outcome.upstream_seconds or 0.0) + perf_counter() - began
    outcome.upstream_status = reply.status
    return replace(reply, headers=forwarding.returned(reply.headers, reply.version))


async def to_its_end(services: Services, walk: Coroutine[Any, Any, Reply]) -> Reply:
    """What `walk` returns. A client that hangs up does not stop it: the eviction must follow the commit."""
    task = asyncio.ensure_future(walk)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        services.cache.in_background(_read_out(task))
        raise


async def _read_out(task: asyncio.Task[Reply]) -> None:
    try:
        reply = await task
    except UpstreamError:
        return
    await bodies.close(reply.body)
