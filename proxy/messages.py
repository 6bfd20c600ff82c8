"""What replicas say on the feed, and how they listen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from proxy.core.model import Fence


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One message on the feed: `kind` is drop, stand, lift, held, ended, ack, echo, join, wake or word.

    `sender` is a replica, `number` its count. `fence` stands around what is named for so many `seconds`, if
    it is given. join: the sender takes a lease. held asks the writer of `fences` which of them have ended.
    word tells of `tokens` that are good no more, each with its end, and of users by `cutoffs`: up to when
    their tokens are from before, and how long that is to be known.
    """

    kind: str
    sender: str
    number: int
    users: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    everything: bool = False
    fence: str = ""
    seconds: float = 0.0
    fences: tuple[str, ...] = ()
    tokens: tuple[tuple[str, float], ...] = ()
    cutoffs: tuple[tuple[str, float, float], ...] = ()


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


def about(kind: str, sender: str, number: int, fence: Fence, seconds: float) -> Message:
    """A message about a fence and what it stands around."""
    batch = fence.batch
    named = (batch.users, batch.aliases, batch.everything)
    return Message(kind, sender, number, *named, fence.name, seconds)


def questions(sender: str, told: Mapping[str, str]) -> list[tuple[str, Message]]:
    """What to ask which replica about the fences that it told of, `told` being name → replica."""
    names: dict[str, list[str]] = {}
    for name, writer in told.items():
        names.setdefault(writer, []).append(name)
    return [(writer, Message("held", sender, 0, fences=tuple(fences))) for writer, fences in names.items()]


class Listening(Protocol):
    """Opens one connection that is subscribed to `channels`, and yields messages as they come.

    Raises StoreError where the connection can't be had or is lost.
    """

    def __call__(self, *channels: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Entered when the server has confirmed the subscription."""
        ...
