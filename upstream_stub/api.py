"""The application: which request goes to which handler, and what happens around each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from upstream_stub import auth, avatars, instruments, lookups, writes
from upstream_stub.answers import Problem, json_answer
from upstream_stub.faults import Moment
from upstream_stub.kinds import WRITES, Kind
from upstream_stub.options import Options
from upstream_stub.service import Handler, Service, make_service

SERVICE = web.AppKey("service", Service)

_LARGEST_BODY = 1024 * 1024

_update_by_key = writes.update(writes.named_by_key)
_delete_by_key = writes.delete(writes.named_by_key)
_update_by_email = writes.update(writes.named_by_email)
_delete_by_email = writes.delete(writes.named_by_email)
_update_by_phone = writes.update(writes.named_by_phone)
_delete_by_phone = writes.delete(writes.named_by_phone)

# A GET route answers HEAD too. Where the kind depends on the request, a function finds it.
_ROUTES: tuple[tuple[str, str, Kind | Callable[[web.Request], Kind], Handler], ...] = (
    ("GET", "/users", lookups.kind_of_query, lookups.by_query),
    ("POST", "/users", Kind.CREATE, writes.create),
    ("PUT", "/users", Kind.UPDATE, _update_by_phone),
    ("PATCH", "/users", Kind.UPDATE, _update_by_phone),
    ("DELETE", "/users", Kind.DELETE, _delete_by_phone),
    ("GET", "/users/by-email/{email}", Kind.USER_BY_EMAIL, lookups.by_email),
    ("PUT", "/users/by-email/{email}", Kind.UPDATE, _update_by_email),
    ("PATCH", "/users/by-email/{email}", Kind.UPDATE, _update_by_email),
    ("DELETE", "/users/by-email/{email}", Kind.DELETE, _delete_by_email),
    ("GET", "/users/{key}", lookups.kind_of_key, lookups.by_key),
    ("PUT", "/users/{key}", Kind.UPDATE, _update_by_key),
    ("PATCH", "/users/{key}", Kind.UPDATE, _update_by_key),
    ("DELETE", "/users/{key}", Kind.DELETE, _delete_by_key),
    ("GET", "/profiles/{username}", Kind.PROFILE, lookups.profile),
    ("PUT", "/profile", Kind.PROFILE_UPDATE, writes.update_profile),
    ("GET", "/auth/me", Kind.ME, auth.me),
    ("GET", "/auth/introspect", Kind.INTROSPECT, auth.introspect),
    ("POST", "/auth/introspect", Kind.INTROSPECT, auth.introspect_form),
    ("POST", "/auth/login", Kind.LOGIN, auth.login),
    ("POST", "/auth/logout", Kind.LOGOUT, auth.logout),
    ("POST", "/auth/password", Kind.PASSWORD, writes.change_password),
    ("POST", "/admin/users/bulk", Kind.BULK, writes.update_many),
    ("GET", "/avatars/{file}", Kind.AVATAR, avatars.show),
    ("PUT", "/avatars/{file}", Kind.AVATAR_UPDATE, avatars.replace),
    ("GET", "/.well-known/jwks.json", Kind.JWKS, auth.jwks),
)

# Neither counted nor delayed, and no fault strikes them.
_UNCOUNTED: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/__stats", instruments.show_stats),
    ("POST", "/__stats/reset", instruments.reset_stats),
    ("GET", "/__control", instruments.show_control),
    ("POST", "/__control", instruments.set_control),
)


def make_app(options: Options) -> web.Application:
    """The service, ready to be served; `app[SERVICE]` reaches its parts. The database is open from now on."""
    service = make_service(options)
    app = web.Application(middlewares=[_errors_as_json], client_max_size=_LARGEST_BODY)
    app[SERVICE] = service
    for method, path, kind, handler in _ROUTES:
        _add(app, method, path, _endpoint(service, kind, handler))
    for method, path, handler in _UNCOUNTED:
        _add(app, method, path, _uncounted(service, handler))
    _add(app, "GET", "/healthz", _healthz)
    app.on_shutdown.append(_release_everything)
    app.on_cleanup.append(_close)
    return app


def _add(
    app: web.Application, method: str, path: str, handler: Callable[[web.Request], Awaitable[web.Response]]
) -> None:
    if method == "GET":
        app.router.add_get(path, handler)
    else:
        app.router.add_route(method, path, handler)


def _endpoint(
    service: Service, kind: Kind | Callable[[web.Request], Kind], handler: Handler
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler with everything that happens to a request before and after it."""
    stats, faults, holds = service.stats, service.faults, service.holds

    async def answer(request: web.Request) -> web.Response:
        name = kind if isinstance(kind, Kind) else kind(request)
        stats.count(name, request.method, request.raw_path)
        if faults.fails():
            return Problem(500, "internal server error").response()
        # Half before the database is read and half after: both leave a window for a race.
        pause = faults.latency_now() / 2
        if pause:
            await asyncio.sleep(pause)
        await holds.wait_at(name, Moment.BEFORE)
        try:
            response = await handler(service, request)
        except Problem as problem:
            response = problem.response()
        if pause:
            await asyncio.sleep(pause)
        await holds.wait_at(name, Moment.AFTER)
        if name in WRITES and response.status < 400 and faults.drops() and request.transport is not None:
            request.transport.close()
        return response

    return answer


def _uncounted(service: Service, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(service, request)
        except Problem as problem:
            return problem.response()

    return answer


async def _healthz(_request: web.Request) -> web.Response:
    return json_answer({"status": "ok"})


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status in (404, 405):
            # No route took it, so no endpoint has counted it.
            request.app[SERVICE].stats.count(Kind.OTHER, request.method, request.raw_path)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return json_answer({"detail": error.reason.lower()}, error.status, headers)


async def _release_everything(app: web.Application) -> None:
    # A held request would keep the shutdown waiting for its full grace period.
    app[SERVICE].holds.release_all()


async def _close(app: web.Application) -> None:
    app[SERVICE].database.close()
