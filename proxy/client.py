"""One client connection: heads in, bodies in, answers out, one request after the other.

A request is taken from the bytes only at a proven boundary: behind the complete body of the one before, and
after its answer. Each wait has a deadline; what breaks the rules is answered once and then not listened to.
"""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.core.errors import ClientError
from proxy.core.model import Reply, Request
from proxy.core.ports import Glance
from proxy.core.requesthead import RequestHead, check_beginning, read_head
from proxy.core.routing import READS
from proxy.duplex import Duplex
from proxy.fastpath import PIPELINED
from proxy.hints import Hints
from proxy.host import Host, Overloaded, check_room
from proxy.passage import Passage, Walk
from proxy.readytext import LONGEST
from proxy.requestbody import RequestBody, body_of
from proxy.waiting import Share

HEAD_END: Final = b"\r\n\r\n"
# How long an answered client's bytes are still taken, so that the answer is not lost in a reset.
LINGER: Final = 5.0
# How much is kept of what a client sends ahead of its answers.
AHEAD: Final = 64 * 1024


class Client(Duplex):
    """`ending`: no request after the one in hand will be answered. `peer` is None on a unix socket."""

    __slots__ = (
        "_abandonable",
        "_buffer",
        "_checked",
        "_head",
        "_host",
        "_share",
        "_task",
        "body",
        "deaf",
        "ending",
        "peer",
        "scheme",
        "trusted",
    )

    def __init__(self, host: Host[Client]) -> None:
        self._host = host
        super().__init__(host.limits.body_timeout, host.waiting)
        self._share = Share(host.waiting)  # what has come of a head, or ahead of its turn
        self.peer: str | None = None
        self.trusted = True
        self.scheme = "http"
        self.ending = False
        self.deaf = False  # the last answer is out, what still comes is dropped
        self._buffer = b""
        self._checked = 0
        self._head = b""
        self.body: RequestBody | None = None
        self._task: asyncio.Task[None] | Passage | Glance | None = None
        self._abandonable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there; it may be one too many."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = name[0]
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self.trusted = self._host.edge.trusts(self.peer)
        if self._host.opened(self):
            self._arm(self._host.limits.idle_timeout, self.close)
        else:
            self._host.refuse(self, Overloaded())

    def data_received(self, data: bytes) -> None:
        """Bytes go to the body that is being read, or they are the beginning of the next request."""
        if self._task is None and self.body is None and not self._buffer and not self.deaf:
            end = data.find(HEAD_END) + 4
            if 4 < end == len(data) <= LONGEST and data[0] != 13:  # a "\r"
                self._take(data)  # one head, whole and alone, as most come
                return
        if self.deaf:
            return
        body = self.body
        if body is not None and not body.complete:
            data = body.feed(data)
            if not body.complete:
                return
            if self._task is None:
                self._disarm()  # the rest of a body that nobody wanted
                self._buffer = data
                self._next()
                return
            if not data:
                return
        self._buffer = self._buffer + data if self._buffer else data
        if self._task is None:
            self._next()
        self._hold_back()

    def _hold_back(self) -> None:
        """Reads no more of a client that is too far ahead of its answers."""
        if self._task is not None and self._buffer:
            self._share.hold(len(self._buffer))
            if self._share.too_much(AHEAD):
                self.pause()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody waits for a read any more; a write that upstream may have begun comes to its end."""
        super().connection_lost(exc)
        if self.body is not None:
            self.body.leave()
        self._share.hold(0)
        if self._task is not None and self._abandonable:
            self._task.cancel()
        self._host.closed(self)

    def close(self) -> None:
        """Nothing more is said; what was written still goes out, and what comes is dropped for a while."""
        self.deaf = True
        self._buffer = b""
        self.bow_out(LINGER)

    def wind_down(self) -> None:
        """The server shuts down: the answer in the making is the last one."""
        self.ending = True
        if self._task is None:
            self.abort() if self.deaf else self.close()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def leave(self) -> tuple[bytes, float]:
        """For another protocol: what came ahead of it, and how long it may be silent."""
        ahead, self._buffer = self._buffer, b""
        return ahead, self._host.limits.tunnel_timeout

    def _next(self) -> None:
        """Begins with the next request, if its head is complete; what is ready is answered at once."""
        if self.body is not None:
            self.body.throw_away()
            self.body = None
        if self._share.held:
            self._share.hold(0)
        for turn in range(PIPELINED + 1):
            if self._checked == 0:
                # RFC 9112 §2.2: an empty line before a request is no fault.
                while self._buffer.startswith(b"\r\n"):
                    self._buffer = self._buffer[2:]
            buffer = self._buffer
            if not buffer:
                self._arm(self._host.limits.idle_timeout, self.close)
                return
            end = buffer.find(HEAD_END, max(self._checked - 3, 0)) + 4
            if end < 4:
                break
            self._checked = 0
            head = buffer if end == len(buffer) else buffer[:end]
            self._buffer = buffer[end:]
            if turn == PIPELINED or end > LONGEST or not head.startswith(b"GET"):
                self._walk(head)  # no answer is ready
                return
            if not self._take(head):
                return
        self._wait_for_head()

    def _take(self, head: bytes) -> bool:
        """Answers a request if that is ready, else begins to walk it; whether it is answered."""
        replays, transport = self._host.replays, self.transport
        # A client that does not read leaves its answers with the walk, which waits for it.
        if replays is not None and not self._stuck and not self.ending and transport is not None:
            ready = replays.answer(head)
            if ready is not None:
                transport.write(ready)
                # What is armed between requests is the end of an idle connection.
                self._deadline.due = self._loop.time() + self._host.limits.idle_timeout
                return True
            asked = None if replays.form is None else replays.ask(head, self)
            if asked is not None:
                self._disarm()
                self._abandonable = True
                self._task = asked
                return False
        self._walk(head)
        return False

    def given(self, head: bytes, answer: bytes | None) -> bool:
        """See Asker."""
        self._task, transport = None, self.transport
        if answer is None or transport is None or self._stuck or self.ending:
            self._walk(head)
            return False
        transport.write(answer)
        if self._buffer:
            self.passed(keep_alive=True)
        else:
            self._arm(self._host.limits.idle_timeout, self.close)
        return True

    def _walk(self, head: bytes) -> None:
        self._disarm()
        self._head = head
        passages = self._host.passages
        # A client that does not read is waited for by the walk.
        if passages is not None and not (self._stuck or self.waiting.full):
            passage = passages.begin(self, head, self._buffer)
            if passage is not None:
                self._task, self._abandonable = passage, passage.abandonable
                self._buffer = self._buffer[len(passage.content) :]
                return
        try:
            said = read_head(head, self._host.limits)
            check_room(self.waiting)
            self.body = None if said.length == 0 else body_of(self, said, self._host.limits)
        except ClientError as error:
            self._host.refuse(self, error)
            return
        if self.body is not None and self._buffer:
            self._buffer = self.body.feed(self._buffer)
        self._abandonable = said.method in READS
        self.walk(self.request(said), None, keep_alive=said.keep_alive)

    def _wait_for_head(self) -> None:
        self._share.hold(len(self._buffer))
        try:
            check_room(self.waiting)
            check_beginning(self._buffer, self._checked, self._host.limits)
        except ClientError as error:
            self._host.refuse(self, error)
            return
        if self._checked == 0:
            self._arm(self._host.limits.head_timeout, self._late)
        self._checked = len(self._buffer)

    def learn(self, reply: Reply) -> None:
        """The walk has offered its answer to the request in hand."""
        if self._host.replays is not None and self.body is None:
            self._host.replays.learn(self._head, reply)

    def request(self, head: RequestHead) -> Request:
        """The request in hand."""
        hints = Hints(self) if head.version == "1.1" else None
        whence = (self.body, self.peer, self.scheme, head.version, self.trusted)
        return Request(head.method, head.target, head.headers, *whence, hints)

    def walk(self, request: Request, walk: Walk | None, *, keep_alive: bool) -> asyncio.Task[None]:
        """Has the request in hand answered by a task."""
        self._task = self._loop.create_task(self._serve(request, walk, keep_alive=keep_alive))
        return self._task

    def passed(self, *, keep_alive: bool) -> None:
        """The answer is out; what is left of the request's body is taken and thrown away."""
        self._task = None
        if self.gone:
            return
        body = self.body
        if not keep_alive or self.ending or (body is not None and body.error is not None):
            self.close()
        elif body is not None and not body.complete:
            body.throw_away()
            self._arm(LINGER, self.close)
        else:
            self.resume()
            self._next()
            self._hold_back()

    async def _serve(self, request: Request, walk: Walk | None, *, keep_alive: bool) -> None:
        try:
            body = self.body
            if body is not None and isinstance(body.error, ClientError):
                # The head had come with a body that is known to be broken: nothing of it is forwarded.
                self._host.refuse(self, body.error)
                return
            keep_alive = await self._host.serve(self, request, walk, keep_alive=keep_alive)
        except ConnectionError:
            self.abort()
            return
        except BaseException:
            self.abort()
            raise
        finally:
            self._task = None
        self.passed(keep_alive=keep_alive)

    def _late(self) -> None:
        self._host.refuse(self, ClientError(408, "request-timeout", "The request's head stopped coming."))
