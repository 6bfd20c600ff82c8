"""Who is asking, and what they may do."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from upstream_stub.answers import BEARER, INVALID_TOKEN, Problem
from upstream_stub.service import Service
from upstream_stub.tokens import BadToken, Claims
from upstream_stub.user import User


class Caller(NamedTuple):
    """Somebody with a good token."""

    user: User
    claims: Claims

    @property
    def is_admin(self) -> bool:
        """By the role in the database: a token does not outlive a demotion."""
        return self.user.role == "admin"


def caller_of_token(service: Service, token: str) -> Caller:
    """The active user whose token this is, or `BadToken`."""
    claims = service.signer.read(token)
    if service.database.is_revoked(claims.token_id):
        raise BadToken("the token was revoked")
    user = service.database.user_by_id(claims.user_id)
    if user is None:
        raise BadToken("the user is gone")
    if not user.is_active:
        raise BadToken("the user is inactive")
    return Caller(user, claims)


def caller_of(service: Service, request: web.Request) -> Caller:
    """The caller, who must have a good bearer token."""
    authorization = request.headers.get("Authorization")
    if authorization is None:
        raise Problem(401, "a bearer token is needed", BEARER)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "a bearer token is needed", BEARER)
    try:
        return caller_of_token(service, token.strip())
    except BadToken as error:
        raise Problem(401, "the token is not valid", INVALID_TOKEN) from error


def writer_of(service: Service, request: web.Request) -> Caller | None:
    """The caller of a write to a user; None for nobody in particular, where writes are open."""
    if service.options.open_writes and "Authorization" not in request.headers:
        return None
    return caller_of(service, request)


def check_may_write(caller: Caller | None, target: User) -> None:
    """Users write to themselves, admins to everybody."""
    if caller is not None and caller.user.id != target.id and not caller.is_admin:
        raise Problem(403, "only the user and admins may do that")
