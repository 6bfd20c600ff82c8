"""The proxy is invisible where it forwards: what clients see directly is what they see through it."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import brotlicffi
import pytest

from tests.processes import ROOT, Proxy
from tests.transparency.cases import CASES
from tests.transparency.clients import CLIENTS, Case, Seen

# Both ways the same, whatever the port: what the service echoes must not differ by where it was asked.
HOST = ("Host", "httpbin.test:8123")
# A proxy's own lines, and those of one connection.
OWN = frozenset({"date", "via", "x-cache", "cache-status", "connection", "keep-alive"})
# The comparison is worth what is compared.
MIN_CASES = 190
ECHOED = frozenset({"via", "connection", "keep-alive", "expect", "te"})
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "br": brotlicffi.decompress,
    "deflate": zlib.decompress,
    "gzip": gzip.decompress,
}


@pytest.fixture(name="places", scope="module")
def _places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """httpbin, and the proxy before it: nothing is cached, everything passes."""
    routes = Path(tmp_path_factory.mktemp("transparency")) / "routes.yaml"
    routes.write_text("version: 1\n")
    with subprocess.Popen(
        (sys.executable, "-m", "tests.transparency.service"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    ) as service:
        assert service.stdout is not None
        try:
            direct = service.stdout.readline().decode().strip()
            with Proxy.start(direct, ROUTES_FILE=str(routes)) as proxy:
                yield direct, proxy.url
        finally:
            service.terminate()


def compared(seen: Seen, case: Case) -> Seen:
    """What has to be the same."""
    lines = [(name, masked(value, case)) for name, value in seen.headers if name.lower() not in OWN]
    coding = next((value for name, value in lines if name.lower() == "content-encoding"), "")
    body = unechoed(seen.body, coding)
    if body != seen.body:
        # The length is that of what was echoed.
        lines = [(name, value) for name, value in lines if name.lower() != "content-length"]
    return replace(seen, headers=tuple(lines), body=masked(body.decode("latin-1"), case).encode("latin-1"))


def masked(text: str, case: Case) -> str:
    """Without what is new each time."""
    for mask in case.masks:
        text = re.sub(mask, "*", text)
    return text


def unechoed(body: bytes, coding: str = "") -> bytes:
    """An echo of the request, decoded, without the lines that a proxy adds, or ends, on the way."""
    try:
        plain = CODINGS[coding](body)
        return b"\n".join(map(_unechoed, plain.splitlines() if plain.count(b"\n{") else (plain,)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return body


def _unechoed(body: bytes) -> bytes:
    told = json.loads(body)
    kept = {
        name: value
        for name, value in told["headers"].items()
        if name.lower() not in ECHOED and not name.lower().startswith("x-forwarded-")
    }
    return json.dumps(told | {"headers": kept}).encode()


@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_see_is_the_same(client: str, places: tuple[str, str]) -> None:
    """Status, reason, field lines in order and spelling, and body, for every case."""
    direct, through = places
    ask = CLIENTS[client]
    differences = []
    for plain in CASES:
        case = replace(plain, headers=(HOST, *plain.headers))
        ours, theirs = compared(ask(through, case), case), compared(ask(direct, case), case)
        if ours != theirs:
            differences.append((str(plain), theirs, ours))

    assert len(CASES) >= MIN_CASES
    assert [] == differences


def test_trace_is_refused(places: tuple[str, str]) -> None:
    """The one method that differs: it would show the client what was added on the way."""
    case = Case("TRACE", "/anything", (HOST,))

    assert [(200, 405)] * 2 == [
        (ask(places[0], case).status, ask(places[1], case).status)
        for ask in (CLIENTS["httpx"], CLIENTS["requests"])
    ]
