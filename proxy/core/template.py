"""The grammar of `match`: `METHOD[,METHOD] /path/{name[:type]}[?key={name}&key=literal]` → Template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from proxy.core.settings import Literal, Part, Template, Var, VarType

_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_VARIABLE = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# RFC 3986 §3.3 pchar: what may stand in a path segment as it is.
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_QUERY_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,:@]|%[0-9A-Fa-f]{2})*")


def parse_template(text: str) -> Template:
    """Reads one `match`. A trailing slash is a last, empty literal segment; `/` is just that.

    Raises ValueError with a sentence that says what is wrong and what to write.
    """
    methods_text, space, target = text.partition(" ")
    if not space or not target.startswith("/"):
        raise ValueError(f"{text!r} is not 'METHOD /path'; give e.g. 'GET /users/{{id:int}}'")
    if " " in target:
        raise ValueError("there is a space in the path; write %20 for it")
    path, question, query = target.partition("?")
    segments = tuple(_segments(path))
    pairs = tuple(_query(query)) if question else ()
    names = [part.name for part in (*segments, *(part for _, part in pairs)) if isinstance(part, Var)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the variable {name!r} appears twice; give each its own name")
    return Template(source=text, methods=_methods(methods_text), segments=segments, query=pairs)


def path_variables(template: Template) -> dict[str, Var]:
    """The variables of the path by name."""
    return {part.name: part for part in template.segments if isinstance(part, Var)}


def query_variables(template: Template) -> dict[str, Var]:
    """The variables of the query by name (not by parameter)."""
    return {part.name: part for _, part in template.query if isinstance(part, Var)}


def covers(first: Template, second: Template) -> bool:
    """Whether `first` takes every request that `second` could match, so that `second` is never reached."""
    if not second.methods <= first.methods or not _covers_path(first.segments, second.segments):
        return False
    mine, theirs = dict(first.query), dict(second.query)
    # A read must name every parameter; other methods are matched with more parameters than named.
    if mine.keys() != theirs.keys() and (
        second.methods & {"GET", "HEAD"} or not mine.keys() <= theirs.keys()
    ):
        return False
    return all(_covers(part, theirs[name]) for name, part in mine.items())


def _methods(text: str) -> frozenset[str]:
    methods = text.split(",")
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise ValueError(f"{method!r} is not a method; write it in capitals, e.g. 'GET' or 'PUT,PATCH'")
    found = set(methods)
    if "GET" in found:
        found.discard("HEAD")
    return frozenset(found)


def _segments(path: str) -> Iterable[Part]:
    texts = path.split("/")[1:]
    for index, text in enumerate(texts):
        last = index == len(texts) - 1
        if not text and not last:
            raise ValueError("there is an empty segment ('//') in the path; remove one slash")
        part = _part(text, _LITERAL)
        if isinstance(part, Literal) and part.text.lower().replace("%2e", ".") in (".", ".."):
            raise ValueError(f"the segment {text!r} means another path; write that path")
        if isinstance(part, Var) and part.type is VarType.PATH and not last:
            raise ValueError(f"{text!r} takes the rest of the path; nothing may follow it")
        yield part


def _query(query: str) -> Iterable[tuple[str, Part]]:
    seen = set()
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if not name or not equals or not _QUERY_LITERAL.fullmatch(name):
            raise ValueError(f"the parameter {pair!r} is not 'key={{name}}' or 'key=literal'")
        if name in seen:
            raise ValueError(f"the parameter {name!r} appears twice; name it once")
        seen.add(name)
        part = _part(value, _QUERY_LITERAL)
        if isinstance(part, Var) and part.type is VarType.PATH:
            raise ValueError(f"{value!r}: the type 'path' is for the path; leave the type out")
        yield name, part


def _part(text: str, literal: re.Pattern[str]) -> Part:
    if literal.fullmatch(text):
        return Literal(text=text)
    found = _VARIABLE.fullmatch(text)
    if not found:
        if "{" in text or "}" in text:
            raise ValueError(f"{text!r} is neither fixed text nor one '{{name}}'; a variable stands alone")
        raise ValueError(f"{text!r} has characters that a URL does not; percent-encode them")
    name, kind = found[1], found[2]
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a variable name; use letters, digits and '_'")
    if kind is None:
        return Var(name=name)
    try:
        return Var(name=name, type=VarType(kind))
    except ValueError:
        known = ", ".join(member.value for member in VarType if member is not VarType.SEGMENT)
        raise ValueError(f"{kind!r} is not a type; use one of {known}, or none") from None


def _covers_path(first: Sequence[Part], second: Sequence[Part]) -> bool:
    for mine, theirs in zip_longest(first, second):
        if isinstance(mine, Var) and mine.type is VarType.PATH:
            rest = second[len(first) - 1 :]
            return bool(rest) and all(isinstance(part, Var) or _is_plain(part) for part in rest)
        if mine is None or theirs is None or not _covers(mine, theirs):
            return False
    return True


def _covers(mine: Part, theirs: Part) -> bool:
    match mine, theirs:
        case Var(type=VarType.SEGMENT), Literal():
            return _is_plain(theirs)
        case Var(type=VarType.SEGMENT), Var():
            return theirs.type is not VarType.PATH
        case Var(type=VarType.LIST), Var():
            return theirs.type in (VarType.LIST, VarType.INT, VarType.UUID)
        case Var(), Var():
            return mine.type is theirs.type
        case _:
            return mine == theirs


def _is_plain(part: Literal) -> bool:
    # Only such a literal is surely a legal value of a variable.
    return re.fullmatch(r"[\w\-]+", part.text, re.ASCII) is not None
