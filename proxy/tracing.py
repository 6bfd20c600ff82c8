"""OpenTelemetry spans for the walk, upstream and Redis: the extra `otel`, imported only if asked for.

The endpoint, the sampler and the service's name come from the standard OTEL_… variables, which the SDK reads.
No span holds a URL, a key, a value or the text of an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from proxy.core.errors import ConfigError
from proxy.core.headers import Headers
from proxy.core.model import Outcome, Reply, Request
from proxy.core.observing import method_name
from proxy.core.ports import Upstream
from proxy.store import link

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

T = TypeVar("T")

NAME = "user-cache-proxy"
_CONTEXT = ("traceparent", "tracestate")


@asynccontextmanager
async def tracing() -> AsyncIterator[Tracing]:
    """Sends spans until it is left, and then what is still waiting. Raises ConfigError without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        sentence = f"OTEL_TRACES_EXPORTER: otlp needs an extra; pip install '{NAME}[otel]'"
        raise ConfigError((sentence,)) from None
    resource = Resource({SERVICE_NAME: NAME}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    spans = Tracing(provider.get_tracer(NAME))
    before, link.around = link.around, spans.redis
    try:
        yield spans
    finally:
        link.around = before
        # It waits for the collector, in its own thread's time.
        await asyncio.to_thread(provider.shutdown)


class Tracing:
    """Makes the spans; `tracer` is OpenTelemetry's."""

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    def walk(self, inner: Callable[[Request], Awaitable[Reply]]) -> Callable[[Request], Awaitable[Reply]]:
        """The walk in a span, whose parent is what the client's `traceparent` names."""

        async def walk(request: Request) -> Reply:
            lines = {name: request.headers.get_all(name) for name in _CONTEXT}
            carrier = {name: found[0] for name, found in lines.items() if len(found) == 1}
            parent = self._propagator.extract(carrier)
            with self._span(method_name(request.method), self._trace.SpanKind.SERVER, context=parent):
                return await inner(request)

        return walk

    def observe(self, outcome: Outcome) -> None:
        """Writes what became of the request into its span, which is the current one."""
        span = self._trace.get_current_span()
        route = outcome.route.partition(" ")[2].partition("?")[0]
        span.update_name(f"{outcome.method} {route}".strip())
        told = {
            "http.request.method": outcome.method,
            "http.response.status_code": outcome.status or None,
            "http.route": route or None,
            "user_cache_proxy.kind": outcome.kind,
            "user_cache_proxy.x_cache": outcome.x_cache.value,
            "user_cache_proxy.reason": None if outcome.reason is None else outcome.reason.value,
            "user_cache_proxy.tier": None if outcome.tier is None else outcome.tier.value,
        }
        span.set_attributes({name: value for name, value in told.items() if value is not None})
        if outcome.status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)

    def upstream(self, inner: Upstream) -> Upstream:
        """The same upstream: each request to it has a span, which it is told as the request's parent."""
        return _Upstream(self, inner)

    async def asked(self, request: Request, send: Callable[[Request], Awaitable[Reply]]) -> Reply:
        """One request to upstream."""
        with self._span("upstream", self._trace.SpanKind.CLIENT) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            own = [(name.encode("ascii"), value.encode("ascii", "ignore")) for name, value in carrier.items()]
            headers = request.headers.without(name.encode("ascii") for name in _CONTEXT)
            reply = await send(replace(request, headers=Headers((*headers.raw, *own))))
            span.set_attributes(
                {
                    "http.request.method": method_name(request.method),
                    "http.response.status_code": reply.status,
                }
            )
            return reply

    def redis(self, commands: Sequence[Any]) -> AbstractContextManager[Any]:
        """A span around one round trip to Redis: how many commands, never which keys."""
        kind = self._trace.SpanKind.CLIENT
        attributes = {"db.system.name": "redis", "db.operation.batch.size": len(commands)}
        return self._span("redis", kind, attributes=attributes)

    def _span(self, name: str, kind: Any, **more: Any) -> AbstractContextManager[Span]:
        # The text of an exception may quote what a client sent.
        return self._tracer.start_as_current_span(
            name, kind=kind, record_exception=False, set_status_on_exception=False, **more
        )


class _Upstream:
    """Implements `ports.Upstream`."""

    def __init__(self, spans: Tracing, inner: Upstream) -> None:
        self._spans = spans
        self._inner = inner

    async def send(self, request: Request) -> Reply:
        """See the port."""
        return await self._spans.asked(request, self._inner.send)
