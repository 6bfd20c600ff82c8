"""The matrix against the table that is checked in, and the table against what must hold in every cell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.matrix.design import BAD, BAD_BY_USER, GOOD, SHARED, said
from tests.matrix.matrix import (
    ACCESS,
    ASKS,
    CREDENTIALS,
    EXPECTED,
    INTROSPECTS,
    ROUTES,
    STATES,
    Echo,
    Walked,
    cells,
)
from tests.valkey import Valkey
from tests.walk import Bench, bench

TABLE = EXPECTED.read_text(encoding="utf-8").splitlines() if EXPECTED.exists() else []


@pytest_asyncio.fixture(name="walked")
async def _walked(tmp_path: Path) -> AsyncIterator[tuple[Walked, Bench, Valkey]]:
    echo = Echo()
    with Valkey() as valkey:
        async with bench(
            routes=ROUTES, tmp_path=tmp_path, redis=valkey.url, upstream=echo.app(), env={"JWT_SECRET": ""}
        ) as b:
            walked = Walked(b, echo)
            await walked.keys()
            yield walked, b, valkey


def expected(*states: str) -> list[str]:
    """The lines of the table in these states."""
    return [line for line in TABLE if line.split(" ")[2] in states]


async def test_with_redis(walked: tuple[Walked, Bench, Valkey]) -> None:
    """Cold, warm and fenced."""
    ask, _, _ = walked
    found = []
    for cell in cells("cold", "warm", "fenced"):
        await ask.prepare(cell)
        found.append(await ask.ask(cell))

    assert expected("cold", "warm", "fenced") == found
    assert [] == ask.unlike, "\n".join(map(str, ask.unlike))


async def test_without_redis(walked: tuple[Walked, Bench, Valkey]) -> None:
    """Warm, and then the server is gone."""
    ask, b, valkey = walked
    store = b.app.cache.store
    store._fallback_ttl = 600.0  # type: ignore[attr-defined]
    for cell in cells("down"):
        await ask.prepare(cell)
    valkey.kill()
    for _ in range(500):
        if store.recovery.down:  # type: ignore[attr-defined]
            break
        await asyncio.sleep(0.01)
    found = [await ask.ask(cell) for cell in cells("down")]

    assert expected("down") == found
    assert [] == ask.unlike, "\n".join(map(str, ask.unlike))


def test_the_table_has_every_cell() -> None:
    """Once each, in order."""
    told = [tuple(line.split(" ")[:3]) for line in TABLE]
    assert sorted((a, c, s) for a in ACCESS for c in CREDENTIALS for s in STATES) == sorted(told)


@pytest.mark.parametrize("line", TABLE)
def test_no_cell_breaks_a_promise(line: str) -> None:
    """What must hold whatever the table says, so that nobody can check in a leak."""
    access, credential, state, status, x_cache, reason, calls, seen = line.split(" ")
    mine = {"garbage": "unreadable"}.get(credential, credential)
    if credential == "huge" and access in ASKS[1:]:
        assert ("BYPASS", "request-form", "1", "huge") == (x_cache, reason, calls, seen)
        return
    if credential == "huge":
        assert ("431", "0") == (status, calls)
        return
    inactive = reason == "token-inactive" and calls == "0"
    # What upstream said to somebody else is served as a hit only, and a hit costs upstream nothing.
    assert (x_cache == "HIT") <= (calls == "0")
    if x_cache != "HIT" and status != "401" and not inactive:
        assert mine == seen
    if access in ASKS:
        said_no = "401" if access == "rfc7662" and inactive else "200"
        assert said_no == status or (access, credential) == ("post-view", "deleted")
        assert inactive <= (credential in (*BAD, *BAD_BY_USER) and access not in ("stranger", "post-view"))
        assert access != "stranger" or ("BYPASS", "1") == (x_cache, calls)
        assert (access == "stranger" and credential != "none") <= (reason == "caller-unknown")
        assert (access == "post-upstream" and x_cache == "HIT") <= (mine == seen)
        return
    if access in INTROSPECTS:
        if credential in BAD:
            assert ("401", "0") == (status, calls)
        if credential in ("inactive", "deleted") and state == "warm":
            assert ("401", "0") == (status, calls)
        assert status == "401" or credential != "inactive"
        assert status == "401" or credential != "revoked"
    else:
        # The proxy never says no to a look-up.
        assert "200" == status
    if access in ("token", "owner", "allow") and credential in (
        *BAD,
        "none",
        "unknown-kid",
        "inactive",
        "deleted",
    ):
        assert "HIT" != x_cache
    if access == "owner" and credential in ("other", "admin"):
        assert ("BYPASS", "not-owner") == (x_cache, reason)
    if access == "allow" and credential == "other":
        assert ("BYPASS", "not-owner") == (x_cache, reason)
    if access in ("caller", "upstream") and x_cache == "HIT":
        assert mine == seen
    if access == "unset" and credential != "none":
        assert "HIT" != x_cache
    if state == "fenced" and access != "view":
        assert "HIT" != x_cache or access == "upstream"


@pytest.mark.parametrize("line", TABLE)
def test_the_table_says_what_the_contract_says(line: str) -> None:
    """Cell by cell, from the sentences about `access`.

    What is neither a hit nor a refusal is one call, and so is a refusal that upstream's own answer led to.
    """
    access, credential, state, status, x_cache, reason, calls, _ = line.split(" ")
    if credential == "huge":
        return  # longer than any head, and any form that is looked into, may be
    must = said(access, credential, state)
    refused = status == "401" or (reason == "token-inactive" and access != "post-view")
    assert must.hit in (None, x_cache == "HIT")
    assert must.refused in (None, refused)
    learnt = refused and credential in BAD_BY_USER and state in ("cold", "down")
    assert calls in (("0", "1") if learnt else ("0",) if x_cache == "HIT" or refused else ("1",))


async def test_no_answer_lands_in_the_copy_of_others(walked: tuple[Walked, Bench, Valkey]) -> None:
    """After each cell without a copy, somebody without credentials asks where anyone may have one."""
    ask, b, _ = walked
    leaks = []
    for cell in cells("cold"):
        await ask.prepare(cell)
        await ask.ask(cell)
        for kind in (0, 1):
            answer = await b.get(f"/anyone/{cell.user(kind)}")
            seen = answer.json().get("seen")
            # SHARED lists no bad token but for `anyone`, who may be given what anyone was told.
            entitled = cell.credential in SHARED.get(cell.access, GOOD)
            # Of a user nobody here knows, upstream's acceptance of the token is the word.
            entitled |= cell.access == "token" and cell.credential in BAD_BY_USER
            if seen != "none" and not entitled:
                leaks.append((cell.access, cell.credential, kind, seen, answer.x_cache))

    assert [] == leaks, leaks
