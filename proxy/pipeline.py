"""The walk: match → identify → allow → key → cache → reply. Knows no framework; one Outcome a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import token_hex
from time import perf_counter
from typing import Final, assert_never

from msgspec.structs import replace

from proxy.core import maxforwards
from proxy.core.errors import ClientError, ClientGone, InvalidToken, UpstreamError
from proxy.core.forwarding import has_override
from proxy.core.headers import Headers
from proxy.core.model import Outcome, Reason, Reply, Request
from proxy.core.observing import REQUEST_ID, method_name, request_id, trace_id
from proxy.core.problems import CHALLENGE, error_reply, problem_reply
from proxy.core.replies import finished
from proxy.core.rolloutsettings import Mode
from proxy.core.routing import OTHER_SAFE, READS, Match, Router
from proxy.core.settings import Introspect, Lookup, Pass, Resource, Write
from proxy.steps.batch import Batches, batch
from proxy.steps.exchange import Exchange, Services, send
from proxy.steps.forms import with_form
from proxy.steps.introspect import introspect
from proxy.steps.invalidate import invalidating
from proxy.steps.lookup import lookup
from proxy.steps.passing import bypass
from proxy.steps.resource import resource
from proxy.steps.samples import Samples
from proxy.steps.shadow import shadow
from proxy.steps.write import write

_STRANGE: Final = ("", Reason.NO_ROUTE)


class Pipeline:
    """Walks requests; each finished one is shown to `observe` once."""

    def __init__(self, services: Services, observe: Callable[[Outcome], None]) -> None:
        self.services = services
        self.router = Router(services.settings.routes)
        self.observe = observe
        self._batches = Batches()
        self.samples = Samples()
        self._gives_ids = services.settings.observing.send_request_id

    async def __call__(self, request: Request) -> Reply:
        """The answer to one request; what the client or upstream did wrong is a problem+json answer."""
        began = perf_counter()
        request, outcome = self._named(request)
        return await self.told(outcome, began, self._walk(request, outcome))

    async def told(self, outcome: Outcome, began: float, walk: Awaitable[Reply]) -> Reply:
        """What the client gets of a walk that began then, told of in `outcome`."""
        try:
            reply = await walk
            outcome.status = reply.status
        except InvalidToken as error:
            reply = problem_reply(error.status, error.problem, error.detail, CHALLENGE)
            outcome.status = reply.status
        except (ClientError, UpstreamError) as error:
            reply = error_reply(error)
            outcome.status = reply.status
        except BaseException as error:
            # For counters and logs only: the client is gone, or gets this from the edge.
            outcome.status = (
                500 if isinstance(error, Exception) and not isinstance(error, ClientGone) else 499
            )
            raise
        finally:
            outcome.seconds = perf_counter() - began
            # Here and not below, so that a request whose client hung up is observed as well.
            self.observe(outcome)
        return finished(reply, outcome)

    def _named(self, request: Request) -> tuple[Request, Outcome]:
        """The request, with an X-Request-Id if it is to have one, and an outcome that knows its names."""
        name, headers = request_id(request.headers), request.headers
        if self._gives_ids and REQUEST_ID not in headers:
            name = token_hex(8)
            line = (REQUEST_ID.encode("ascii"), name.encode("ascii"))
            request = replace(request, headers=Headers((*headers.raw, line)))
        return request, Outcome(
            method=method_name(request.method), request_id=name, trace_id=trace_id(headers)
        )

    async def _walk(self, request: Request, outcome: Outcome) -> Reply:
        onward = maxforwards.onward(request)
        if onward is None:
            outcome.refused, outcome.reason = True, Reason.MAX_FORWARDS
            return maxforwards.options_reply()
        request = onward
        match = self.match(request.method, request.target, request.headers)
        overridden = has_override(request.headers)
        safe = request.method in READS or request.method in OTHER_SAFE or _asks(match)
        if (not safe or overridden) and self.router.is_resource(request.target):
            # Whatever serves it: what is stored of its URL goes with its success.
            return await invalidating(
                self.services, request, outcome, lambda: self._route(request, match, outcome)
            )
        return await self._route(request, match, outcome)

    async def _route(self, request: Request, match: Match | None, outcome: Outcome) -> Reply:
        if match is None or not match.exact:
            outcome.reason = Reason.NO_ROUTE
            return await send(self.services, request, outcome, switch=True)
        outcome.route = match.route.name
        x = Exchange(self.services, request, match.route, match.values, outcome)
        action = match.route.action
        if isinstance(action, Pass):
            outcome.reason = Reason.PASS_ROUTE
            return await x.forward(switch=True)
        if isinstance(action, Write) or (isinstance(action, Lookup) and match.implied):
            outcome.kind = "write"
            return await write(x, action)
        if self.services.rollout.mode is Mode.OFF:
            outcome.reason = Reason.MODE_OFF
            return await x.forward()
        outcome.kind = kind_of(action)
        form = isinstance(action, Introspect) and bool(action.form)
        why = unkeyed(request, form=form)
        if self.services.rollout.mode is Mode.SHADOW:
            # Forms go on as they are: what their answers would have been is not compared.
            return await shadow(x, self._answer, Reason.SHADOW if form else why)
        if isinstance(action, Resource) and why is not None:
            return await resource(x, action, why)
        if isinstance(action, Introspect) and form and why is None:
            x, why = await with_form(x, action)
        if why is not None:
            return await bypass(x, why)
        return await self.samples(x, self._answer)

    async def _answer(self, x: Exchange) -> Reply:
        action = x.route.action
        match action:
            case Lookup(many=True):
                return await batch(x, action, self._batches)
            case Lookup():
                return await lookup(x, action)
            case Introspect():
                return await introspect(x, action)
            case Resource():
                return await resource(x, action, None)
            case Write() | Pass():
                raise AssertionError(x.route.name)
            case _:
                assert_never(action)

    def passed(self, method: str, target: str) -> tuple[str, Reason] | None:
        """The route, and why it is not looked up, of a request without overrides that is only passed on."""
        if self.router.is_strange(target):
            return _STRANGE
        # The walk would look for the route of such a read once more.
        if method in READS and self.router.may_answer(method, target):
            return None
        if method not in READS and method not in OTHER_SAFE and self.router.is_resource(target):
            return None
        match = self.router.match(method, target)
        if match is None:
            return _STRANGE
        return (match.route.name, Reason.PASS_ROUTE) if isinstance(match.route.action, Pass) else None

    def match(self, method: str, target: str, headers: Headers) -> Match | None:
        """The route of a request; one whose real method may hide in a header is a write on its path."""
        match = self.router.match(method, target)
        if (method in READS or _asks(match)) and has_override(headers):
            return self.router.match_write_path(target) or match
        return match


def _asks(match: Match | None) -> bool:
    """Whether it is a question although its method is no read."""
    if match is None or not match.exact:
        return False
    return isinstance(match.route.action, Introspect) and bool(match.route.action.form)


def kind_of(action: Lookup | Introspect | Resource) -> str:
    """The kind of what is answered from the cache, as counters and logs call it."""
    if isinstance(action, Resource):
        return "resource"
    if isinstance(action, Introspect):
        return "introspect"
    return "batch" if action.many else "lookup"


def unkeyed(request: Request, *, form: bool = False) -> Reason | None:
    """What makes a request mean something that no key holds (design §7.8), if anything does.

    `form`: its body is looked at elsewhere.
    """
    if request.body is not None and not form:
        return Reason.REQUEST_BODY
    if has_override(request.headers):
        return Reason.OVERRIDE_HEADER
    if "upgrade" in request.headers:
        return Reason.REQUEST_UPGRADE
    return None
