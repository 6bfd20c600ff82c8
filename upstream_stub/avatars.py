"""Pictures of users: the one resource with caching headers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import web

from upstream_stub.answers import Problem, client_has, etag_of
from upstream_stub.callers import caller_of, check_may_write
from upstream_stub.service import Service
from upstream_stub.user import User

_SUFFIX = ".svg"
_TYPE = "image/svg+xml"
_LARGEST = 64 * 1024


async def show(service: Service, request: web.Request) -> web.Response:
    """GET /avatars/{username}.svg."""
    user = _named(service, request)
    uploaded = service.database.avatar(user.id)
    svg, changed = uploaded or (draw(user.username), user.created_at)
    tag = etag_of(svg)
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "public, max-age=60",
        "Last-Modified": format_datetime(datetime.fromisoformat(changed).astimezone(UTC), usegmt=True),
    }
    if client_has(request, tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=svg, headers={"Content-Type": _TYPE, **headers})


async def replace(service: Service, request: web.Request) -> web.Response:
    """PUT /avatars/{username}.svg, always with a token."""
    svg = await request.read()
    caller = caller_of(service, request)
    user = _named(service, request)
    check_may_write(caller, user)
    if request.content_type != _TYPE or not svg.lstrip().startswith(b"<"):
        raise Problem(422, f"the body must be {_TYPE}")
    if len(svg) > _LARGEST:
        raise Problem(413, f"a picture has at most {_LARGEST} bytes")
    service.database.put_avatar(user.id, svg)
    return web.Response(status=204, headers={"ETag": f'"{etag_of(svg)}"'})


def draw(username: str) -> bytes:
    """The picture of somebody who has uploaded none: a disc in a colour of their own, with their initial."""
    hue = int.from_bytes(hashlib.blake2b(username.encode(), digest_size=2).digest()) % 360
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
        f'<circle cx="32" cy="32" r="32" fill="hsl({hue} 60% 45%)"/>'
        '<text x="32" y="43" font-family="sans-serif" font-size="32" text-anchor="middle" fill="#fff">'
        f"{username[0].upper()}</text></svg>\n"
    ).encode()


def _named(service: Service, request: web.Request) -> User:
    file = request.match_info["file"]
    user = service.database.user_by_username(file.removesuffix(_SUFFIX)) if file.endswith(_SUFFIX) else None
    if user is None:
        raise Problem(404, "no such picture")
    return user
