"""Which route a request is for. Reads match exactly; writes match in every way upstream may read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from proxy.core.matching import NEVER, Exact, Index, Loose, Parameters
from proxy.core.settings import Introspect, Lookup, Pass, Resource, Route, Write
from proxy.core.spelling import Value, paths, query
from proxy.core.template import parse_template

__all__ = ["Match", "Router", "parse_template"]

READS = frozenset({"GET", "HEAD"})
# RFC 9110 §9.2.1, less the reads.
OTHER_SAFE = frozenset({"OPTIONS", "TRACE"})
# A path of which there is one reading, in as many segments as there are slashes.
_SEGMENT: Final = r"[A-Za-z0-9\-_~!$&'()*+,:=@][A-Za-z0-9\-_~!$&'()*+,:=@.]*+"
_PLAIN: Final = re.compile(rf"/({_SEGMENT})(?:/{_SEGMENT})*+(?=\?|\Z)")


class Match(msgspec.Struct, frozen=True):
    """The route of a request and the decoded values of its variables (tuples for `list`).

    `implied`: a write on the path of a look-up, without a route of its own. `exact` is False where a request
    that is no read is spelled otherwise than the route that it may be for. On a write, a variable is missing
    from `values` where its parameter is, or where servers disagree on what its spelling means.
    """

    route: Route
    values: dict[str, Value]
    implied: bool = False
    exact: bool = True

    def __repr__(self) -> str:
        # Values may be e-mail addresses and phone numbers.
        return f"Match({self.route.name!r}, values of {sorted(self.values)}, implied={self.implied})"


class Router:
    """Finds the route of a request; the first of the file wins. Keeps nothing of a request."""

    __slots__ = ("_all", "_exact", "_explicit", "_implied", "_loose_reads", "_posted", "_resources")

    def __init__(self, routes: Iterable[Route]) -> None:
        numbered = list(enumerate(routes))
        self._all = Index(Loose(*pair) for pair in numbered)
        self._exact: dict[str, Index[Exact]] = {}
        self._loose_reads: dict[str, Index[Loose]] = {}
        for method in READS:
            mine = [pair for pair in numbered if _reads(pair[1], method)]
            self._exact[method] = Index(Exact(*p) for p in mine if not isinstance(p[1].action, Write))
            self._loose_reads[method] = Index(Loose(*p) for p in mine if isinstance(p[1].action, Write))
        # A look-up is answered from the cache, so only a read may ever reach it.
        self._explicit = Index(
            Loose(*p) for p in numbered if isinstance(p[1].action, Write | Pass) or _posted(p[1])
        )
        self._posted = Index(Exact(*p) for p in numbered if _posted(p[1]))
        self._resources = Index(Loose(*p) for p in numbered if isinstance(p[1].action, Resource))
        self._implied = Index(Loose(*p) for p in numbered if isinstance(p[1].action, Lookup))

    def match(self, method: str, target: str) -> Match | None:
        """The route for a method (case-sensitive) and a raw target, or None: forward, store nothing."""
        if method in READS:
            return self._match_read(method, target)
        parameters = query(target)
        found: list[_Ranked] = []
        for path in paths(target):
            explicit = _first(self._explicit, path, parameters, method)
            if explicit or method in OTHER_SAFE:
                found += explicit
            else:
                found += self._match_implied(path, parameters)
        match = _agreed(found)
        if match is None or not _posted(match.route):
            return match
        exact = _first_exact(self._posted, target)
        return Match(match.route, {}, exact=exact is not None and exact.match.route is match.route)

    def is_strange(self, target: str) -> bool:
        """Whether a target of plain spelling has the outward form of no route: no method finds one for it."""
        found = _PLAIN.match(target)
        return found is not None and not self._all.candidates(found[0].count("/"), found[1])

    def may_answer(self, method: str, target: str) -> bool:
        """Whether a read of this target has the outward form of one that is answered here. No: it is not."""
        path = target.partition("?")[0]
        segments = path.split("/", 2)
        if len(segments) > 1:
            for one in self._exact[method].candidates(path.count("/"), segments[1]):
                if not isinstance(one.route.action, Pass):
                    return True
        return False

    def is_resource(self, target: str) -> bool:
        """Whether a GET of this target, in some spelling of it, may be answered as a resource."""
        return any(
            route.values(path, {}, whole=False) is not None
            for path in paths(target)
            for route in self._resources.candidates(len(path), path[0] if path else "")
        )

    def match_write_path(self, target: str) -> Match | None:
        """The write that any unsafe method on this target implies; for methods that hide in headers."""
        parameters = query(target)
        return _agreed([one for path in paths(target) for one in self._match_implied(path, parameters)])

    def _match_read(self, method: str, target: str) -> Match | None:
        answered = _first_exact(self._exact[method], target)
        index = self._loose_reads[method]
        # Most files have no read that writes, or name it last: then reads cost nothing more.
        if index.earliest < (answered.order if answered else NEVER):
            parameters = query(target)
            written = [one for path in paths(target) for one in _first(index, path, parameters)]
            found = _agreed([one for one in written if answered is None or one.order < answered.order])
            if found:
                return found
        return answered.match if answered else None

    def _match_implied(self, path: tuple[str, ...], parameters: Parameters) -> list[_Ranked]:
        by_path: list[_Ranked] = []
        by_query: list[_Ranked] = []
        nameless: list[_Ranked] = []
        for route in self._implied.candidates(len(path), path[0] if path else ""):
            values = route.values(path, parameters, whole=False)
            if values is None:
                continue
            # `DELETE /users?ids=1` is also on the path of `/users?phone={phone}`: what it names counts.
            kind = by_path if not route.keyed_by_query else by_query if route.named(parameters) else nameless
            kind.append(_Ranked(route.order, Match(route.route, values, implied=True)))
        return by_path[:1] + by_query or nameless[:1]


class _Ranked(NamedTuple):
    order: int
    match: Match


def _first_exact(index: Index[Exact], target: str) -> _Ranked | None:
    path, question, parameters = target.partition("?")
    segments = path.split("/", 2)
    if len(segments) < 2:
        return None
    # An empty query is another spelling of none at all.
    pairs = parameters.split("&") if question else []
    for route in index.candidates(path.count("/"), segments[1]):
        values = route.values(path, pairs)
        if values is not None:
            return _Ranked(route.order, Match(route.route, values))
    return None


def _first(
    index: Index[Loose], path: tuple[str, ...], parameters: Parameters, method: str | None = None
) -> list[_Ranked]:
    for route in index.candidates(len(path), path[0] if path else ""):
        if method is None or method in route.route.template.methods:
            values = route.values(path, parameters, whole=True)
            if values is not None:
                return [_Ranked(route.order, Match(route.route, values))]
    return []


def _agreed(found: list[_Ranked]) -> Match | None:
    """One match for all readings of a target: the one that drops most, with the values that all agree on."""
    if not found:
        return None
    best = min(found, key=lambda one: (_caution(one.match), one.order)).match
    writes = [one.match for one in found if not isinstance(one.match.route.action, Pass | Introspect)]
    alone = all(other.route is best.route for other in writes)
    values = {
        name: value
        for name, value in best.values.items()
        if alone and all(other.values.get(name) == value for other in writes)
    }
    return Match(best.route, values, best.implied)


def _caution(match: Match) -> int:
    match match.route.action:
        case Write(all=True):
            return 0
        case Lookup():
            # With no agreed values left, its user is unknown, which is the careful outcome.
            return 1
        case Write():
            return 2
        case _:
            return 3


def _posted(route: Route) -> bool:
    """Whether it answers from the cache although its method is no read."""
    return isinstance(route.action, Introspect) and bool(route.action.form)


def _reads(route: Route, method: str) -> bool:
    methods = route.template.methods
    return method in methods or (method == "HEAD" and "GET" in methods)
