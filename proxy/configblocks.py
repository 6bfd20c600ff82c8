"""The blocks of `routes.yaml` that say what a user, a view and a token are (design §4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.configfile import Node, Reader
from proxy.configvalues import (
    choice,
    dotted,
    duration,
    later,
    quoted,
    size,
    text_value,
    timeout,
    upstream_url,
    whole,
)
from proxy.core.settings import TokenSettings, UpstreamSettings, UserKey, UserModel, View

# What the Redis keys of design §6 and the words of `evict` already mean.
RESERVED = frozenset({"id", "token", "seq", "epoch", "member", "members", "feed", "all", "revoke"})
ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLIC_KEYS = re.compile(r"(?:RS|ES|PS)[0-9]{3}K?|EdDSA|Ed25519|Ed448")


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """The `tokens` block; the secret itself is in the environment variable `secret_env`."""

    line: int
    secret_env: str
    algorithms: tuple[str, ...]
    issuer: str | None
    audience: str | None
    leeway: float
    subject: tuple[str, ...]

    def settings(self, secret: str) -> TokenSettings:
        """The block together with its secret."""
        return TokenSettings(
            secret=secret,
            algorithms=self.algorithms,
            issuer=self.issuer,
            audience=self.audience,
            leeway=self.leeway,
            subject=self.subject,
        )


def read_upstream(reader: Reader, root: Node) -> UpstreamSettings:
    """The `upstream` block."""
    default = UpstreamSettings()
    if "upstream" not in root:
        return default
    block = reader.table(root.members["upstream"], ("url", "connect_timeout", "timeout", "max_connections"))
    return UpstreamSettings(
        url=reader.value(block, "url", upstream_url, default.url),
        connect_timeout=reader.value(block, "connect_timeout", timeout, default.connect_timeout),
        timeout=reader.value(block, "timeout", timeout, default.timeout),
        max_connections=reader.value(
            block, "max_connections", whole(1, 100_000, 100), default.max_connections
        ),
    )


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
    block = reader.table(node, ("ttl", "negative_ttl", "stale_while_revalidate", "stale_if_error", "fields"))
    fields = block.members.get("fields")
    listed = None if fields is None else frozenset(reader.texts(fields, text_value))
    if fields is not None and fields.kind == "seq" and not fields.items:
        reader.wrong(fields, "is empty, so nothing would ever be stored; list the fields or remove it")
    return View(
        name=name,
        ttl=reader.required(block, "ttl", duration, 0.0, "300s"),
        negative_ttl=reader.value(block, "negative_ttl", duration, 0.0),
        stale_while_revalidate=reader.value(block, "stale_while_revalidate", duration, 0.0),
        stale_if_error=reader.value(block, "stale_if_error", duration, 0.0),
        fields=listed,
    )


def read_tokens(reader: Reader, root: Node) -> TokenBlock | None:
    """The `tokens` block, without its secret; None where it is left out."""
    node = root.members.get("tokens")
    if node is None or node.kind == "null":
        return None
    known = ("secret_env", "algorithms", "issuer", "audience", "leeway", "subject")
    block = reader.table(node, known)
    algorithms = block.members.get("algorithms")
    listed = ("HS256",) if algorithms is None else reader.texts(algorithms, _algorithm)
    if algorithms is not None and algorithms.kind == "seq" and not algorithms.items:
        reader.wrong(algorithms, "is empty, so no token would be good; give e.g. [HS256]")
    return TokenBlock(
        line=block.line,
        secret_env=reader.value(block, "secret_env", _variable, "JWT_SECRET"),
        algorithms=listed,
        issuer=_text_or_null(reader, block, "issuer"),
        audience=_text_or_null(reader, block, "audience"),
        leeway=reader.value(block, "leeway", duration, 0.0),
        subject=reader.value(block, "subject", dotted, ("sub",)),
    )


def _text_or_null(reader: Reader, block: Node, name: str) -> str | None:
    node = block.members.get(name)
    return None if node is None or node.kind == "null" else reader.scalar(node, text_value, None)


def _algorithm(text: str) -> str:
    if text.lower() == "none":
        # RFC 8725 §3.2: an unsigned token proves nothing.
        raise ValueError("'none' accepts tokens that nobody signed and is never allowed; give e.g. HS256")
    if PUBLIC_KEYS.fullmatch(text):
        raise ValueError(later(text, "use secret_env with HS256, HS384 or HS512"))
    return choice(*ALGORITHMS)(text)


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"{quoted(text)} is not the name of an environment variable; give e.g. JWT_SECRET")
    return text
