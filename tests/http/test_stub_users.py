"""The legacy service: looking users up and writing to them."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from upstream_stub.api import SERVICE, make_app
from upstream_stub.options import Options

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]

NEW = {"email": "new@example.com", "username": "newbie", "password": "correct horse"}
# User 3.
PHONE = "/users?phone=%2B4915854101974"
BY_EVERY_KEY = ("/users/3", "/users/alan3", "/users/by-email/ALAN3@example.com", PHONE)


@pytest.fixture(name="start")
def _start(aiohttp_client: AiohttpClient) -> Start:
    async def start(**options: Any) -> Client:
        options = {"users": 30, "latency": 0.0, "latency_jitter": 0.0} | options
        return await aiohttp_client(make_app(Options(**options)))

    return start


def bearer(client: Client, user_id: int) -> dict[str, str]:
    """The header of somebody logged in."""
    service = client.app[SERVICE]
    user = service.database.user_by_id(user_id)
    assert user is not None
    return {"Authorization": f"Bearer {service.signer.issue(user)}"}


async def user_of(client: Client, user_id: int) -> dict[str, Any]:
    """The user as the service shows it now."""
    async with client.get(f"/users/{user_id}") as answer:
        assert 200 == answer.status
        return dict(await answer.json())


async def test_every_key_finds_the_same_user(start: Start) -> None:
    """Id, e-mail address in any case, username, phone and token all answer with one representation."""
    client = await start()
    expected = await user_of(client, 2)
    headers = bearer(client, 2)

    for path, params in (
        ("/users/002", {}),
        ("/users/grace2", {}),
        ("/users/by-email/GRACE2@Example.com", {}),
        ("/users", {"phone": expected["phone"]}),
        ("/auth/me", {}),
    ):
        answer = await client.get(path, params=params, headers=headers)

        assert (200, expected) == (answer.status, await answer.json()), path
        assert "application/json" == answer.headers["Content-Type"]


async def test_a_user_has_the_documented_fields(start: Start) -> None:
    """The representation is what a cache in front has to understand, and of a realistic size."""
    client = await start()

    answer = await client.get("/users/1")

    assert [
        "id",
        "email",
        "username",
        "phone",
        "display_name",
        "bio",
        "role",
        "is_active",
        "version",
        "created_at",
        "updated_at",
    ] == list(await answer.json())
    assert 350 <= len(await answer.read()) <= 450
    assert not {"Cache-Control", "ETag", "Last-Modified"} & set(answer.headers)


@pytest.mark.parametrize(
    "path", ["/users/31", "/users/9223372036854775808", "/users/" + "9" * 30, "/users/nobody", "/users/%ff"]
)
async def test_unknown_users_are_not_found(start: Start, path: str) -> None:
    """A key of nobody, however odd, is 404 with a reason."""
    client = await start()

    answer = await client.get(path)

    assert (404, {"detail": "no such user"}) == (answer.status, await answer.json())


@pytest.mark.parametrize("path", ["/users/by-email/ada1@example.com", "/users?phone=%2B4915618033996"])
async def test_email_and_phone_need_a_token(start: Start, path: str) -> None:
    """Without a token, or with one of an inactive user, a look-up by a private key is refused."""
    client = await start()

    for headers in (
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer junk"},
        bearer(client, 13),
    ):
        answer = await client.get(path, headers=headers)

        assert 401 == answer.status
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert 200 == (await client.get(path, headers=bearer(client, 2))).status


async def test_several_ids_keep_their_order(start: Start) -> None:
    """A list comes in the order asked for, each user once and unknown ones left out."""
    client = await start()

    answer = await client.get("/users?ids=7,3,99,7,13,9999999999999999999,0")

    assert [7, 3, 13] == [user["id"] for user in await answer.json()]


@pytest.mark.parametrize("ids", ["", "a", "1,", "1,-2", "1;2", "9" * 20, "%D9%A3", ",".join("1" * 1001)])
async def test_ids_must_be_numbers(start: Start, ids: str) -> None:
    """Anything else in the list is a mistake of the caller."""
    client = await start()

    assert 422 == (await client.get(f"/users?ids={ids}")).status


async def test_the_list_goes_by_pages(start: Start) -> None:
    """`after` continues where the page before ended, by id."""
    client = await start()

    pages = [await (await client.get(f"/users?limit=12&after={after}")).json() for after in (0, 12, 24, 30)]

    assert [12, 12, 6, 0] == [len(page) for page in pages]
    assert list(range(1, 31)) == [user["id"] for page in pages for user in page]
    for query in ("limit=0", "limit=1001", "limit=x", "after=-1"):
        assert 422 == (await client.get(f"/users?{query}")).status


async def test_a_profile_shows_four_fields(start: Start) -> None:
    """The public view says nothing private, even where the hash leaks."""
    client = await start(leak_hash=True)

    answer = await client.get("/profiles/ada1")

    assert ["id", "username", "display_name", "bio"] == list(await answer.json())
    assert 404 == (await client.get("/profiles/nobody")).status


async def test_head_and_wrong_methods(start: Start) -> None:
    """HEAD is a GET without its body; a method that a path does not know is 405 and says which it knows."""
    client = await start()

    head, wrong, unknown = (
        await client.head("/users/1"),
        await client.post("/users/1"),
        await client.get("/no"),
    )

    assert (200, b"") == (head.status, await head.read())
    assert 350 <= int(head.headers["Content-Length"]) <= 450
    assert (405, {"detail": "method not allowed"}) == (wrong.status, await wrong.json())
    assert "DELETE,GET,HEAD,PATCH,PUT" == wrong.headers["Allow"]
    assert (404, {"detail": "not found"}) == (unknown.status, await unknown.json())


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("path", BY_EVERY_KEY)
async def test_a_write_changes_what_it_names(start: Start, method: str, path: str) -> None:
    """Only the given fields change; the version goes up by one and the timestamp forward."""
    client = await start()
    before = await user_of(client, 3)

    answer = await client.request(method, path, json={"bio": "new", "is_active": False, "phone": None})

    after = await answer.json()
    assert 200 == answer.status
    assert (
        before
        | {
            "bio": "new",
            "is_active": False,
            "phone": None,
            "version": 2,
            "updated_at": after["updated_at"],
        }
        == after
    )
    assert after["updated_at"] > before["updated_at"]
    assert after == await user_of(client, 3)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_to_the_collection_names_its_user(start: Start, method: str) -> None:
    """By phone, or not at all."""
    client = await start()
    assert 422 == (await client.request(method, "/users", json={"bio": "new"})).status
    assert 404 == (await client.request(method, "/users?phone=%2B10000000", json={"bio": "new"})).status


async def test_updated_at_never_stands_still(start: Start) -> None:
    """Writes faster than the clock's resolution still have timestamps of their own."""
    client = await start()

    answers = [await (await client.put("/users/3", json={"bio": str(n)})).json() for n in range(20)]

    assert list(range(2, 22)) == [user["version"] for user in answers]
    assert 20 == len({user["updated_at"] for user in answers})


async def test_a_rename_frees_the_old_name(start: Start) -> None:
    """The new keys find the user from then on, and the old ones nobody."""
    client = await start()

    answer = await client.put("/users/3", json={"username": "turing", "email": "t@example.com"})

    assert 200 == answer.status
    assert 3 == (await (await client.get("/users/turing")).json())["id"]
    assert 404 == (await client.get("/users/alan3")).status
    assert 404 == (await client.get("/users/by-email/alan3@example.com", headers=bearer(client, 1))).status
    assert 201 == (await client.post("/users", json=NEW | {"username": "alan3"})).status


@pytest.mark.parametrize("path", BY_EVERY_KEY)
async def test_a_deleted_user_is_gone(start: Start, path: str) -> None:
    """DELETE answers 204 once, every key is then unknown, and the id is never given out again."""
    client = await start(users=3)
    headers = bearer(client, 3)

    assert 204 == (await client.delete(path)).status

    assert 404 == (await client.delete(path)).status
    assert 404 == (await client.get("/users/3")).status
    assert 401 == (await client.get("/auth/me", headers=headers)).status
    assert 4 == (await (await client.post("/users", json=NEW)).json())["id"]


async def test_create_answers_with_the_user(start: Start) -> None:
    """201 with the place and the representation that a look-up then gives."""
    client = await start()

    answer = await client.post("/users", json=NEW | {"phone": "+491510000000"})

    created = await answer.json()
    assert (201, "/users/31") == (answer.status, answer.headers["Location"])
    assert created == await user_of(client, 31)
    assert (1, "newbie", "user", True) == tuple(
        created[name] for name in ("version", "display_name", "role", "is_active")
    )


@pytest.mark.parametrize(
    ("field", "value"), [("email", "ADA1@example.com"), ("username", "ada1"), ("phone", "+4915618033996")]
)
async def test_unique_fields_conflict(start: Start, field: str, value: str) -> None:
    """What another user has is 409 on create and on every kind of update, and nothing is changed."""
    client = await start()
    before = await user_of(client, 2)

    answers = [
        await client.post("/users", json=NEW | {field: value}),
        await client.put("/users/2", json={"bio": "lost", field: value}),
    ]
    if field != "username":
        answers.append(await client.put("/profile", json={field: value}, headers=bearer(client, 2)))

    for answer in answers:
        assert (409, {"detail": f"{field} is taken"}) == (answer.status, await answer.json())
    assert before == await user_of(client, 2)
    assert 404 == (await client.get("/users/31")).status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'"text"',
        b'{"nickname": "x"}',
        b'{"id": 9}',
        b'{"version": 9}',
        b'{"hashed_password": "x"}',
        b'{"email": "no-at-sign"}',
        b'{"email": "a@b"}',
        b'{"email": null}',
        b'{"username": "42"}',
        b'{"username": "a/b"}',
        b'{"phone": "0151 123"}',
        b'{"display_name": ""}',
        b'{"bio": 5}',
        b'{"role": "king"}',
        b'{"role": ["user"]}',
        b'{"is_active": 1}',
        b'{"password": "short"}',
        b'{"bio": "\xff"}',
    ],
)
async def test_bad_bodies_are_refused(start: Start, body: bytes) -> None:
    """Bad JSON, wrong types, unknown and read-only fields are 422, and nothing is written."""
    client = await start()

    answers = [await client.put("/users/2", data=body), await client.patch("/users/grace2", data=body)]

    assert [422, 422] == [answer.status for answer in answers]
    assert 1 == (await user_of(client, 2))["version"]


async def test_create_needs_its_fields(start: Start) -> None:
    """The answer names what is missing."""
    client = await start()

    answer = await client.post("/users", json={"username": "newbie"})

    assert (422, {"detail": "missing: email, password"}) == (answer.status, await answer.json())


async def test_a_body_has_a_limit(start: Start) -> None:
    """More than a megabyte is 413, in JSON like every other error."""
    client = await start()

    answer = await client.put("/users/2", data=io.BytesIO(b" " * (1024 * 1024 + 1)))

    assert (413, "application/json") == (answer.status, answer.content_type)


async def test_closed_writes_ask_who_is_writing(start: Start) -> None:
    """With --no-open-writes only the user and admins may write, and only admins may appoint."""
    client = await start(open_writes=False)
    change, appoint = {"bio": "x"}, {"role": "admin"}

    for path in ("/users/2", "/users/grace2", "/users/by-email/grace2@example.com"):
        assert 401 == (await client.put(path, json=change)).status
        assert 403 == (await client.put(path, json=change, headers=bearer(client, 3))).status
        assert 200 == (await client.put(path, json=change, headers=bearer(client, 2))).status
        assert 200 == (await client.put(path, json=change, headers=bearer(client, 1))).status
    assert 403 == (await client.put("/users/2", json=appoint, headers=bearer(client, 2))).status
    assert 200 == (await client.put("/users/2", json=appoint, headers=bearer(client, 1))).status
    assert 403 == (await client.delete("/users/2", headers=bearer(client, 3))).status
    assert 201 == (await client.post("/users", json=NEW)).status
    assert 401 == (await client.post("/users", json=NEW | appoint)).status


async def test_open_writes_still_read_a_token(start: Start) -> None:
    """Open is for requests without a token: a bad token or a stranger's is refused all the same."""
    client = await start()

    assert (
        401 == (await client.put("/users/2", json={"bio": "x"}, headers={"Authorization": "Bearer x"})).status
    )
    assert 403 == (await client.put("/users/2", json={"bio": "x"}, headers=bearer(client, 3))).status
    assert 404 == (await client.put("/users/99", json={"bio": "x"})).status


async def test_put_profile_writes_to_the_callers_user(start: Start) -> None:
    """Neither path nor body names the user; what only admins may set is unknown here."""
    client = await start()
    headers = bearer(client, 3)

    answer = await client.put("/profile", json={"display_name": "Al", "phone": None}, headers=headers)

    assert (200, 3, "Al", 2) == (
        answer.status,
        *(map((await answer.json()).get, ("id", "display_name", "version"))),
    )
    assert await answer.json() == await user_of(client, 3)
    assert 422 == (await client.put("/profile", json={"role": "admin"}, headers=headers)).status
    assert 401 == (await client.put("/profile", json={"bio": "x"})).status


async def test_bulk_changes_many_at_once(start: Start) -> None:
    """An admin sets the same fields on many users, each version goes up by one, unknown ids are left out."""
    client = await start()
    order = {"ids": [4, 2, 99, 4, 2**63], "set": {"is_active": False, "bio": "gone"}}

    answer = await client.post("/admin/users/bulk", json=order, headers=bearer(client, 1))

    assert (200, {"updated": 2, "ids": [4, 2]}) == (answer.status, await answer.json())
    for user_id, expected in ((2, (False, 2)), (4, (False, 2)), (3, (True, 1))):
        user = await user_of(client, user_id)
        assert expected == (user["is_active"], user["version"])


async def test_bulk_is_for_admins_and_shared_fields(start: Start) -> None:
    """A unique field cannot be set on many; nobody but an admin may ask; open writes do not open this."""
    client = await start()
    good = {"ids": [2], "set": {"bio": "x"}}

    assert 401 == (await client.post("/admin/users/bulk", json=good)).status
    assert 403 == (await client.post("/admin/users/bulk", json=good, headers=bearer(client, 2))).status
    for bad in (
        {},
        {"ids": [2]},
        good | {"more": 1},
        good | {"ids": []},
        good | {"ids": ["2"]},
        good | {"ids": [True]},
        good | {"ids": 2},
        good | {"set": {}},
        good | {"set": []},
        good | {"set": {"email": "a@b.example"}},
    ):
        answer = await client.post("/admin/users/bulk", json=bad, headers=bearer(client, 1))
        assert 422 == answer.status, bad


async def test_a_leaking_service_leaks_everywhere(start: Start) -> None:
    """With --leak-hash every answer that shows a user shows its hash, and always the same one."""
    client = await start(leak_hash=True)
    headers = bearer(client, 2)
    hashed = (await user_of(client, 2))["hashed_password"]

    shown = [
        (await (await client.get("/users/grace2")).json()),
        (await (await client.get("/auth/me", headers=headers)).json()),
        (await (await client.get("/users?ids=2")).json())[0],
        (await (await client.get("/users?after=1&limit=1")).json())[0],
        (await (await client.put("/users/2", json={"bio": "x"})).json()),
        (await (await client.put("/profile", json={"bio": "y"}, headers=headers)).json()),
    ]
    created = await (await client.post("/users", json=NEW)).json()

    assert hashed.startswith("$scrypt$ln=")
    assert {hashed} == {user["hashed_password"] for user in shown}
    assert created["hashed_password"].startswith("$scrypt$ln=")


async def test_etags_are_strong_and_conditional(start: Start) -> None:
    """With --etag a user is sent once, and again as soon as it has changed."""
    client = await start(etag=True)
    tag = (await client.get("/users/2")).headers["ETag"]

    async def conditional(value: str) -> int:
        return (await client.get("/users/2", headers={"If-None-Match": value})).status

    assert [304, 304, 304, 304, 200] == [
        await conditional(value) for value in (tag, f'"x", {tag}', f"W/{tag}", "*", '"x"')
    ]
    assert tag == (await client.get("/users/grace2")).headers["ETag"]
    await client.put("/users/2", json={"bio": "x"})
    assert 200 == await conditional(tag)
