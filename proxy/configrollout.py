"""The part of `routes.yaml` that says how much is done with requests: `mode`, `holdback`, `truth`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from proxy.configfile import Node, Reader
from proxy.configvalues import mode, quoted, text_value, whole
from proxy.core.rolloutsettings import Mode, TruthSettings

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


@dataclass(frozen=True, slots=True)
class RolloutBlock:
    """What the file says of it; `mode` is what MODE and --mode override."""

    mode: Mode = Mode.SERVE
    holdback: float = 0.0
    truth: TruthSettings = field(default_factory=TruthSettings)


def read_rollout(reader: Reader, root: Node) -> RolloutBlock:
    """`mode`, `holdback` and the `truth` block."""
    return RolloutBlock(
        mode=_mode(reader, root),
        holdback=reader.value(root, "holdback", share, 0.0),
        truth=_truth(reader, root),
    )


def share(text: str) -> float:
    """A share of 0 to 1 out of `5%` or `0.1%`; a plain 0 is none."""
    if text == "0":
        return 0.0
    found = _SHARE.fullmatch(text)
    if not found:
        # A bare number could be meant either way.
        raise ValueError(f"{quoted(text)} is not a share; give e.g. 5%")
    value = float(found[1]) / 100
    if value > 1:
        raise ValueError(f"{quoted(text)} is more than all; give 0% to 100%")
    return value


def _mode(reader: Reader, root: Node) -> Mode:
    node = root.members.get("mode")
    # YAML takes the word for `false`.
    if node is not None and node.kind == "bool" and node.text.lower() == "off":
        return Mode.OFF
    return reader.value(root, "mode", mode, Mode.SERVE)


def _truth(reader: Reader, root: Node) -> TruthSettings:
    default = TruthSettings()
    if "truth" not in root:
        return default
    block = reader.table(root.members["truth"], ("sample", "concurrency", "ignore"))
    ignore = block.members.get("ignore")
    return TruthSettings(
        sample=reader.value(block, "sample", share, default.sample),
        concurrency=reader.value(block, "concurrency", whole(1, 1000, 2), default.concurrency),
        ignore=frozenset() if ignore is None else frozenset(reader.texts(ignore, text_value)),
    )
