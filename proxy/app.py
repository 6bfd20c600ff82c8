"""The composition root: builds every object, one cleanup context each, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from proxy import lean
from proxy.admin.api import Admin, Duties, guard
from proxy.admin.modes import Modes, Note
from proxy.admin.peers import Peers
from proxy.answer import date_now
from proxy.cache import UserCache, open_users
from proxy.configchange import kept_otherwise
from proxy.core.edgesettings import LimitSettings
from proxy.core.issuers import Issuers, blocks_of, prover
from proxy.core.keeping import Keeping, rules
from proxy.core.model import Outcome, Request
from proxy.core.ports import Store, TokenKeys
from proxy.core.redaction import Redactor
from proxy.core.settings import Answer, Introspect, Lookup, Settings, TokenSettings, UpstreamSettings
from proxy.core.tokens import Verifier
from proxy.handler import EdgeServer, Line, require_c_parser
from proxy.hits import ready_answers
from proxy.jwks import PATIENCE, KeyServer, KeyServers, fetch_from, split_url
from proxy.kept import Kept
from proxy.openfiles import fitted
from proxy.passage import Passages
from proxy.pipeline import Pipeline, unkeyed
from proxy.refusals import Refusals
from proxy.requestlog import RequestLog
from proxy.rollout import Rollout
from proxy.steps.exchange import Services
from proxy.steps.explain import explain
from proxy.stopwatch import Stopwatch
from proxy.store.memory import MemoryStore
from proxy.telemetry import Telemetry
from proxy.upstream import HttpUpstream
from proxy.waiting import Waiting

log = logging.getLogger("proxy")


class App:
    """What a process serves: `server` for clients, `admin` for operators, under the settings in force.

    Connections, counters and operators outlive a change of the settings; see `change`.
    """

    def __init__(self, peers: Sequence[str] = (), mode_note: Note | None = None) -> None:
        self.telemetry = Telemetry()
        self._peers, self._mode_note = Peers(peers), mode_note or Note()
        self._kept = Kept()
        self._waiting = Waiting(LimitSettings().memory)
        self._former: set[asyncio.Task[None]] = set()

    async def start(self, settings: Settings) -> None:
        """The first version of the settings. Raises ConfigError; see `compose`."""
        require_c_parser()
        token = guard(settings.admin.host, settings.admin_token)
        self._version, self._stack = await self._opened(settings)
        self.server = EdgeServer(self._version.line, self._waiting)
        self.operators = Admin(
            self._version.duties,
            telemetry=self.telemetry,
            token=token,
            peers=self._peers,
            clients=lambda: self.server.figures,
        )
        self.admin = self.operators.app()

    @property
    def cache(self) -> UserCache:
        """The cache in force."""
        return self._version.duties.cache

    async def change(self, settings: Settings) -> None:
        """Other settings, from the next request on; requests in flight end under those that they began with.

        Whatever can't be opened for them leaves everything as it is: ConfigError, or what it raises.
        """
        version, stack = await self._opened(settings)
        old, old_stack = self._version, self._stack
        cold = kept_otherwise(old.settings, settings)
        if cold:
            # In this order: what an old walk still has in hand is refused, what it has stored is dropped.
            old.duties.cache.retire()
            await version.duties.cache.evict(everything=True)
        self._version, self._stack = version, stack
        memory = getattr(version.duties.cache.store, "memory", version.duties.cache.store)
        if isinstance(memory, MemoryStore):
            memory.resize(settings.resource_memory)
        self.server.follow(version.line)
        self.operators.duties = version.duties
        self._leave(old, old_stack)
        log.info("settings in force", extra={"routes": len(settings.routes), "cold": cold})

    async def close(self) -> None:
        """Closes everything, in reverse order."""
        for task in self._former:
            task.cancel()
        await asyncio.gather(*self._former, return_exceptions=True)
        await self._stack.aclose()

    async def _opened(self, settings: Settings) -> tuple[_Version, AsyncExitStack]:
        async with AsyncExitStack() as stack:
            version = await _version(
                stack, settings, self._kept, self.telemetry, self._mode_note, self._waiting
            )
            return version, stack.pop_all()

    def _leave(self, old: _Version, stack: AsyncExitStack) -> None:
        """Closes what only the old settings use, once their last request has ended."""

        async def leave() -> None:
            try:
                await old.line.ended()
            finally:
                await stack.aclose()

        task = asyncio.create_task(leave())
        self._former.add(task)
        task.add_done_callback(self._former.discard)


@dataclass(frozen=True, slots=True)
class _Version:
    """All that serves under one version of the settings."""

    settings: Settings
    line: Line
    duties: Duties


@asynccontextmanager
async def compose(
    settings: Settings, peers: Sequence[str] = (), mode_note: Note | None = None
) -> AsyncIterator[App]:
    """Builds the proxy from its settings; on exit everything is closed in reverse order.

    `peers` are the unix sockets of the other workers' admin, `mode_note` is where workers note a mode that an
    operator chose. Raises ConfigError where the installation can't
    serve (aiohttp without its C parser), or the admin socket would be open to everybody.
    """
    app = App(peers, mode_note)
    await app.start(settings)
    try:
        yield app
    finally:
        await app.close()


async def _version(
    stack: AsyncExitStack,
    settings: Settings,
    kept: Kept,
    telemetry: Telemetry,
    note: Note,
    waiting: Waiting,
) -> _Version:
    """Builds what serves under these settings; what they share with those in force is taken over."""
    upstream = await stack.enter_async_context(
        kept.part("upstream", settings.upstream, lambda: _upstream(settings.upstream, waiting))
    )
    # Without Redis there is one store for as long as the process lives: a write under the old settings must
    # be seen by readers under the new ones.
    where = None
    if settings.redis.url is not None:
        where = (settings.redis, _keeping(settings))
    store = await stack.enter_async_context(kept.part("store", where, lambda: _store(settings)))
    cache = UserCache(store, model=settings.user, wait_timeout=settings.upstream.until_head)
    stack.push_async_callback(cache.rest)
    cache.warm_up()
    spans = None
    if settings.observing.traces:
        from proxy.tracing import tracing  # here, as it loads redis-py

        spans = await stack.enter_async_context(kept.part("traces", None, tracing))
    request_log = RequestLog(settings.observing)
    logged = (request_log.observe,) if settings.observing.log_requests else ()
    verifier, keys = await stack.enter_async_context(
        kept.part("tokens", settings.tokens, lambda: _keys(settings.tokens))
    )
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
        observers(telemetry.observe, *logged, *(() if spans is None else (spans.observe,))),
    )

    async def explained(request: Request) -> dict[str, Any]:
        match = pipeline.match(request.method, request.target, request.headers)
        return await explain(pipeline.services, request, match, unkeyed(request))

    replays = None
    # Each hit has its span where there are spans, so all of them are walked.
    if settings.fast_path and spans is None:
        replays = ready_answers(pipeline, request_log)
        watch = Stopwatch(replays)
        telemetry.elsewhere.append(watch)
        stack.callback(telemetry.forget, watch)
    walk = pipeline if spans is None else spans.walk(pipeline)
    duties = Duties(cache, upstream.ping, explained, keys, Modes(rollout, note), lambda: upstream.figures)
    refusals = Refusals(telemetry, on=settings.observing.log_requests)
    passages = Passages(pipeline, upstream, date_now) if spans is None else None  # as with replays
    line = Line(walk, fitted(settings).limits, settings.edge, replays, refusals, passages)
    return _Version(settings, line, duties)


@asynccontextmanager
async def _upstream(settings: UpstreamSettings, waiting: Waiting) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream(settings, waiting)
    try:
        yield upstream
    finally:
        await upstream.close()


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    with lean.no_figures():
        store = open_users(
            settings.redis,
            settings.memory_entries,
            settings.resource_memory,
            keeping=_keeping(settings),
            patience=settings.upstream.until_head,
        )
    try:
        yield store
    finally:
        await store.close()


def _keeping(settings: Settings) -> Keeping:
    return rules(settings.user, settings.views, sealed=bool(settings.redis.seal_keys))


def observers(*each: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """One observer that shows an outcome to all of them, in this order."""

    def observe(outcome: Outcome) -> None:
        for one in each:
            one(outcome)

    return each[0] if len(each) == 1 else observe


@asynccontextmanager
async def _keys(
    tokens: TokenSettings | None,
) -> AsyncIterator[tuple[Verifier | Issuers | None, TokenKeys | None]]:
    """What proves tokens, and where its keys are fetched from: a key server for each issuer."""
    if tokens is None:
        yield None, None
        return
    servers: dict[int, KeyServer] = {}
    # Called only once the walk has begun, when the servers are there.
    verifier = prover(tokens, lambda number: servers[number].unknown_kid())
    async with AsyncExitStack() as stack:
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
            yield verifier, servers.get(0)
            return
        by_issuer = {str(tokens.issuers[number].issuer): server for number, server in servers.items()}
        yield verifier, KeyServers(by_issuer) if by_issuer else None


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
