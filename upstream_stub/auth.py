"""Logging in and out, and saying whose a token is."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from upstream_stub.answers import BEARER, NO_STORE, Problem, json_answer
from upstream_stub.callers import Caller, caller_of, caller_of_token
from upstream_stub.fields import text_fields
from upstream_stub.options import Algorithm
from upstream_stub.passwords import ABSENT_USER_HASH, verify_password
from upstream_stub.service import Service
from upstream_stub.tokens import ISSUER, BadToken, scope_of

_FORM = "application/x-www-form-urlencoded"
_ALGORITHMS: dict[str, Algorithm] = {"HS256": "HS256", "RS256": "RS256"}


async def login(service: Service, request: web.Request) -> web.Response:
    """POST /auth/login: always asks the database."""
    given = text_fields(await request.read(), "username", "email", "password", "alg")
    if "password" not in given or ("username" in given) == ("email" in given):
        raise Problem(422, "password and one of username and email are needed")
    algorithm = None
    if "alg" in given and (algorithm := _ALGORITHMS.get(given["alg"])) is None:
        raise Problem(422, f"alg must be one of {', '.join(_ALGORITHMS)}")
    database = service.database
    if "email" in given:
        user = database.user_by_email(given["email"])
    else:
        user = database.user_by_username(given["username"])
    good = verify_password(given["password"], user.hashed_password if user else ABSENT_USER_HASH)
    if user is None or not good:
        raise Problem(401, "wrong name or password", BEARER)
    if not user.is_active:
        raise Problem(403, "the user is inactive")
    token = {
        "access_token": service.signer.issue(user, algorithm),
        "token_type": "bearer",
        "expires_in": service.signer.lifetime,
    }
    return json_answer(token, headers=NO_STORE)


async def logout(service: Service, request: web.Request) -> web.Response:
    """POST /auth/logout: from here on the token is not good."""
    await request.read()
    claims = caller_of(service, request).claims
    service.database.revoke(claims.token_id, claims.expires_at)
    return web.Response(status=204)


async def me(service: Service, request: web.Request) -> web.Response:
    """GET /auth/me: the token's user, shown as GET /users/{id} shows it."""
    return service.answer_user(request, caller_of(service, request).user)


async def introspect(service: Service, request: web.Request) -> web.Response:
    """GET /auth/introspect: about the token the request carries."""
    return json_answer(_described(caller_of(service, request)))


async def introspect_form(service: Service, request: web.Request) -> web.Response:
    """POST /auth/introspect: about the token in the form (RFC 7662); a bad one is only called inactive."""
    body = await request.read()
    form = parse_qs(body.decode(errors="replace")) if request.content_type == _FORM else {}
    if "token" not in form:
        raise Problem(422, f"a token is needed, as {_FORM}")
    try:
        return json_answer(_described(caller_of_token(service, form["token"][0])))
    except BadToken:
        return json_answer({"active": False})


async def jwks(service: Service, _request: web.Request) -> web.Response:
    """GET /.well-known/jwks.json: the public key of RS256 tokens."""
    return json_answer({"keys": [service.signer.jwk]}, headers={"Cache-Control": "public, max-age=300"})


def _described(caller: Caller) -> dict[str, Any]:
    user, claims = caller
    described: dict[str, Any] = {
        "active": True,
        "sub": str(user.id),
        "username": user.username,
        "role": user.role,
        "scope": scope_of(user),
        "token_type": "Bearer",
        "iss": ISSUER,
        "jti": claims.token_id,
        "exp": claims.expires_at,
    }
    if claims.issued_at is not None:
        described["iat"] = claims.issued_at
    return described
