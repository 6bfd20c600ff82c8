"""What a route says about its callers: `access`, `allow`, `require`, and which headers are credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.configfile import Node, Reader
from proxy.configvalues import choice, dotted, quoted, text_value
from proxy.core.claimrules import ClaimRule, Require
from proxy.core.credentials import ALWAYS
from proxy.core.settings import Access

# What the words of `access` that need a proven token are.
PROVEN = (Access.TOKEN, Access.OWNER)


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may have the copies of a route."""

    access: Access = Access.UNSET
    allow: ClaimRule | None = None
    require: Require | None = None


def read_callers(reader: Reader, route: Node, kind: str, *, has_tokens: bool) -> Callers:
    """`access`, `allow` and `require` of a route of that kind."""
    access = reader.value(route, "access", _access, Access.UNSET)
    if access in PROVEN and not has_tokens:
        reader.wrong(
            route.members["access"], f"{access.value!r} needs a 'tokens' block; add it or remove this"
        )
    if kind != "lookup" and access in (Access.OWNER, Access.CALLER):
        reader.wrong(route.members["access"], f"{access.value!r} is for look-ups of users; give token")
    allow = _claim_rule(reader, route.members["allow"]) if "allow" in route else None
    if allow is not None and access is not Access.OWNER:
        reader.wrong(route.members["allow"], "says who besides the owner may have a copy; give access: owner")
    require = _require(reader, route.members["require"]) if "require" in route else None
    if kind == "resource" and require is not None:
        reader.wrong(route.members["require"], "is for lookup and introspect routes only; remove it")
    elif require is not None and kind == "lookup" and access not in PROVEN:
        reader.wrong(route.members["require"], "asks something of a token; give access: token or owner")
    return Callers(access, allow, require)


def read_credential_headers(reader: Reader, root: Node) -> tuple[str, ...]:
    """`credential_headers`: what says who is asking besides Authorization and Cookie, in small letters."""
    node = root.members.get("credential_headers")
    if node is None:
        return ()
    names = reader.texts(node, _header)
    return tuple(dict.fromkeys(name for name in names if name not in ALWAYS))


def _claim_rule(reader: Reader, node: Node, more: tuple[str, ...] = ()) -> ClaimRule | None:
    block = reader.table(node, ("claim", "any", *more))
    if "claim" not in block:
        if "any" in block or not more:
            reader.say(block.line, f"{block.path}.claim: is required; give e.g. role")
        return None
    values = block.members.get("any")
    if values is not None and values.kind == "seq" and not values.items:
        reader.wrong(values, "is empty, so no token would do; list the values or remove it")
    listed = () if values is None else reader.texts(values, text_value)
    if values is None and not more:
        reader.say(block.line, f"{block.path}.any: is required; give e.g. [admin]")
    return ClaimRule(claim=reader.value(block, "claim", dotted, ("role",)), any=listed)


def _require(reader: Reader, node: Node) -> Require | None:
    claim = _claim_rule(reader, node, ("scope",))
    scope = node.members.get("scope")
    scopes: tuple[str, ...] = ()
    if scope is not None:
        scopes = (
            reader.texts(scope, text_value)
            if scope.kind == "seq"
            else tuple(reader.scalar(scope, text_value, "").split())
        )
    if node.kind == "map" and claim is None and not scopes and "any" not in node:
        reader.wrong(node, "asks for nothing; give e.g. {scope: users:read} or {claim: role, any: [staff]}")
    return Require(scopes=scopes, claim=claim)


def _access(text: str) -> Access:
    return Access(choice("anyone", "token", "owner", "caller")(text))


def _header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
        raise ValueError(f"{quoted(text)} is not the name of a header; give e.g. X-Api-Key")
    return text.lower()
