"""The `routes` block of `routes.yaml`, checked against the other blocks (design §4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.configaccess import read_callers
from proxy.configfile import Node, Reader
from proxy.configintrospect import read_introspect
from proxy.configresources import read_resource
from proxy.configrevoking import read_revoke
from proxy.configvalues import choice, did_you_mean, one_of, quoted
from proxy.core.settings import (
    Action,
    Lookup,
    Pass,
    Revoke,
    Route,
    SecretsRule,
    Target,
    Template,
    UserModel,
    Var,
    VarType,
    Write,
)
from proxy.core.template import covers, parse_template, path_variables, query_variables
from proxy.core.tokenplace import HEADER, TokenPlace

ACTIONS = ("lookup", "introspect", "write", "resource", "pass")
CACHED = ("access", "allow", "require", "secrets")
PLACES = ("token", "path.x", "query.x", "request.x", "response.x")


@dataclass(frozen=True, slots=True)
class Blocks:
    """What routes refer to."""

    user: UserModel
    views: Collection[str]
    has_tokens: bool
    token_from: TokenPlace = HEADER

    @property
    def keys(self) -> tuple[str, ...]:
        """`id` and the names of the other keys."""
        return ("id", *(key.name for key in self.user.keys))


def read_routes(reader: Reader, root: Node, blocks: Blocks) -> tuple[Route, ...]:
    """The routes, in the order of the file. Those with mistakes are left out."""
    node = root.members.get("routes")
    if node is None or node.kind == "null":
        return ()
    found: list[tuple[Route, Node]] = []
    for item in reader.items(node):
        route = _route(reader, item, blocks)
        if route is None:
            continue
        for earlier, place in found:
            if covers(earlier.template, route.template):
                reader.wrong(
                    item.members["match"],
                    f"is never reached: {place.path} on line {place.line} takes its requests first; "
                    "move it up or remove it",
                )
                break
        found.append((route, item))
    return tuple(route for route, _ in found)


def _route(reader: Reader, node: Node, blocks: Blocks) -> Route | None:
    known = ("match", *ACTIONS, *CACHED)
    table = reader.table(node, known)
    template = reader.required(table, "match", _template, None, "'GET /users/{id:int}'")
    given = [name for name in ACTIONS if name in table]
    if len(given) != 1:
        told = f"has {' and '.join(given)}; keep one" if given else f"has no action; give {_any_of(ACTIONS)}"
        reader.wrong(node, told)
    if template is None or len(given) != 1:
        return None
    action = _action(reader, table.members[given[0]], given[0], template, blocks)
    if given[0] in ("write", "pass"):
        for name in CACHED:
            if name in table:
                reader.wrong(
                    table.members[name], "is for lookup, introspect and resource routes only; remove it"
                )
    elif template.methods != {"GET"} and not (given[0] == "introspect" and template.methods == {"POST"}):
        also = ", or POST for a token in a form" if given[0] == "introspect" else ""
        reader.wrong(table.members["match"], f"{given[0]} routes answer reads; the method must be GET{also}")
    callers = read_callers(reader, table, given[0], has_tokens=blocks.has_tokens)
    secrets = reader.value(table, "secrets", _secrets, SecretsRule.STRIP)
    if action is None:
        return None
    return Route(
        name=template.source,
        template=template,
        action=action,
        access=callers.access,
        allow=callers.allow,
        require=callers.require,
        secrets=secrets,
    )


def _action(reader: Reader, node: Node, kind: str, template: Template, blocks: Blocks) -> Action | None:
    match kind:
        case "lookup":
            return _lookup(reader, node, template, blocks)
        case "introspect":
            return read_introspect(
                reader,
                node,
                template,
                user=blocks.user,
                views=blocks.views,
                has_tokens=blocks.has_tokens,
                token_from=blocks.token_from,
            )
        case "write":
            return _write(reader, node, template, blocks)
        case "resource":
            return read_resource(reader, node, template)
        case _:
            if node.kind != "bool" or node.text.lower() != "true":
                reader.wrong(node, "must be 'pass: true'")
            return Pass()


def _lookup(reader: Reader, node: Node, template: Template, blocks: Blocks) -> Lookup | None:
    table = reader.table(node, ("by", "view", "many"))
    by = reader.required(table, "by", one_of("key", blocks.keys), "", "id")
    view = reader.required(table, "view", one_of("view", blocks.views), "", "users")
    variables = path_variables(template) | query_variables(template)
    many = reader.value(table, "many", one_of("variable", variables), "")
    if many:
        if variables[many].type is not VarType.LIST:
            reader.wrong(table.members["many"], f"{many!r} is not a list; write {{{many}:list}} in the match")
        if by and by != "id":
            reader.wrong(table.members["many"], "many users are looked up by id only; give 'by: id'")
    var = many or _variable(reader, table, by, variables)
    others = [name for name in variables if var and name != var]
    if others:
        # An input that is not part of the key would share one copy between different answers.
        reader.wrong(node, f"the variable {others[0]!r} is not part of the key; a lookup has one variable")
    return Lookup(by=by, var=var, view=view, many=bool(many)) if by and view and var else None


def _variable(reader: Reader, table: Node, by: str, variables: dict[str, Var]) -> str:
    if not by or "many" in table:
        return ""
    var = by if by in variables else next(iter(variables)) if len(variables) == 1 else ""
    if not var:
        reader.wrong(table.members["by"], f"no variable in the match is the {by}; write {{{by}}} in it")
    elif variables[var].type is VarType.LIST:
        reader.wrong(table.members["by"], f"{var!r} is a list; add 'many: {var}'")
    return var


def _write(reader: Reader, node: Node, template: Template, blocks: Blocks) -> Write | None:
    table = reader.table(node, ("evict", "revoke"))
    evict = table.members.get("evict")
    revoke = read_revoke(reader, table)
    if evict is None:
        if table.kind == "map" and ("revoke" not in table or revoke is Revoke.NONE):
            reader.wrong(node, "has no 'evict'; give e.g. evict: [{id: token}], evict: all or revoke: token")
        caller = (Target(key="id", place="token"),) if revoke is Revoke.USER and blocks.has_tokens else ()
        return Write(targets=caller, revoke=revoke) if revoke in (Revoke.TOKEN, Revoke.USER) else None
    if evict.kind == "str" and evict.text == "all":
        return Write(all=True, revoke=revoke)
    if evict.kind != "seq" or not evict.items:
        reader.wrong(evict, "must be 'all' or a list; give e.g. [{id: token}]")
        return None
    targets = [_target(reader, item, template, blocks) for item in evict.items]
    return Write(targets=tuple(target for target in targets if target), revoke=revoke)


def _target(reader: Reader, node: Node, template: Template, blocks: Blocks) -> Target | None:
    if node.kind != "map" or len(node.members) != 1:
        reader.wrong(node, "must be one key and where its value is; give e.g. {id: path.id}")
        return None
    table = reader.table(node, blocks.keys)
    key, source = next(iter(table.members.items()))
    text = reader.scalar(source, str, "")
    if key not in blocks.keys or not text:
        return None
    place, _, rest = text.partition(".")
    path = tuple(rest.split("."))
    wrong = ""
    if text == "token":
        path = ()
        if key != "id":
            wrong = "a token names the id; give {id: token}"
        elif not blocks.has_tokens:
            wrong = "'token' needs a 'tokens' block; add it or give another place"
    elif place not in ("path", "query", "request", "response") or not all(path):
        wrong = f"{quoted(text)} is not a place; give {_any_of(PLACES)}"
    elif place in ("path", "query"):
        variables = path_variables(template) if place == "path" else query_variables(template)
        if rest not in variables:
            wrong = f"no variable {rest!r} in the {place} of the match{did_you_mean(rest, variables)}"
        path = (rest,)
    if wrong:
        reader.wrong(source, wrong)
        return None
    return Target(key=key, place=place, path=path)


def _template(text: str) -> Template | None:
    return parse_template(text)


def _secrets(text: str) -> SecretsRule:
    return SecretsRule(choice(*SecretsRule)(text))


def _any_of(words: Collection[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} or {last}"
