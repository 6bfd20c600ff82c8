"""Fences in Redis: from before a write is forwarded until its outcome is known, its users are not answered
from cache and not stored. A fence whose writer died evicts when its life is over (design §7.3)."""

from __future__ import annotations

import secrets

from proxy.core.model import Batch, Fence
from proxy.store import codec
from proxy.store.lives import FLOOR_MS, WEEK_MS
from proxy.store.scripts import Command, Script

_FENCE, _LIFT, _GUARD, _UNGUARD, _SHUT, _OPEN = (
    Script("fence", "_fences"),
    Script("lift", "_fences"),
    Script("guard", "_wakes"),
    Script("unguard"),
    Script("shut"),
    Script("open"),
)

# Longer than any one phase of a write; a write that takes longer renews it.
LIFE = 30.0


def raised(batch: Batch, fence: str, seconds: float) -> list[Command]:
    """The commands that raise `fence` around all that `batch` names, or give it another `seconds` to live."""
    commands = [
        _FENCE.call(codec.user_key(one), fence, str(int(seconds * 1e6)), FLOOR_MS) for one in batch.users
    ]
    life = str(int(seconds * 1e3))
    commands += [_GUARD.call(codec.alias_key(*alias), fence, life) for alias in batch.aliases]
    if batch.everything:
        commands.append(_SHUT.call(codec.EPOCH_KEY, fence, life))
    return commands


def lifted(batch: Batch, fence: str) -> list[Command]:
    """The commands that take `fence` down: users first, in their order."""
    commands = [_LIFT.call(codec.user_key(one), fence) for one in batch.users]
    commands += [_UNGUARD.call(codec.alias_key(*alias), fence) for alias in batch.aliases]
    if batch.everything:
        commands.append(opened(Fence(fence, batch)))
    return commands


def opened(fence: Fence) -> Command:
    """The command that takes `fence` off everybody and begins a new epoch, unless others stand there."""
    return _OPEN.call(codec.EPOCH_KEY, fence.name, secrets.token_urlsafe(6), WEEK_MS)


def new_fence(batch: Batch) -> Fence:
    """A fence that is still to be raised."""
    return Fence(secrets.token_hex(6), batch)
