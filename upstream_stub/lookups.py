"""Reads of users."""

from __future__ import annotations

from aiohttp import web

from upstream_stub.answers import Problem, json_answer
from upstream_stub.callers import caller_of
from upstream_stub.fields import parse_id, parse_ids
from upstream_stub.kinds import Kind
from upstream_stub.service import Service
from upstream_stub.user import User, shown_profile

_DEFAULT_LIMIT, _LARGEST_LIMIT = 50, 1000


def is_number(key: str) -> bool:
    """Whether the last segment of /users/{key} is an id; usernames begin with a letter."""
    return key.isascii() and key.isdigit()


def kind_of_key(request: web.Request) -> Kind:
    """The kind of GET /users/{key}."""
    return Kind.USER_BY_ID if is_number(request.match_info["key"]) else Kind.USER_BY_USERNAME


def kind_of_query(request: web.Request) -> Kind:
    """The kind of GET /users?..."""
    query = request.query
    if "phone" in query:
        return Kind.USER_BY_PHONE
    return Kind.USERS_BY_IDS if "ids" in query else Kind.USERS_LIST


def find_by_key(service: Service, key: str) -> User:
    """The user of an id or a username."""
    if is_number(key):
        user_id = parse_id(key)
        return _found(None if user_id is None else service.database.user_by_id(user_id))
    return _found(service.database.user_by_username(key))


def find_by_email(service: Service, email: str) -> User:
    """The user of an e-mail address."""
    return _found(service.database.user_by_email(email))


def find_by_phone(service: Service, phone: str) -> User:
    """The user of a phone number."""
    return _found(service.database.user_by_phone(phone))


async def by_key(service: Service, request: web.Request) -> web.Response:
    """GET /users/{id} and /users/{username}."""
    return service.answer_user(request, find_by_key(service, request.match_info["key"]))


async def by_email(service: Service, request: web.Request) -> web.Response:
    """GET /users/by-email/{email}, for anybody with a token."""
    caller_of(service, request)
    return service.answer_user(request, find_by_email(service, request.match_info["email"]))


async def profile(service: Service, request: web.Request) -> web.Response:
    """GET /profiles/{username}."""
    user = _found(service.database.user_by_username(request.match_info["username"]))
    return json_answer(shown_profile(user))


async def by_query(service: Service, request: web.Request) -> web.Response:
    """GET /users: one by phone (with a token), several by ids, or a page of all."""
    query = request.query
    if "phone" in query:
        caller_of(service, request)
        return service.answer_user(request, find_by_phone(service, query["phone"]))
    if "ids" in query:
        return service.answer_users(request, service.database.users_by_ids(parse_ids(query["ids"])))
    after, limit = _number(request, "after", 0), _number(request, "limit", _DEFAULT_LIMIT)
    if not 1 <= limit <= _LARGEST_LIMIT:
        raise Problem(422, f"limit must be from 1 to {_LARGEST_LIMIT}")
    return service.answer_users(request, service.database.users_after(after, limit))


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if (number := parse_id(text)) is None:
        raise Problem(422, f"{name} must be a number")
    return number


def _found(user: User | None) -> User:
    if user is None:
        raise Problem(404, "no such user")
    return user
