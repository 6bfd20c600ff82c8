"""OPTIONS through the whole proxy: about the server, about a path, and with a count of hops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from tests.walk import bench

ROUTES = """\
version: 1
upstream: {url: "{stub}"}
user: {id: id}
views: {users: {ttl: 60s}}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}
"""


async def said(url: str, request: bytes) -> bytes:
    """The answer to one request, which asks for the connection to be closed."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request + b"Connection: close\r\n\r\n")
    try:
        return await reader.read(-1)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("target", "arrives"),
    [(b"*", "*"), (b"http://h", "*"), (b"http://h/", "/"), (b"/users/1", "/users/1"), (b"/x?y", "/x?y")],
)
async def test_options_and_their_hops(target: bytes, arrives: str, tmp_path: Path) -> None:
    """They reach upstream with one hop less, until there is none left; then the proxy answers."""
    heard: list[tuple[str, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        heard.append((request.raw_path, request.headers.get("Max-Forwards")))
        return web.Response(headers={"Allow": "GET"})

    @web.middleware
    async def every(request: web.Request, handler: object) -> web.StreamResponse:
        return await answer(request)

    async with bench(
        routes=ROUTES, tmp_path=tmp_path, upstream=web.Application(middlewares=[every])
    ) as proxy:
        for hops in (b"", b"Max-Forwards: 2\r\n", b"Max-Forwards: 0\r\n"):
            last = await said(proxy.url, b"OPTIONS %b HTTP/1.1\r\nHost: h\r\n%b" % (target, hops))
            assert last.startswith(b"HTTP/1.1 200 OK\r\n")

    assert [(arrives, None), (arrives, "1")] == heard
    assert b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nContent-Length: 0\r\n" in last
    assert b"Cache-Status: user-cache-proxy; detail=max-forwards\r\n" in last


async def test_trace_ends_here_whatever_its_count(tmp_path: Path) -> None:
    """It would show the client what was added on the way."""
    async with bench(routes=ROUTES, tmp_path=tmp_path) as proxy:
        for hops in (b"0", b"5"):
            last = await said(proxy.url, b"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: %b\r\n" % hops)
            assert last.startswith(b"HTTP/1.1 405 ")
