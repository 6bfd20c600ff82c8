"""Traces as a collector gets them: an OTLP/HTTP receiver here, a proxy and a real Valkey there."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.process.test_topologies import Servers, cluster, free_ports, servers  # noqa: F401 - fixtures
from tests.processes import ROOT, Proxy, Stub, poll
from tests.valkey import Valkey

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.bodies = b""
        self.services: set[str] = set()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """One export."""
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            server.services.add(names["service.name"])
            for scope in resource.scope_spans:
                server.spans += scope.spans
        server.bodies += body
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def attributes(span: Span) -> dict[str, str | int]:
    """Names and values."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_miss_and_a_hit_are_traced(receiver: Receiver, valkey: Valkey) -> None:
    """The walk continues the client's trace, upstream and Redis are in it; nothing personal is."""
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    head = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with Stub.start() as stub, Proxy.start(stub.url, valkey.url, **env) as one:
        user = stub.get("/users/7").json()
        one.get(f"/users/{user['username']}", head)
        again = one.get(f"/users/{user['username']}", head)
        code = one.stop()

    mine = [span for span in receiver.spans if span.trace_id.hex() == TRACE]
    walks = [span for span in mine if span.parent_span_id.hex() == PARENT]
    miss, hit = sorted(walks, key=lambda span: span.start_time_unix_nano)
    inner = [span.name for span in mine if span.parent_span_id == miss.span_id]
    assert ("HIT", 0, {"user-cache-proxy"}) == (again.x_cache, code, receiver.services)
    assert {"upstream", "redis"} == set(inner)
    assert "GET /users/{username}" == miss.name == hit.name
    assert ("MISS", "HIT") == tuple(attributes(span)["user_cache_proxy.x_cache"] for span in (miss, hit))
    assert (200, "/users/{username}") == (
        attributes(hit)["http.response.status_code"],
        attributes(hit)["http.route"],
    )
    private = [user["email"], user["phone"], user["username"], "/users/7", "user:id:7"]
    assert [] == [value for value in private if value.encode() in receiver.bodies]


def traced(receiver: Receiver, redis: str) -> set[str]:
    """What the walk of a miss holds, with that Redis; the next one is a hit, and the proxy ends well."""
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    head = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with Stub.start() as stub, Proxy.start(stub.url, redis, **env) as one:
        assert 200 == one.get("/users/7", head).status
        poll(lambda: one.get("/users/7").x_cache == "HIT", "a hit")
        assert "redis" == one.ask_admin("GET", "/health").json()["backend"]
        assert 0 == one.stop()
    spans = [span for span in receiver.spans if span.trace_id.hex() == TRACE]
    (walk,) = (span for span in spans if span.parent_span_id.hex() == PARENT)
    assert b"user:id:7" not in receiver.bodies
    return {span.name for span in spans if span.parent_span_id == walk.span_id}


def test_a_cluster_is_traced(receiver: Receiver, cluster: str) -> None:  # noqa: F811 - a fixture
    """Its round trips are spans of the walk, however many servers they go to."""
    assert {"upstream", "redis"} == traced(receiver, cluster)


def test_a_master_behind_a_sentinel_is_traced(receiver: Receiver, servers: Servers) -> None:  # noqa: F811 - a fixture
    """The same."""
    master, sentinel = free_ports(2)
    servers.start(master, "--port", str(master))
    text = f"sentinel monitor users 127.0.0.1 {master} 1\n"
    servers.start(sentinel, servers.config(sentinel, text), "--sentinel")
    assert {"upstream", "redis"} == traced(receiver, f"redis+sentinel://127.0.0.1:{sentinel}/users")


def test_upstream_is_told_of_the_span_that_asks_it(receiver: Receiver) -> None:
    """Its parent is the proxy's own span, in the client's trace; without traces the line stays as it came."""
    seen: list[str] = []

    class Origin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Notes the parent."""
            seen.append(self.headers["traceparent"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    head = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as origin:
        thread = threading.Thread(target=origin.serve_forever, args=(0.05,))
        thread.start()
        url = f"http://127.0.0.1:{origin.server_address[1]}"
        env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with Proxy.start(url, **env) as traced:
            traced.get("/nowhere", head)
        with Proxy.start(url) as plain:
            plain.get("/nowhere", head)
        origin.shutdown()
        thread.join()

    (asking,) = (span for span in receiver.spans if span.name == "upstream")
    assert [f"00-{TRACE}-{asking.span_id.hex()}-01", head["traceparent"]] == seen


def test_it_costs_nothing_when_it_is_off() -> None:
    """No SDK for traces, no exporter is imported. (redis-py looks for OpenTelemetry's metrics itself.)"""
    program = "import sys, proxy.server; print([n for n in sys.modules if 'otlp' in n or 'sdk.trace' in n])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert "[]\n" == done.stdout
