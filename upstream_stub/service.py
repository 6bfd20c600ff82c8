"""What every handler is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from upstream_stub.answers import json_answer, tagged_json_answer
from upstream_stub.database import Database
from upstream_stub.faults import Faults, Holds
from upstream_stub.options import Options
from upstream_stub.people import people
from upstream_stub.stats import Stats
from upstream_stub.tokens import Signer
from upstream_stub.user import User, shown


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one running service, living as long as its application."""

    options: Options
    database: Database
    signer: Signer
    faults: Faults
    holds: Holds
    stats: Stats

    def answer_user(self, request: web.Request, user: User) -> web.Response:
        """The one way a user is shown to somebody who looked it up."""
        payload = shown(user, self.faults.leak_hash)
        return tagged_json_answer(request, payload) if self.options.etag else json_answer(payload)

    def answer_users(self, request: web.Request, users: list[User]) -> web.Response:
        """The same for several, as an array."""
        payload = [shown(user, self.faults.leak_hash) for user in users]
        return tagged_json_answer(request, payload) if self.options.etag else json_answer(payload)

    def answer_written(self, user: User, status: int = 200, location: str | None = None) -> web.Response:
        """A user as a write left it: never conditional."""
        headers = {"Location": location} if location else None
        return json_answer(shown(user, self.faults.leak_hash), status, headers)


Handler = Callable[[Service, web.Request], Awaitable[web.Response]]


def make_service(options: Options) -> Service:
    """Open the database, fill it if it is new, and put the parts together."""
    database = Database(options.database)
    try:
        database.fill(people(options.seed, options.users))
    except BaseException:
        database.close()
        raise
    return Service(
        options=options,
        database=database,
        signer=Signer(options.jwt_secret, options.algorithm, options.token_ttl),
        faults=Faults(options),
        holds=Holds(),
        stats=Stats(),
    )
