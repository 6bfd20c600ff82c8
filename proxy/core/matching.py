"""One route, compiled to be matched exactly or loosely, and an index over many."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from proxy.core.settings import Literal, Lookup, Part, Resource, Route, Var, VarType, Write
from proxy.core.spelling import PATTERNS, Value, decoded, exact, exact_query, loose

Parameters = Mapping[str, set[str | None]]

# Comes after every route of a file.
NEVER = sys.maxsize


class Exact:
    """A route that is matched in its one exact spelling."""

    __slots__ = ("_any_query", "_path", "_query", "_types", "first", "length", "open", "order", "route")

    def __init__(self, order: int, route: Route) -> None:
        segments = route.template.segments
        # Its key is the whole URL, so no input is without a key.
        self._any_query = isinstance(route.action, Resource)
        self.order, self.route = order, route
        self.first, self.length, self.open = _shape(segments)
        self._types = [(part.name, part.type) for part in segments if isinstance(part, Var)]
        self._path = re.compile("".join(f"/{_pattern(part)}" for part in segments))
        self._query = dict(route.template.query)

    def values(self, path: str, pairs: list[str]) -> dict[str, Value] | None:
        """The variables' values, or None where the spelling is not exactly the template's."""
        found = self._path.fullmatch(path)
        if found is None or (len(pairs) != len(self._query) and not self._any_query):
            return None
        values: dict[str, Value] = {}
        for (name, kind), raw in zip(self._types, found.groups(), strict=True):
            value = exact(kind, raw)
            if value is None:
                return None
            values[name] = value
        return self._query_values(pairs, values) if self._query else values

    def _query_values(self, pairs: list[str], values: dict[str, Value]) -> dict[str, Value] | None:
        seen = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        # As many names as pairs, so none appears twice and none is unknown.
        if seen.keys() != self._query.keys():
            return None
        for name, part in self._query.items():
            if isinstance(part, Literal):
                if seen[name] != part.text:
                    return None
                continue
            value = exact_query(part.type, seen[name])
            if value is None:
                return None
            values[part.name] = value
        return values


class Loose:
    """A route that is matched in any spelling that upstream may understand."""

    __slots__ = ("_ids", "_parts", "_query", "first", "length", "open", "order", "route")

    def __init__(self, order: int, route: Route) -> None:
        self.order, self.route = order, route
        # Trailing slashes are tolerated, so the template's own does not count either.
        plain = [part for part in route.template.segments if part != Literal(text="")]
        self._parts = [_decoded(part) for part in plain]
        self._query = [(decoded(name), _decoded(part, form=True)) for name, part in route.template.query]
        self._ids = _id_variables(route)
        self.first, self.length, self.open = _shape(self._parts)

    @property
    def keyed_by_query(self) -> bool:
        return any(isinstance(part, Var) for _, part in self._query)

    def named(self, parameters: Parameters) -> bool:
        return all(name in parameters for name, part in self._query if isinstance(part, Var))

    def values(
        self, path: tuple[str, ...], parameters: Parameters, *, whole: bool
    ) -> dict[str, Value] | None:
        """The variables' values as far as they are clear, or None. `whole`: the query must match as well."""
        if len(path) < self.length or (len(path) > self.length and not self.open):
            return None
        values: dict[str, Value] = {}
        for index, part in enumerate(self._parts):
            is_rest = isinstance(part, Var) and part.type is VarType.PATH
            if not self._take(part, "/".join(path[index:]) if is_rest else path[index], values):
                return None
        for name, part in self._query:
            if not self._take_query(part, parameters.get(name, set()), values) and whole:
                return None
        return values

    def _take(self, part: Part, text: str, values: dict[str, Value]) -> bool:
        if isinstance(part, Literal):
            return part.text == text
        fits, value = loose(part.type, text, names_id=part.name in self._ids)
        if fits and value is not None:
            values[part.name] = value
        return fits

    def _take_query(self, part: Part, given: set[str | None], values: dict[str, Value]) -> bool:
        if isinstance(part, Literal):
            return part.text in given or None in given
        texts = [text for text in given if text is not None]
        # Of two values it is unclear which one upstream takes; one that does not fit here may fit there.
        if len(given) == len(texts) == 1:
            self._take(part, texts[0], values)
        return bool(given)


R = TypeVar("R", bound="_Shaped")


class _Shaped(Protocol):
    first: str | None
    length: int
    open: bool
    order: int


class Index(Generic[R]):
    """Routes by number of segments and first literal segment, so that few are tried; order is kept."""

    __slots__ = ("_table", "_top", "earliest")

    def __init__(self, routes: Iterable[R]) -> None:
        every = tuple(routes)
        self.earliest = min((route.order for route in every), default=NEVER)
        self._top = 1 + max((route.length for route in every), default=0)
        firsts = {None} | {route.first for route in every}
        self._table: dict[tuple[int, str | None], tuple[R, ...]] = {
            (count, first): tuple(
                route
                for route in every
                if route.first in (None, first)
                and (route.length == count or (route.open and route.length < count))
            )
            for count in range(self._top + 1)
            for first in firsts
        }

    def candidates(self, count: int, first: str) -> tuple[R, ...]:
        """The routes that may match a path of `count` segments, in order."""
        count = min(count, self._top)
        found = self._table.get((count, first))
        return self._table[count, None] if found is None else found


def _shape(parts: Iterable[Part]) -> tuple[str | None, int, bool]:
    segments = list(parts)
    first = segments[0] if segments else Literal(text="")
    last = segments[-1] if segments else None
    is_open = isinstance(last, Var) and last.type is VarType.PATH
    return first.text if isinstance(first, Literal) else None, len(segments), is_open


def _pattern(part: Part) -> str:
    return re.escape(part.text) if isinstance(part, Literal) else f"({PATTERNS[part.type]})"


def _decoded(part: Part, *, form: bool = False) -> Part:
    if isinstance(part, Var):
        return part
    return Literal(text=decoded(part.text.replace("+", " ") if form else part.text))


def _id_variables(route: Route) -> frozenset[str]:
    match route.action:
        case Lookup(by="id", var=var):
            return frozenset({var})
        case Write(targets=targets):
            places = ("path", "query")
            return frozenset(
                target.path[0] for target in targets if target.key == "id" and target.place in places
            )
        case _:
            return frozenset()
