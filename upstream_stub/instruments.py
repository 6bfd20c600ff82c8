"""Test instruments, which no legacy service has: the endpoints that begin with two underscores.

`GET /__stats` answers::

    {"requests": {"total": 3, "by_kind": {"user_by_id": 2, "login": 1, "me": 0}},
     "queries": {"total": 3, "by_name": {"user_by_id": 2, "user_by_username": 1}},
     "faults": {"errors": 0, "drops": 0},
     "hits_by_path": {"GET /users/1": 2, "POST /auth/login": 1},
     "paths_not_recorded": 0}

`by_kind` has every kind of `kinds.Kind`, those at 0 as well; `by_name` has the SQL statements that were run:
`user_by_id`, `user_by_email`, `user_by_username`, `user_by_phone`, `users_by_ids`, `users_list`,
`user_insert`, `user_update`, `user_delete`, `token_is_revoked`, `token_revoke`, `avatar_read`,
`avatar_write`. A path is written with its method, and with its query as it was sent; after the first 1000
different ones, `paths_not_recorded` counts the requests on any other. The instruments and `/healthz` are not
counted. `POST /__stats/reset` sets everything to 0 (204).

`GET /__control` answers::

    {"latency": 0.01, "latency_jitter": 0.002, "error_rate": 0.0, "drop_after_commit_rate": 0.0,
     "leak_hash": false, "hold": ["user_by_id"], "hold_before": [], "held": {"user_by_id": 1}}

With `?held=user_by_id&count=2` it answers when two such requests are held, or 408 after 10 s.

`POST /__control` takes any of the settings (latencies as seconds or as "10ms"), and `hold`, `hold_before`
and `release`, each a kind or a list of kinds; `"release": "all"` releases every kind. It answers as GET does.
After one mistake (422) nothing is changed. `release` is done before `hold`. A held request waits with its
answer ready, its write committed; a `hold_before` one waits before it touches the database.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from aiohttp import web

from upstream_stub.answers import Problem, json_answer
from upstream_stub.faults import Moment
from upstream_stub.fields import parse_id, parse_object
from upstream_stub.kinds import Kind
from upstream_stub.options import parse_duration
from upstream_stub.service import Service

_LONGEST_WAIT = 10.0


async def show_stats(service: Service, _request: web.Request) -> web.Response:
    """GET /__stats."""
    stats, queries, faults = service.stats, service.database.queries, service.faults
    by_kind = {kind.value: stats.by_kind[kind] for kind in Kind}
    return json_answer(
        {
            "requests": {"total": sum(by_kind.values()), "by_kind": by_kind},
            "queries": {"total": queries.total(), "by_name": dict(queries)},
            "faults": {"errors": faults.errors_sent, "drops": faults.answers_dropped},
            "hits_by_path": stats.hits_by_path,
            "paths_not_recorded": stats.paths_not_recorded,
        }
    )


async def reset_stats(service: Service, _request: web.Request) -> web.Response:
    """POST /__stats/reset."""
    service.stats.reset()
    service.database.queries.clear()
    service.faults.errors_sent = service.faults.answers_dropped = 0
    return web.Response(status=204)


async def show_control(service: Service, request: web.Request) -> web.Response:
    """GET /__control."""
    if "held" in request.query:
        kind = _kind(request.query["held"])
        count = parse_id(request.query.get("count", "1"))
        if count is None:
            raise Problem(422, "count must be a number")
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                await service.holds.until_held(kind, count)
        except TimeoutError as error:
            raise Problem(408, f"only {service.holds.held.get(kind, 0)} requests are held") from error
    return _control(service)


async def set_control(service: Service, request: web.Request) -> web.Response:
    """POST /__control."""
    given = parse_object(await request.read())
    settings: dict[str, Any] = {}
    kinds: dict[str, list[Kind]] = {}
    for name, value in given.items():
        if name in _SETTINGS:
            settings[name] = _SETTINGS[name](name, value)
        elif name in _KIND_LISTS:
            everything = name == "release" and value == "all"
            kinds[name] = list(Kind) if everything else [_kind(item) for item in _listed(value)]
        else:
            raise Problem(422, f"unknown key: {name}")
    for name, value in settings.items():
        setattr(service.faults, name, value)
    for kind in kinds.get("release", ()):
        service.holds.release(kind)
    for moment in Moment:
        for kind in kinds.get(moment, ()):
            service.holds.hold(kind, moment)
    return _control(service)


def _control(service: Service) -> web.Response:
    holds = service.holds
    shown = {name: getattr(service.faults, name) for name in _SETTINGS}
    shown |= {moment.value: [kind.value for kind in holds.kinds(moment)] for moment in Moment}
    shown["held"] = {kind.value: count for kind, count in holds.held.items()}
    return json_answer(shown)


def _duration(name: str, value: object) -> float:
    try:
        if isinstance(value, str):
            return parse_duration(value)
    except ValueError as error:
        raise Problem(422, f"{name}: {error}") from error
    return _number(name, value, math.inf)


def _rate(name: str, value: object) -> float:
    return _number(name, value, 1.0)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Problem(422, f"{name} must be true or false")
    return value


def _number(name: str, value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise Problem(422, f"{name} must be a number from 0 to {largest:g}")
    return float(value)


def _kind(name: object) -> Kind:
    try:
        return Kind(str(name))
    except ValueError as error:
        raise Problem(422, f"unknown kind: {name}") from error


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


_SETTINGS: dict[str, Callable[[str, object], object]] = {
    "latency": _duration,
    "latency_jitter": _duration,
    "error_rate": _rate,
    "drop_after_commit_rate": _rate,
    "leak_hash": _flag,
}
_KIND_LISTS = ("release", *(moment.value for moment in Moment))
