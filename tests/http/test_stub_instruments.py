"""The legacy service: what it counts, and the faults it can be told to have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ServerDisconnectedError
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from upstream_stub.api import SERVICE, make_app
from upstream_stub.faults import Faults
from upstream_stub.kinds import WRITES, Kind
from upstream_stub.options import Options

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]


@pytest.fixture(name="start")
def _start(aiohttp_client: AiohttpClient) -> Start:
    async def start(**options: Any) -> Client:
        options = {"users": 5, "latency": 0.0, "latency_jitter": 0.0} | options
        return await aiohttp_client(make_app(Options(**options)))

    return start


async def stats_of(client: Client) -> dict[str, Any]:
    """The statistics now."""
    return dict(await (await client.get("/__stats")).json())


async def control(client: Client, **settings: Any) -> dict[str, Any]:
    """Change something, and see what holds now."""
    answer = await client.post("/__control", json=settings)
    assert 200 == answer.status
    return dict(await answer.json())


async def version_of(client: Client, user_id: int) -> int:
    """How often the user was written to, plus one."""
    return int((await (await client.get(f"/users/{user_id}")).json())["version"])


async def test_every_kind_is_counted(start: Start) -> None:
    """Each endpoint counts as its own kind, under a name that never changes."""
    client = await start()
    login = await client.post("/auth/login", json={"username": "ada1", "password": "password-1"})
    headers = {"Authorization": f"Bearer {(await login.json())['access_token']}"}
    svg = headers | {"Content-Type": "image/svg+xml"}
    new = {"email": "n@example.com", "username": "newbie", "password": "long enough"}
    await client.post("/__stats/reset")

    for method, path, kwargs, kind in (
        ("GET", "/users/1", {}, "user_by_id"),
        ("HEAD", "/users/1", {}, "user_by_id"),
        ("GET", "/users/by-email/ada1@example.com", {}, "user_by_email"),
        ("GET", "/users/ada1", {}, "user_by_username"),
        ("GET", "/users?phone=%2B4915618033996", {}, "user_by_phone"),
        ("GET", "/users?ids=1", {}, "users_by_ids"),
        ("GET", "/users", {}, "users_list"),
        ("GET", "/profiles/ada1", {}, "profile"),
        ("GET", "/auth/me", {}, "me"),
        ("GET", "/auth/introspect", {}, "introspect"),
        ("POST", "/auth/introspect", {"data": {"token": "x"}}, "introspect"),
        ("GET", "/.well-known/jwks.json", {}, "jwks"),
        ("GET", "/avatars/ada1.svg", {}, "avatar"),
        ("PUT", "/avatars/ada1.svg", {"data": b"<svg/>", "headers": svg}, "avatar_update"),
        ("POST", "/users", {"json": new}, "create"),
        ("PUT", "/users/2", {"json": {"bio": "x"}}, "update"),
        ("PATCH", "/users/by-email/ada1@example.com", {"json": {"bio": "x"}}, "update"),
        ("DELETE", "/users/newbie", {}, "delete"),
        ("PUT", "/profile", {"json": {"bio": "x"}}, "profile_update"),
        ("POST", "/admin/users/bulk", {"json": {"ids": [2], "set": {"bio": "y"}}}, "bulk"),
        (
            "POST",
            "/auth/password",
            {"json": {"old_password": "password-1", "new_password": "password-2"}},
            "password",
        ),
        ("POST", "/auth/login", {"json": {"username": "ada1", "password": "password-2"}}, "login"),
        ("POST", "/auth/logout", {}, "logout"),
        ("GET", "/nowhere", {}, "other"),
        ("POST", "/users/1", {}, "other"),
    ):
        before = (await stats_of(client))["requests"]

        answer = await client.request(method, path, **({"headers": headers} | kwargs))

        assert (answer.status < 400) == (kind != "other"), (method, path, answer.status)
        after = (await stats_of(client))["requests"]
        assert before["by_kind"] | {kind: before["by_kind"][kind] + 1} == after["by_kind"], (method, path)
        assert before["total"] + 1 == after["total"]

    assert {kind.value for kind in Kind} == set(after["by_kind"])
    assert all(after["by_kind"].values())


async def test_statistics_name_paths_and_queries(start: Start) -> None:
    """Paths are counted as they were sent and SQL by name; instruments and health checks are not counted."""
    client = await start()

    await client.get("/users/1")
    await client.get("/users/1")
    await client.get("/users?ids=1,2")
    await client.put("/users/1", json={"bio": "x"})
    await client.get("/healthz")
    await client.get("/__control")

    stats = await stats_of(client)
    assert {"GET /users/1": 2, "GET /users?ids=1,2": 1, "PUT /users/1": 1} == stats["hits_by_path"]
    assert {
        "total": 5,
        "by_name": {"user_by_id": 3, "users_by_ids": 1, "user_update": 1},
    } == stats["queries"]
    assert 4 == stats["requests"]["total"]


async def test_statistics_can_be_reset(start: Start) -> None:
    """A reset leaves nothing behind."""
    client = await start(error_rate=1.0)
    await client.get("/users/1")
    await client.get("/nowhere")

    assert 204 == (await client.post("/__stats/reset")).status

    stats = await stats_of(client)
    assert (0, {}, 0) == (stats["requests"]["total"], stats["hits_by_path"], stats["queries"]["total"])
    assert {"errors": 0, "drops": 0} == stats["faults"]


async def test_paths_are_bounded(start: Start) -> None:
    """A crawl over every URL does not fill the memory, and does not push out what was counted first."""
    client = await start()
    stats = client.app[SERVICE].stats

    for number in range(1002):
        stats.count(Kind.OTHER, "GET", f"/{number}")
        stats.count(Kind.OTHER, "GET", "/0")

    shown = await stats_of(client)
    assert (1000, 2) == (len(shown["hits_by_path"]), shown["paths_not_recorded"])
    assert 1003 == shown["hits_by_path"]["GET /0"]


async def test_errors_come_before_anything_is_done(start: Start) -> None:
    """With an error rate of 1 a write is 500 and changes nothing; the instruments keep working."""
    client = await start()
    await control(client, error_rate=1)

    answer = await client.put("/users/1", json={"bio": "x"})

    assert (500, {"detail": "internal server error"}) == (answer.status, await answer.json())
    assert 0 == (await stats_of(client))["queries"]["total"]
    assert 1 == (await stats_of(client))["faults"]["errors"]
    assert 200 == (await client.get("/healthz")).status
    await control(client, error_rate=0)
    assert 1 == await version_of(client, 1)


@pytest.mark.parametrize("kind", sorted(WRITES))
async def test_a_dropped_answer_leaves_a_committed_write(start: Start, kind: Kind) -> None:
    """The connection closes without an answer, and yet the write is there."""
    client = await start()
    service = client.app[SERVICE]
    user = service.database.user_by_id(1)
    assert user is not None
    headers = {"Authorization": f"Bearer {service.signer.issue(user)}", "Content-Type": "image/svg+xml"}
    new = {"email": "n@example.com", "username": "newbie", "password": "long enough"}
    passwords = {"old_password": "password-1", "new_password": "password-2"}
    requests: dict[Kind, tuple[str, str, dict[str, Any]]] = {
        Kind.UPDATE: ("PUT", "/users/1", {"json": {"bio": "x"}}),
        Kind.DELETE: ("DELETE", "/users/1", {}),
        Kind.CREATE: ("POST", "/users", {"json": new}),
        Kind.PROFILE_UPDATE: ("PUT", "/profile", {"json": {"bio": "x"}}),
        Kind.BULK: ("POST", "/admin/users/bulk", {"json": {"ids": [1], "set": {"bio": "x"}}}),
        Kind.PASSWORD: ("POST", "/auth/password", {"json": passwords}),
        Kind.LOGOUT: ("POST", "/auth/logout", {}),
        Kind.AVATAR_UPDATE: ("PUT", "/avatars/ada1.svg", {"data": b"<svg/>"}),
    }
    method, path, kwargs = requests[kind]
    # Set directly and not over HTTP: on a connection that was used before, the client would repeat a PUT.
    service.faults.drop_after_commit_rate = 1.0

    with pytest.raises(ServerDisconnectedError):
        await client.request(method, path, headers=headers, **kwargs)

    assert 1 == (await stats_of(client))["faults"]["drops"]
    user, database = service.database.user_by_id(1), service.database
    match kind:
        case Kind.DELETE:
            assert user is None
        case Kind.CREATE:
            assert database.user_by_username("newbie") is not None
        case Kind.AVATAR_UPDATE:
            assert database.avatar(1) is not None
        case Kind.LOGOUT:
            assert 1 == database.queries["token_revoke"]
        case _:
            assert user is not None
            assert 2 == user.version


async def test_only_committed_writes_are_dropped(start: Start) -> None:
    """Reads and refused writes are answered even when every committed write is not."""
    client = await start(drop_after_commit_rate=1.0)

    assert 200 == (await client.get("/users/1")).status
    assert 422 == (await client.put("/users/1", json={})).status
    assert 404 == (await client.delete("/users/99")).status


async def test_a_held_read_is_stale_when_released(start: Start) -> None:
    """A read that waits with its answer ready is overtaken by a write: the race a cache must survive."""
    client = await start()
    await control(client, hold="user_by_id")
    reads = [asyncio.create_task(client.get("/users/1")) for _ in range(2)]
    waiting = await client.get("/__control?held=user_by_id&count=2")

    written = await client.put("/users/1", json={"bio": "x"})
    by_name = await client.get("/users/ada1")
    released = await control(client, release="user_by_id")

    assert (["user_by_id"], {"user_by_id": 2}) == tuple(map((await waiting.json()).get, ("hold", "held")))
    assert (2, 2) == ((await written.json())["version"], (await by_name.json())["version"])
    assert [1, 1] == [(await (await read).json())["version"] for read in reads]
    assert ([], 2) == (released["hold"], await version_of(client, 1))
    assert {} == (await (await client.get("/__control")).json())["held"]


async def test_a_held_write_is_committed(start: Start) -> None:
    """A write that is held has happened, and everybody but its writer can know."""
    client = await start()
    await control(client, hold=["update"])
    write = asyncio.create_task(client.put("/users/1", json={"bio": "x"}))
    await client.get("/__control?held=update")

    seen = await version_of(client, 1)
    await control(client, release=["update"])

    assert (2, 200) == (seen, (await write).status)


async def test_a_write_held_before_is_not_begun(start: Start) -> None:
    """`hold_before` stops a request before it touches the database."""
    client = await start()
    settings = await control(client, hold_before="update")
    write = asyncio.create_task(client.put("/users/1", json={"bio": "x"}))
    await client.get("/__control?held=update")

    seen = await version_of(client, 1)
    await control(client, release="all")

    assert (["update"], []) == (settings["hold_before"], settings["hold"])
    assert (1, 200, 2) == (seen, (await write).status, await version_of(client, 1))


async def test_held_requests_do_not_stop_a_shutdown(start: Start) -> None:
    """Ending the service releases them: they are answered and the end is not delayed."""
    client = await start()
    await control(client, hold="user_by_id")
    read = asyncio.create_task(client.get("/users/1"))
    await client.get("/__control?held=user_by_id")

    await client.server.close()

    assert 200 == (await read).status


async def test_settings_change_at_run_time(start: Start) -> None:
    """Durations are texts or seconds, and the answer shows what holds now."""
    client = await start()

    shown = await control(
        client,
        latency="10ms",
        latency_jitter=0.5,
        error_rate=0,
        drop_after_commit_rate=0.25,
        leak_hash=True,
    )

    assert {
        "latency": 0.01,
        "latency_jitter": 0.5,
        "error_rate": 0.0,
        "drop_after_commit_rate": 0.25,
        "leak_hash": True,
        "hold": [],
        "hold_before": [],
        "held": {},
    } == shown
    assert shown == await (await client.get("/__control")).json()
    await control(client, latency=0, latency_jitter=0)
    assert "hashed_password" in await (await client.get("/users/1")).json()


@pytest.mark.parametrize(
    "bad",
    [
        {"speed": 1},
        {"latency": "fast"},
        {"latency": -1},
        {"latency": None},
        {"error_rate": 1.5},
        {"error_rate": True},
        {"drop_after_commit_rate": "0.5"},
        {"leak_hash": 1},
        {"hold": "everything"},
        {"hold": [1]},
        {"release": ["all"]},
    ],
)
async def test_a_mistake_changes_nothing(start: Start, bad: dict[str, Any]) -> None:
    """One unknown key or bad value, and the good ones beside it are not applied either."""
    client = await start()

    answer = await client.post("/__control", json={"leak_hash": True, "hold": "me"} | bad)

    assert 422 == answer.status
    shown = await (await client.get("/__control")).json()
    assert (False, []) == (shown["leak_hash"], shown["hold"])


async def test_waiting_for_the_held_is_checked(start: Start) -> None:
    """A kind nobody knows and a count that is no number are mistakes; none is reached at once."""
    client = await start()

    assert 422 == (await client.get("/__control?held=everything")).status
    assert 422 == (await client.get("/__control?held=me&count=x")).status
    assert 200 == (await client.get("/__control?held=me&count=0")).status


async def test_latency_spares_instruments_and_health(start: Start) -> None:
    """With an hour of latency a look-up does not come back, and the instruments do."""
    client = await start(latency=3600.0)
    read = asyncio.create_task(client.get("/users/1"))

    assert 200 == (await client.get("/healthz")).status
    while (await stats_of(client))["requests"]["by_kind"]["user_by_id"] == 0:
        pass
    await control(client, latency=0)

    assert not read.done()
    read.cancel()


def test_chance_comes_from_the_seed() -> None:
    """The same seed gives the same errors, drops and latencies; the rates and the jitter are kept to."""

    def run(seed: int) -> list[tuple[bool, bool, float]]:
        options = Options(
            seed=seed, error_rate=0.1, drop_after_commit_rate=0.5, latency=0.010, latency_jitter=0.002
        )
        faults = Faults(options)
        return [(faults.fails(), faults.drops(), faults.latency_now()) for _ in range(2000)]

    first = run(7)

    assert first == run(7) != run(8)
    assert 120 < sum(failed for failed, _, _ in first) < 280
    assert 850 < sum(dropped for _, dropped, _ in first) < 1150
    assert all(0.008 <= latency <= 0.012 for _, _, latency in first)
    assert 0.0 == Faults(Options(latency=0.0, latency_jitter=0.0)).latency_now()
