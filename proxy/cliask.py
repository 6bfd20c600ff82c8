"""The commands that ask a running proxy: explain, evict, stats."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from proxy import clitext as out
from proxy.cliadmin import AdminClient, NoProxy, detail
from proxy.clistats import lines
from proxy.core.headers import Headers

Place = tuple[str, str | None]
"""An address of an admin socket, and the token to show there."""


def explain(
    method: str, url: str, headers: Sequence[str], routes: str | None, place: Place, as_json: bool
) -> int:
    """Prints what the proxy would do with a request; without a proxy, what the routes file alone says.

    Raises ValueError for a URL or header line that is none, Refused, ConfigError.
    """
    if not url.startswith("/") or any(character.isspace() for character in url):
        raise ValueError("the URL is a path with its query, such as /users/42 or '/users?ids=1,2'")
    lines = [_line(header) for header in headers]
    client = AdminClient(*place)
    question = [("method", method), ("url", url), *(("header", header) for header in headers)]
    silence = None
    try:
        told = client.get(f"/explain?{urlencode(question)}")
    except NoProxy as error:
        # Imported here: a proxy that answers has read the routes itself.
        from proxy.cliroutes import explained, load_without_secret

        settings, _ = load_without_secret(os.environ, {"--routes": routes})
        told = explained(settings, method, url, Headers(lines))
        silence = f"{error}, so what is stored is unknown; this is what {settings.routes_file} says"
    if as_json:
        out.say_json(told | {"proxy": None if silence else client.place})
        return 0
    rest = {name: value for name, value in told.items() if name not in ("would_be", "why")}
    verdict = {told["would_be"]: told["why"]}
    out.say(*out.fields(verdict | rest), *([silence] if silence else []))
    return 0


def evict(whom: Mapping[str, Any], place: Place, as_json: bool) -> int:
    """Prints what was removed; 1 where not every cache could be told. Raises ValueError, NoProxy, Refused."""
    client = AdminClient(*place)
    status, answer = client.ask("POST", "/evict", dict(whom))
    if as_json:
        out.say_json(answer)
    elif "evicted" in answer:
        evicted = answer["evicted"]
        counts = f"{_many(evicted['entries'], 'stored answer')}, {_many(evicted['aliases'], 'alias', 'es')}"
        out.say("evicted everybody" if evicted["everything"] else f"evicted {counts}")
    if status == 200:
        return 0
    out.complain(f"not done ({status}): {detail(answer)}")
    return 1


def stats(place: Place, as_json: bool) -> int:
    """Prints the counters. Raises ValueError, NoProxy, Refused."""
    told = AdminClient(*place).get("/stats")
    if as_json:
        out.say_json(told)
        return 0
    out.say(*lines(told))
    return 0


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _many(count: int, name: str, plural: str = "s") -> str:
    return f"{count} {name}{'' if count == 1 else plural}"


def _line(header: str) -> tuple[bytes, bytes]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise ValueError("-H takes a header line: 'Name: value'")
    return name.strip().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")
