"""A request that is only passed on, from the client's connection to upstream's and back, without a task.

Taken are plain requests that no route, or a `pass` route, is for, while a connection to upstream lies idle
and the body, if there is one, has arrived. One pattern reads the head, and another that of the answer, which
goes out in one write if it has arrived whole and is as plain. Whatever else happens (an answer in parts or in
chunks, an interim one, a failure, no answer in time) is carried on by the walk, which is shown the same
bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from typing import Protocol

from msgspec.structs import replace

from proxy.connection import Connection
from proxy.core.forwarding import forwarded, returned
from proxy.core.headers import Headers
from proxy.core.model import Outcome, Reason, Reply, Request
from proxy.core.observing import method_name, request_id, trace_id
from proxy.core.replies import finished
from proxy.core.requesthead import RequestHead, read_head
from proxy.core.routing import READS
from proxy.core.verbatim import Answer, Plain, plain_answer, plain_request
from proxy.pipeline import Pipeline
from proxy.requestbody import SMALL, RequestBody, Source, sent_body
from proxy.steps.exchange import send
from proxy.upstream import HttpUpstream

Walk = Callable[[Request], Awaitable[Reply]]


class Passenger(Source, Protocol):
    """A client's connection."""

    transport: asyncio.Transport | None
    gone: bool
    ending: bool
    peer: str | None
    scheme: str
    body: RequestBody | None

    def request(self, head: RequestHead) -> Request:
        """The request in hand, for a walk."""
        ...

    def walk(self, request: Request, walk: Walk, *, keep_alive: bool) -> asyncio.Task[None]:
        """Has the request in hand answered by a task."""
        ...

    def passed(self, *, keep_alive: bool) -> None:
        """The answer was written."""
        ...


class Counting(Protocol):
    """Who has requests in hand, and is to know when the last one has ended."""

    busy: int

    def left(self) -> None:
        """One request has ended."""
        ...


class Passages:
    """Begins them, for a `line`; `date` gives the text of this second's Date."""

    line: Counting

    def __init__(self, pipeline: Pipeline, upstream: HttpUpstream, date: Callable[[], bytes]) -> None:
        self.pipeline = pipeline
        self.upstream = upstream
        self.date = date
        settings = pipeline.services.settings
        self.limits = limits = settings.limits
        # A head that is no longer breaks none of the three.
        self._longest = min(limits.target, limits.field, limits.head)
        self._most_lines = limits.fields + 2
        self._largest = SMALL if limits.body is None else min(SMALL, limits.body)
        self._rules = settings.edge
        self._gives_ids = settings.observing.send_request_id
        self.told = settings.observing.log_requests
        # Clients, and names of the service, are few, and stay the same from one request to the next.
        self._added = lru_cache(maxsize=1024)(self._make_added)

    def begin(self, client: Passenger, data: bytes, ahead: bytes) -> Passage | None:
        """Sends the request whose head is `data`; None: it is to be walked.

        `ahead` is what has come behind the head; the passage's `content` is taken of it.
        """
        if len(data) > self._longest or data.count(b"\n") > self._most_lines:
            return None
        plain = plain_request(data)
        if plain is None or (self._gives_ids and plain.request_id is None):
            return None
        length = plain.length
        if length > len(ahead) or length > self._largest:
            return None
        found = self.pipeline.passed(plain.method, plain.target)
        connection = None if found is None else self.upstream.lend()
        if found is None or connection is None or connection.transport is None:
            return None
        content = ahead[:length]
        added = self._added(client.peer, client.scheme, plain.host)
        passage = Passage(self, client, connection, data, plain, content, found)
        connection.receiver = passage
        connection.transport.write(b"%b%b\r\n%b" % (plain.head, added, content))
        connection.arm(self.upstream.until_head, "did not answer in time")
        self.line.busy += 1
        return passage

    def _make_added(self, peer: str | None, scheme: str, host: bytes) -> bytes:
        """What `forwarded` adds to the lines of any plain request of this client."""
        given = Request("GET", "/", Headers(((b"Host", host),)), None, peer, scheme)
        lines = forwarded(given, fill=False, rules=self._rules).headers.raw[1:]
        return b"".join(b"%b: %b\r\n" % line for line in lines)


class Passage:
    """One exchange. To the client's connection it is what a task is: there, and to be cancelled."""

    __slots__ = (
        "_began",
        "_client",
        "_connection",
        "_data",
        "_found",
        "_owner",
        "_plain",
        "content",
    )

    def __init__(
        self,
        owner: Passages,
        client: Passenger,
        connection: Connection,
        data: bytes,
        plain: Plain,
        content: bytes,
        found: tuple[str, Reason],
    ) -> None:
        self._began = perf_counter()
        self._owner = owner
        self._client = client
        self._connection = connection
        self._data = data
        self._plain = plain
        self.content = content
        self._found = found

    @property
    def abandonable(self) -> bool:
        """Whether it ends where its client is gone."""
        return self._plain.method in READS

    def received(self, data: bytes) -> None:
        """See connection.Receiver."""
        answer = plain_answer(data, self._plain.method)
        if answer is None:
            self._carry_on(data)
            return
        connection, client, owner = self._connection, self._client, self._owner
        connection.receiver = None
        connection.disarm()
        owner.upstream.give_back(connection, reusable=answer.persistent and connection.fit)
        outcome = self._outcome()
        outcome.status = outcome.upstream_status = answer.status
        owner.pipeline.observe(outcome)
        owner.line.left()
        keep_alive = not client.ending
        if not client.gone and client.transport is not None:
            client.transport.write(self._answered(answer, keep_alive=keep_alive))
        client.passed(keep_alive=keep_alive)

    def interrupted(self) -> None:
        """See connection.Receiver."""
        self._carry_on(b"")

    def cancel(self) -> None:
        """The client is gone, and nobody wants the answer."""
        self._connection.receiver = None
        self._owner.upstream.give_back(self._connection, reusable=False)
        outcome = self._outcome()
        outcome.status = 499  # as the walk calls it
        self._owner.pipeline.observe(outcome)
        self._owner.line.left()

    def _outcome(self) -> Outcome:
        route, reason = self._found
        spent = perf_counter() - self._began
        outcome = Outcome(
            route=route,
            method=method_name(self._plain.method),
            reason=reason,
            seconds=spent,
            upstream_seconds=spent,
        )
        if self._owner.told:
            names = self._plain.names
            outcome.request_id, outcome.trace_id = request_id(names), trace_id(names)
        return outcome

    def _answered(self, answer: Answer, *, keep_alive: bool) -> bytes:
        dated = b"" if answer.dated else b"Date: %b\r\n" % self._owner.date()
        said, close = _said(self._found[1], answer.status), b"" if keep_alive else b"Connection: close\r\n"
        return b"%b%b%b%b\r\n%b" % (answer.head, said, dated, close, answer.content)

    def _carry_on(self, data: bytes) -> None:
        """The same exchange, as the walk would have it by now."""
        connection, client, owner = self._connection, self._client, self._owner
        connection.receiver = None
        if self.content:
            client.body = sent_body(client, self.content, owner.limits)
        request = client.request(read_head(self._data, owner.limits))
        answer = connection.begin(request.method, None, request.interim)
        connection.request_sent = True
        services = replace(owner.pipeline.services, upstream=owner.upstream.resumed(connection, answer))
        outcome = self._outcome()

        async def walk(request: Request) -> Reply:
            return await owner.pipeline.told(outcome, self._began, send(services, request, outcome))

        client.walk(request, walk, keep_alive=True).add_done_callback(lambda _: owner.line.left())
        if data:
            connection.data_received(data)


@lru_cache(maxsize=512)
def _said(reason: Reason, status: int) -> bytes:
    """The lines that are added to a plain answer."""
    outcome = Outcome(reason=reason, upstream_status=status)
    lines = finished(Reply(status, b"", returned(())), outcome).headers
    return b"".join(b"%b: %b\r\n" % line for line in lines)
