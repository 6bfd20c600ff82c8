"""Answers, good and bad, in JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

BEARER = {"WWW-Authenticate": "Bearer"}
INVALID_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
NO_STORE = {"Cache-Control": "no-store"}


class Problem(Exception):
    """A request that gets an error: raised anywhere in a handler, answered as `{"detail": ...}`."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers

    def response(self) -> web.Response:
        """The answer for it."""
        return json_answer({"detail": self.detail}, self.status, self.headers)


def json_answer(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Any JSON."""
    return _response(orjson.dumps(payload), status, headers)


def tagged_json_answer(request: web.Request, payload: dict[str, Any] | list[dict[str, Any]]) -> web.Response:
    """JSON with a strong ETag, or 304 where the client has it already."""
    body = orjson.dumps(payload)
    tag = etag_of(body)
    headers = {"ETag": f'"{tag}"'}
    if client_has(request, tag):
        return web.Response(status=304, headers=headers)
    return _response(body, 200, headers)


def etag_of(body: bytes) -> str:
    """The opaque part of a strong ETag."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def client_has(request: web.Request, tag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110 section 13.1.2: the comparison is the weak one)."""
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())


def _response(body: bytes, status: int, headers: Mapping[str, str] | None) -> web.Response:
    sent = {"Content-Type": "application/json"}
    if headers:
        sent.update(headers)
    return web.Response(body=body, status=status, headers=sent)
