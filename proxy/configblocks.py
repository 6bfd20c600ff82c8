"""The blocks of `routes.yaml` that say what a user and a view are (design §4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxy.configfile import Node, Reader
from proxy.configvalues import (
    dotted,
    duration,
    quoted,
    size,
    text_value,
)
from proxy.core.settings import UserKey, UserModel, View

VIEW = ("ttl", "ttl_overrides", "negative_ttl", "stale_while_revalidate", "stale_if_error", "fields")
# What the Redis keys of design §6 and the words of `evict` already mean.
RESERVED = frozenset({"id", "url", "token", "seq", "epoch", "member", "members", "feed", "all", "revoke"})


def read_user(reader: Reader, root: Node) -> UserModel:
    """The `user` block."""
    default = UserModel()
    if "user" not in root:
        return default
    block = reader.table(root.members["user"], ("id", "keys", "active", "secrets", "max_size"))
    keys = [_key(reader, name, node) for name, node in reader.entries(block.members.get("keys")).items()]
    secrets = block.members.get("secrets")
    return UserModel(
        id=reader.value(block, "id", dotted, default.id),
        keys=tuple(keys),
        active=reader.value(block, "active", dotted, None),
        secrets=() if secrets is None else reader.texts(secrets, text_value),
        max_size=reader.value(block, "max_size", size, default.max_size),
    )


def _key(reader: Reader, name: str, node: Node) -> UserKey:
    if name in RESERVED:
        reader.wrong(node, f"{name!r} has a meaning of its own; give the key another name")
    elif not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        reader.wrong(node, f"{quoted(name)} is not a name; use small letters, digits and '_'")
    block = reader.table(node, ("path", "ignore_case"))
    return UserKey(
        name=name,
        path=reader.required(block, "path", dotted, (name,), name),
        ignore_case=reader.flag(block, "ignore_case", default=False),
    )


def read_views(reader: Reader, root: Node) -> dict[str, View]:
    """The `views` block."""
    return {name: _view(reader, name, node) for name, node in _views(reader, root).items()}


def _views(reader: Reader, root: Node) -> Mapping[str, Node]:
    return reader.entries(root.members.get("views"))


def _view(reader: Reader, name: str, node: Node) -> View:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name):
        reader.wrong(node, f"{quoted(name)} is not a name; use letters, digits, '_' and '-'")
    block = reader.table(node, VIEW)
    fields = block.members.get("fields")
    listed = None if fields is None else frozenset(reader.texts(fields, text_value))
    if fields is not None and fields.kind == "seq" and not fields.items:
        reader.wrong(fields, "is empty, so nothing would ever be stored; list the fields or remove it")
    return View(
        name=name,
        ttl=reader.required(block, "ttl", duration, 0.0, "300s"),
        overrides=reader.value(block, "ttl_overrides", _overrides, False),
        negative_ttl=reader.value(block, "negative_ttl", duration, 0.0),
        stale_while_revalidate=reader.value(block, "stale_while_revalidate", duration, 0.0),
        stale_if_error=reader.value(block, "stale_if_error", duration, 0.0),
        fields=listed,
    )


def _overrides(text: str) -> bool:
    if text != "upstream":
        raise ValueError(f"{quoted(text)} is not known; give upstream, or leave it out")
    return True
