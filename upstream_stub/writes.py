"""Writes to users.

A handler reads the body first and does not await after that: what it checked still holds when it commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from upstream_stub import fields
from upstream_stub.answers import Problem, json_answer
from upstream_stub.callers import Caller, caller_of, check_may_write, writer_of
from upstream_stub.database import Taken
from upstream_stub.lookups import find_by_email, find_by_key, find_by_phone
from upstream_stub.passwords import hash_password, verify_password
from upstream_stub.service import Service
from upstream_stub.user import User

Finder = Callable[[Service, web.Request], User]


def named_by_key(service: Service, request: web.Request) -> User:
    """The user that /users/{key} names."""
    return find_by_key(service, request.match_info["key"])


def named_by_email(service: Service, request: web.Request) -> User:
    """The user that /users/by-email/{email} names."""
    return find_by_email(service, request.match_info["email"])


def named_by_phone(service: Service, request: web.Request) -> User:
    """The user that /users?phone=… names."""
    if "phone" not in request.query:
        raise Problem(422, "phone is needed")
    return find_by_phone(service, request.query["phone"])


async def create(service: Service, request: web.Request) -> web.Response:
    """POST /users: anybody may sign up."""
    given = fields.check_fields(fields.parse_object(await request.read()), fields.ALL, fields.REQUIRED)
    if given.keys() & {"role", "is_active"}:
        _check_may_appoint(writer_of(service, request))
    defaults = {
        "phone": None,
        "display_name": given["username"],
        "bio": "",
        "role": "user",
        "is_active": True,
    }
    try:
        user = service.database.create_user(defaults | _columns(given))
    except Taken as taken:
        raise Problem(409, f"{taken.field} is taken") from taken
    return service.answer_written(user, 201, f"/users/{user.id}")


def update(find: Finder) -> Callable[[Service, web.Request], Any]:
    """PUT and PATCH on a user. Both change the fields that are given and keep the others."""

    async def answer(service: Service, request: web.Request) -> web.Response:
        body = await request.read()
        caller = writer_of(service, request)
        target = find(service, request)
        check_may_write(caller, target)
        given = fields.check_fields(fields.parse_object(body), fields.ALL)
        if "role" in given:
            _check_may_appoint(caller)
        return service.answer_written(_update(service, target, given))

    return answer


def delete(find: Finder) -> Callable[[Service, web.Request], Any]:
    """DELETE on a user."""

    async def answer(service: Service, request: web.Request) -> web.Response:
        await request.read()
        caller = writer_of(service, request)
        target = find(service, request)
        check_may_write(caller, target)
        service.database.delete_user(target.id)
        return web.Response(status=204)

    return answer


async def update_profile(service: Service, request: web.Request) -> web.Response:
    """PUT /profile: the token's user, whom neither the path nor the body names."""
    body = await request.read()
    caller = caller_of(service, request)
    given = fields.check_fields(fields.parse_object(body), fields.PROFILE)
    return service.answer_written(_update(service, caller.user, given))


async def change_password(service: Service, request: web.Request) -> web.Response:
    """POST /auth/password. Tokens that were issued before stay good."""
    body = await request.read()
    caller = caller_of(service, request)
    given = fields.text_fields(body, "old_password", "new_password")
    if given.keys() != {"old_password", "new_password"}:
        raise Problem(422, "old_password and new_password are needed")
    changes = fields.check_fields({"password": given["new_password"]}, frozenset({"password"}))
    if not verify_password(given["old_password"], caller.user.hashed_password):
        raise Problem(403, "the old password is wrong")
    return service.answer_written(_update(service, caller.user, changes))


async def update_many(service: Service, request: web.Request) -> web.Response:
    """POST /admin/users/bulk: the same change to many users at once; ids of nobody are left out."""
    body = await request.read()
    if not caller_of(service, request).is_admin:
        raise Problem(403, "only admins may do that")
    given = fields.parse_object(body)
    if given.keys() != {"ids", "set"}:
        raise Problem(422, "ids and set are needed, and nothing else")
    ids = fields.check_ids(given["ids"])
    changes = fields.check_fields(given["set"], fields.SHARED)
    targets = service.database.users_by_ids(ids)
    updated = service.database.update_users(targets, _columns(changes))
    return json_answer({"updated": len(updated), "ids": _ids(updated)})


def _update(service: Service, user: User, given: dict[str, Any]) -> User:
    try:
        updated = service.database.update_users([user], _columns(given))
    except Taken as taken:
        raise Problem(409, f"{taken.field} is taken") from taken
    if not updated:
        raise Problem(404, "no such user")
    return updated[0]


def _columns(given: dict[str, Any]) -> dict[str, Any]:
    """Fields as they are stored."""
    columns = dict(given)
    if "password" in columns:
        columns["hashed_password"] = hash_password(columns.pop("password"))
    return columns


def _check_may_appoint(caller: Caller | None) -> None:
    if caller is not None and not caller.is_admin:
        raise Problem(403, "only admins may do that")


def _ids(users: Iterable[User]) -> list[int]:
    return [user.id for user in users]
