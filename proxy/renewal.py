"""A replica's renewal of its lease in the table of members: what it says there, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.messages import Message, encode
from proxy.store.link import Command, Script
from proxy.store.lives import WEEK_MS

MEMBERS = "user:members"
# Stands in the table for everybody whose entry may have been lost with an earlier table.
UNLISTED = ""
# Who finds that the proxy of a write has died evicts everybody within so many seconds, or another does.
TAKE_OVER = 10.0

RENEW = Script("renew")


@dataclass(frozen=True, slots=True)
class Renewed:
    """`unlisted`: seconds for which somebody who is not listed may have a lease. `new`: there was no table.

    `live`: who had a lease. `orphans`: notes of writes whose proxy has died, and what they hold now.
    """

    unlisted: float
    new: bool
    live: tuple[str, ...]
    orphans: dict[bytes, bytes]


def renewal(replica: str, channel: str, number: int, lease: float, server: bytes) -> Command:
    """The command; its echo of that number comes down the channel. `server` is its run id, if known."""
    echo, join = encode(Message("echo", replica, number)), encode(Message("join", replica, 0))
    times = (str(int(lease * 1e6)), str(int(TAKE_OVER * 1e6)))
    return RENEW.call(MEMBERS, replica, times[0], channel, echo, WEEK_MS, server, times[1], join)


def renewed(reply: Any) -> Renewed:
    """What the command's reply says."""
    unlisted, new, live, *lost = reply
    orphans = dict(zip(lost[::2], lost[1::2], strict=True))
    return Renewed(unlisted / 1e6, new == 1, tuple(one.decode() for one in live), orphans)
