"""The server as its connections see it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.errors import ClientError
from proxy.core.model import Request
from proxy.fastpath import Replays
from proxy.passage import Passages, Walk
from proxy.waiting import Waiting

Client = TypeVar("Client", contravariant=True)


class Host(Protocol[Client]):
    """What a connection asks of the server."""

    limits: LimitSettings
    edge: EdgeSettings
    replays: Replays | None
    passages: Passages | None
    waiting: Waiting

    def opened(self, client: Client) -> bool:
        """Counts the connection. False: there are too many."""
        ...

    def closed(self, client: Client) -> None:
        """Counts it no more."""
        ...

    async def serve(self, client: Client, request: Request, walk: Walk | None, *, keep_alive: bool) -> bool:
        """Answers; whether the connection may go on. Raises ConnectionError where the client is gone."""
        ...

    def refuse(self, client: Client, error: ClientError) -> None:
        """Answers what is no request, and ends the connection."""
        ...


class Overloaded(ClientError):
    """One connection too many, or more to hold than there is room for."""

    def __init__(self, what: str = "Too many connections are open") -> None:
        super().__init__(503, "overloaded", f"{what}; come again later.")


def check_room(waiting: Waiting) -> None:
    """Raises Overloaded where nothing more may be begun."""
    if waiting.full:
        raise Overloaded("There is no room for another request")
