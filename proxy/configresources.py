"""What `routes.yaml` says of `resource` routes, and of the memory they share (design §4)."""

from __future__ import annotations

import re

from proxy.configfile import Node, Reader
from proxy.configvalues import duration, quoted, size
from proxy.core.settings import Resource, Template

OPTIONS = (
    "heuristic",
    "heuristic_max",
    "stale_while_revalidate",
    "stale_if_error",
    "keep",
    "max_size",
    "targeted",
)
MEMORY = 64 * 1024 * 1024


def read_resource(reader: Reader, node: Node, template: Template) -> Resource:
    """`resource: {}` of a route."""
    default = Resource()
    table = reader.table(node, OPTIONS)
    if template.query:
        reader.wrong(node, "a resource is keyed by its whole URL; remove the query from the match")
    targeted = table.members.get("targeted")
    return Resource(
        heuristic=reader.value(table, "heuristic", _part, default.heuristic),
        heuristic_max=reader.value(table, "heuristic_max", duration, default.heuristic_max),
        stale_while_revalidate=reader.value(
            table, "stale_while_revalidate", duration, default.stale_while_revalidate
        ),
        stale_if_error=reader.value(table, "stale_if_error", duration, default.stale_if_error),
        keep=reader.value(table, "keep", duration, default.keep),
        max_size=reader.value(table, "max_size", size, default.max_size),
        targeted=default.targeted if targeted is None else reader.texts(targeted, _field),
    )


def read_resource_memory(reader: Reader, root: Node) -> int:
    """`resources: {memory: 64MiB}`: the bytes of them that one process holds at most."""
    if "resources" not in root:
        return MEMORY
    block = reader.table(root.members["resources"], ("memory",))
    return reader.value(block, "memory", size, MEMORY)


def _part(text: str) -> float:
    if not re.fullmatch(r"0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?", text):
        raise ValueError(f"{quoted(text)} is not a part of 1; give e.g. 0.1, or 0 for no heuristic")
    return float(text)


def _field(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", text):
        raise ValueError(f"{quoted(text)} is not the name of a field; give e.g. CDN-Cache-Control")
    return text.lower()
