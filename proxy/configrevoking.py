"""What writes say of tokens: `revoke` of a route, and the `revoking` block of `routes.yaml`."""

from __future__ import annotations

from proxy.configfile import Node, Reader
from proxy.configvalues import choice, duration, quoted
from proxy.core.revoking import Revoke, RevokingSettings


def read_revoking(reader: Reader, root: Node) -> RevokingSettings:
    """The `revoking` block."""
    default = RevokingSettings()
    if "revoking" not in root:
        return default
    block = reader.table(root.members["revoking"], ("token_life", "clock_skew", "passwords"))
    return RevokingSettings(
        token_life=reader.value(block, "token_life", _life, default.token_life),
        clock_skew=reader.value(block, "clock_skew", duration, default.clock_skew),
        passwords=reader.value(block, "passwords", choice("revoke", "ignore"), "revoke") == "revoke",
    )


def read_revoke(reader: Reader, table: Node) -> Revoke:
    """What a `write` says."""
    return Revoke(reader.value(table, "revoke", choice("token", "user", "none"), Revoke.AUTO.value))


def _life(text: str) -> float:
    seconds = duration(text)
    if not 1 <= seconds <= 366 * 86400:
        raise ValueError(f"{quoted(text)} is no life of a token; give 1s to 366d, e.g. 30d")
    return seconds
