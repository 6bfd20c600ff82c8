"""The blocks of `routes.yaml` that say what clients may take, and what is said of them to upstream."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

from proxy.configfile import Node, Reader
from proxy.configvalues import choice, duration, quoted, size, timeout, whole
from proxy.core.edgesettings import PRIVATE, EdgeSettings, LimitSettings, Network, OverBudget, XForwarded

_LIMITS = LimitSettings()
_WORDS = {"private": PRIVATE, "all": (ip_network("0.0.0.0/0"), ip_network("::/0"))}


def read_edge(reader: Reader, root: Node) -> EdgeSettings:
    """The `edge` block."""
    default = EdgeSettings()
    if "edge" not in root:
        return default
    block = reader.table(root.members["edge"], ("trusted_proxies", "x_forwarded", "forwarded"))
    trusted = default.trusted
    if "trusted_proxies" in block:
        named = reader.texts(block.members["trusted_proxies"], _network)
        trusted = tuple(network for text in named for network in _networks(text))
    return EdgeSettings(
        trusted=trusted,
        x_forwarded=reader.value(block, "x_forwarded", _x_forwarded, default.x_forwarded),
        forwarded=reader.flag(block, "forwarded", default=default.forwarded),
    )


def read_limits(reader: Reader, root: Node) -> LimitSettings:
    """The `limits` block."""
    if "limits" not in root:
        return _LIMITS
    block = reader.table(root.members["limits"], LimitSettings.__struct_fields__)
    return LimitSettings(
        connections=reader.value(block, "connections", whole(1, 1_000_000, 4096), _LIMITS.connections),
        memory=reader.value(block, "memory", _memory, _LIMITS.memory),
        target=reader.value(block, "target", _some(256), _LIMITS.target),
        field=reader.value(block, "field", _some(256), _LIMITS.field),
        head=reader.value(block, "head", _some(1024), _LIMITS.head),
        fields=reader.value(block, "fields", whole(1, 10_000, 128), _LIMITS.fields),
        body=reader.value(block, "body", _body, _LIMITS.body),
        buffer=reader.value(block, "buffer", _some(1024), _LIMITS.buffer),
        head_timeout=reader.value(block, "head_timeout", timeout, _LIMITS.head_timeout),
        body_timeout=reader.value(block, "body_timeout", timeout, _LIMITS.body_timeout),
        body_rate=reader.value(block, "body_rate", whole(0, 10**9, 240), _LIMITS.body_rate),
        idle_timeout=reader.value(block, "idle_timeout", duration, _LIMITS.idle_timeout),
        tunnel_timeout=reader.value(block, "tunnel_timeout", timeout, _LIMITS.tunnel_timeout),
        not_found=reader.value(block, "not_found", whole(0, 10**9, 1000), _LIMITS.not_found),
        over_not_found=OverBudget(reader.value(block, "over_not_found", choice(*OverBudget), "forward")),
    )


def _x_forwarded(text: str) -> XForwarded:
    return XForwarded(choice(*XForwarded)(text))


def _some(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        count = size(text)
        if not least <= count <= 16 * 2**20:
            raise ValueError(f"{quoted(text)} is out of bounds; give {least} bytes to 16MiB")
        return count

    return read


def _memory(text: str) -> int:
    count = size(text)
    if count < 2**20:
        raise ValueError(f"{quoted(text)} is too little; give 1MiB or more")
    return count


def _body(text: str) -> int | None:
    return None if text == "none" else size(text)


def _network(text: str) -> str:
    if text not in _WORDS:
        try:
            ip_network(text)
        except ValueError:
            raise ValueError(
                f"{quoted(text)} is not a network; give e.g. 10.0.0.0/8, an address, private or all"
            ) from None
    return text


def _networks(text: str) -> tuple[Network, ...]:
    return _WORDS.get(text) or (ip_network(text),)
