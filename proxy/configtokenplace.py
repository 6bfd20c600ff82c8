"""`token_from` of `routes.yaml`: where requests carry their token."""

from __future__ import annotations

import re

from proxy.configfile import Node, Reader
from proxy.configvalues import quoted
from proxy.core.tokenplace import TokenPlace, Where


def read_token_place(reader: Reader, root: Node) -> TokenPlace:
    """`header`, `{cookie: NAME}` or `{query: NAME}`."""
    node = root.members.get("token_from")
    if node is None or (node.kind == "str" and node.text == "header"):
        return TokenPlace()
    if node.kind != "map" or len(node.members) != 1:
        reader.wrong(node, "must be header, {cookie: NAME} or {query: NAME}")
        return TokenPlace()
    table = reader.table(node, ("cookie", "query"))
    where = "cookie" if "cookie" in table else "query"
    return TokenPlace(where=Where(where), name=reader.value(table, where, _name, ""))


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise ValueError(f"{quoted(text)} is not the name of a cookie or parameter; give e.g. access_token")
    return text
