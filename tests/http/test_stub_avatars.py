"""The legacy service: the one resource with caching headers."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from upstream_stub.api import SERVICE, make_app
from upstream_stub.options import Options

Client = TestClient[Any, Any]
SVG = {"Content-Type": "image/svg+xml"}


@pytest.fixture(name="client")
async def _client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(Options(users=5, latency=0.0, latency_jitter=0.0)))


def bearer(client: Client, user_id: int) -> dict[str, str]:
    """The header of somebody logged in."""
    service = client.app[SERVICE]
    user = service.database.user_by_id(user_id)
    assert user is not None
    return {"Authorization": f"Bearer {service.signer.issue(user)}"}


async def test_a_drawn_avatar_is_cacheable(client: Client) -> None:
    """The same picture for the same username, with all that a shared cache needs."""
    first, second = await client.get("/avatars/ada1.svg"), await client.get("/avatars/ada1.svg")
    other = await client.get("/avatars/grace2.svg")

    assert (200, "image/svg+xml") == (first.status, first.headers["Content-Type"])
    assert "public, max-age=60" == first.headers["Cache-Control"]
    assert first.headers["Last-Modified"].endswith(" GMT")
    assert (await first.read(), first.headers["ETag"]) == (await second.read(), second.headers["ETag"])
    assert first.headers["ETag"] != other.headers["ETag"]
    assert (await first.read()).startswith(b"<svg ")


async def test_a_known_avatar_is_not_sent_again(client: Client) -> None:
    """304 repeats the headers that a cache has to refresh."""
    tag = (await client.get("/avatars/ada1.svg")).headers["ETag"]

    answer = await client.get("/avatars/ada1.svg", headers={"If-None-Match": tag})

    assert (304, b"") == (answer.status, await answer.read())
    assert (tag, "public, max-age=60") == (answer.headers["ETag"], answer.headers["Cache-Control"])


async def test_an_uploaded_avatar_is_shown(client: Client) -> None:
    """An upload replaces the picture, its ETag with it, and does not touch the user."""
    before = await client.get("/avatars/grace2.svg")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'

    answer = await client.put("/avatars/grace2.svg", data=svg, headers=SVG | bearer(client, 2))

    after = await client.get("/avatars/grace2.svg")
    assert (204, svg) == (answer.status, await after.read())
    assert answer.headers["ETag"] == after.headers["ETag"] != before.headers["ETag"]
    assert 1 == (await (await client.get("/users/2")).json())["version"]


async def test_uploads_are_checked(client: Client) -> None:
    """Only the user and admins upload, only pictures, only small ones, only for somebody who exists."""

    async def upload(path: str, data: bytes, headers: dict[str, str]) -> int:
        return (await client.put(f"/avatars/{path}", data=data, headers=headers)).status

    assert 401 == await upload("grace2.svg", b"<svg/>", SVG)
    assert 403 == await upload("grace2.svg", b"<svg/>", SVG | bearer(client, 3))
    assert 204 == await upload("grace2.svg", b"<svg/>", SVG | bearer(client, 1))
    assert 422 == await upload("grace2.svg", b"<svg/>", {"Content-Type": "image/png"} | bearer(client, 2))
    assert 422 == await upload("grace2.svg", b"PNG", SVG | bearer(client, 2))
    assert 413 == await upload("grace2.svg", b"<" * (64 * 1024 + 1), SVG | bearer(client, 2))
    assert 404 == await upload("nobody.svg", b"<svg/>", SVG | bearer(client, 1))


@pytest.mark.parametrize("file", ["nobody.svg", "ada1", "ada1.png", ".svg", "1.svg"])
async def test_other_files_are_not_found(client: Client, file: str) -> None:
    """An avatar is a username with .svg and nothing else."""
    assert 404 == (await client.get(f"/avatars/{file}")).status
