"""The composition root: builds every object, one cleanup context each, and decides nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.admin.api import Admin, guard
from proxy.admin.modes import Modes, Note
from proxy.admin.peers import Peers
from proxy.answer import date_now
from proxy.cache import UserCache, open_users
from proxy.core.issuers import Issuers, blocks_of, prover
from proxy.core.model import Outcome, Request
from proxy.core.ports import TokenKeys
from proxy.core.redaction import Redactor
from proxy.core.settings import Answer, Introspect, Lookup, Settings, TokenSettings, UpstreamSettings
from proxy.core.tokens import Verifier
from proxy.fastpath import Replays
from proxy.handler import EdgeServer, make_server, require_c_parser
from proxy.jwks import PATIENCE, KeyServer, KeyServers, fetch_from, split_url
from proxy.pipeline import Pipeline, unkeyed
from proxy.requestlog import RequestLog
from proxy.rollout import Rollout
from proxy.steps.exchange import Services
from proxy.steps.explain import explain
from proxy.telemetry import Telemetry
from proxy.tracing import tracing
from proxy.upstream import HttpUpstream


@dataclass(frozen=True, slots=True)
class App:
    """What a process serves: `server` for clients, `admin` for operators."""

    server: EdgeServer
    admin: web.Application
    operators: Admin
    cache: UserCache
    telemetry: Telemetry


@asynccontextmanager
async def compose(
    settings: Settings, peers: Sequence[str] = (), mode_note: Note | None = None
) -> AsyncIterator[App]:
    """Builds the proxy from its settings; on exit everything is closed in reverse order.

    `peers` are the unix sockets of the other workers' admin, `mode_note` is where workers note a mode that an
    operator chose. Raises ConfigError where the installation can't
    serve (aiohttp without its C parser), or the admin socket would be open to everybody.
    """
    require_c_parser()
    token = guard(settings.admin.host, settings.admin_token)
    async with AsyncExitStack() as stack:
        upstream = HttpUpstream(settings.upstream)
        stack.push_async_callback(upstream.close)
        cache = await stack.enter_async_context(
            UserCache(
                open_users(settings.redis, settings.memory_entries, settings.resource_memory),
                model=settings.user,
                wait_timeout=settings.upstream.until_head,
            )
        )
        cache.warm_up()
        spans = await stack.enter_async_context(tracing()) if settings.observing.traces else None
        telemetry = Telemetry()
        request_log = RequestLog(settings.observing)
        verifier, keys = await _keys(stack, settings.tokens)
        rollout = Rollout(settings.mode, holdback=settings.holdback, truth=settings.truth.sample)
        pipeline = Pipeline(
            Services(
                settings=settings,
                cache=cache,
                upstream=upstream if spans is None else spans.upstream(upstream),
                verifier=verifier,
                redactor=Redactor(settings.user.secrets),
                user_view=user_view(settings),
                now=time.time,
                rollout=rollout,
                checks=telemetry.checks,
            ),
            observers(telemetry.observe, request_log.observe, *(() if spans is None else (spans.observe,))),
        )

        async def explained(request: Request) -> dict[str, Any]:
            match = pipeline.match(request.method, request.target, request.headers)
            return await explain(pipeline.services, request, match, unkeyed(request))

        admin = Admin(
            cache=cache,
            telemetry=telemetry,
            ping=upstream.ping,
            explain=explained,
            token=token,
            peers=Peers(peers),
            keys=keys,
            modes=Modes(rollout, mode_note),
        )
        replays = None
        # Each hit has its span where there are spans, so all of them are walked.
        if settings.fast_path and spans is None:
            # A user is asked for by more than one client, token and spelling of a head.
            replays = Replays(
                2 * settings.memory_entries,
                date_now,
                # Each is asked, as each of them counts.
                lambda: rollout.walks() | request_log.wants_next_hit() | (not rollout.serving),
            )
            telemetry.elsewhere.append(replays.counted)
        walk = pipeline if spans is None else spans.walk(pipeline)
        server = make_server(walk, settings.limits, settings.edge, replays)
        yield App(server, admin.app(), admin, cache, telemetry)


def observers(*each: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """One observer that shows an outcome to all of them, in this order."""

    def observe(outcome: Outcome) -> None:
        for one in each:
            one(outcome)

    return observe


async def _keys(
    stack: AsyncExitStack, tokens: TokenSettings | None
) -> tuple[Verifier | Issuers | None, TokenKeys | None]:
    """What proves tokens, and where its keys are fetched from: a key server for each issuer."""
    if tokens is None:
        return None, None
    servers: dict[int, KeyServer] = {}
    # Called only once the walk has begun, when the servers are there.
    verifier = prover(tokens, lambda number: servers[number].unknown_kid())
    for number, (block, use) in enumerate(zip(blocks_of(tokens), verifier.users(), strict=True)):
        if block.jwks_url is None:
            continue
        address, target = split_url(block.jwks_url)
        source = HttpUpstream(UpstreamSettings(url=address, timeout=PATIENCE, max_connections=1))
        stack.push_async_callback(source.close)
        servers[number] = KeyServer(fetch_from(source, target), use)
    for server in servers.values():
        await stack.enter_async_context(server)
    if not tokens.issuers:
        return verifier, servers.get(0)
    by_issuer = {str(tokens.issuers[number].issuer): server for number, server in servers.items()}
    return verifier, KeyServers(by_issuer) if by_issuer else None


def user_view(settings: Settings) -> str:
    """The view that shows whether a user is active: of what answers from it, else of the look-up by id."""
    actions = [route.action for route in settings.routes]
    for action in actions:
        if isinstance(action, Introspect) and action.answer is not Answer.UPSTREAM:
            return action.view
    for action in actions:
        if isinstance(action, Lookup) and action.by == "id":
            return action.view
    return next(iter(settings.views), "users")
