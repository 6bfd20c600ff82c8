"""Filling the cache before it is needed: users are read through the proxy, at a bounded rate, resumably."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from proxy import clitext as out
from proxy.core.settings import Literal, Lookup, Route, Settings, Var

TIMEOUT = 30.0
# One after the other: the service or the proxy is in trouble, and asking on would add to it.
_GIVE_UP = 10
_WIDTH = 30


class Stopped(Exception):
    """It made no sense to go on; the text is for the operator."""


@dataclass(slots=True)
class Warmed:
    """What became of the ids: `skipped` were done in an earlier run."""

    stored: int = 0
    hits: int = 0
    others: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def done(self) -> int:
        """Ids that were asked for, in this run and before."""
        return self.stored + self.hits + self.others + self.failed + self.skipped


class Reader:
    """Asks the proxy at `url` for one path after the other. Raises ValueError for a bad URL."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("--proxy takes HOST:PORT or http://HOST:PORT")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        self.headers = headers

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, `X-Cache` and body. Raises OSError, http.client.HTTPException."""
        try:
            self._connection.request("GET", path, headers=self.headers)
            response = self._connection.getresponse()
            body = response.read()
        except BaseException:
            self._connection.close()
            raise
        return response.status, response.headers.get("X-Cache", ""), body


def path_of(settings: Settings, wanted: str | None) -> tuple[Route, str]:
    """The route that looks a user up by id, and its path with `{}` for the id. Raises ValueError."""
    for route in settings.routes:
        action = route.action
        if (
            not isinstance(action, Lookup)
            or action.by != "id"
            or action.many
            or wanted not in (None, route.name)
        ):
            continue
        path = "/".join(_filled(part) for part in route.template.segments)
        query = "&".join(f"{name}={_filled(part)}" for name, part in route.template.query)
        return route, f"/{path}?{query}" if query else f"/{path}"
    raise ValueError(
        "no route looks users up by id"
        if wanted is None
        else f"{wanted!r} is no route that looks users up by id"
    )


def _filled(part: Literal | Var) -> str:
    return part.text if isinstance(part, Literal) else "{}"


def ids_of_range(text: str) -> range:
    """`1-1000`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", text)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError("--range takes FIRST-LAST, e.g. 1-1000")
    return range(int(found[1]), int(found[2]) + 1)


def ids_of_file(name: str) -> list[str]:
    """One id a line, but for empty lines and comments (#). `-` is standard input. Raises ValueError."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{name}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})"
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ids_of_list(reader: Reader, path: str, settings: Settings) -> Iterator[str]:
    """Ids out of the service's own list, page by page: `{}` in the path is the last id of the page before.

    Raises Stopped where it is no list of users.
    """
    last = "0"
    while True:
        status, _, body = reader.get(path.replace("{}", quote(last, safe="")))
        try:
            users = json.loads(body) if status == 200 else None
        except ValueError:
            users = None
        if not isinstance(users, list):
            raise Stopped(f"the list answered {status} and no array of users")
        found = [one for one in (_id_of(user, settings.user.id) for user in users) if one is not None]
        yield from found
        # Without a place for the last id there is one page; one that leads to itself would do so for ever.
        if "{}" not in path or not found or found[-1] == last:
            return
        last = found[-1]


def _id_of(user: Any, path: Sequence[str]) -> str | None:
    for name in path:
        user = user.get(name) if isinstance(user, dict) else None
    return str(user) if isinstance(user, int | str) and not isinstance(user, bool) else None


class Progress:
    """A bar on a terminal, nothing elsewhere; and what is done, in a file that a later run goes on from."""

    def __init__(self, state: str | None, total: int | None, bar: IO[str] | None) -> None:
        self._state = Path(state) if state else None
        self._total = total
        self._bar = bar
        self._began = time.monotonic()
        self._shown = 0.0

    def before(self) -> int:
        """How many ids an earlier run did. Raises ValueError for a file that is something else."""
        try:
            return 0 if self._state is None else int(self._state.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._state}: is no state of an earlier run; give another --state") from error

    def show(self, warmed: Warmed, *, last: bool = False) -> None:
        """Draws the bar, at most ten times a second, and keeps the count."""
        now = time.monotonic()
        if not last and now - self._shown < 0.1:
            return
        self._shown = now
        if self._state is not None:
            self._state.write_text(str(warmed.done), "ascii")
        if self._bar is None:
            return
        rate = (warmed.done - warmed.skipped) / max(now - self._began, 0.001)
        counts = (
            f"{warmed.done}{f'/{self._total}' if self._total else ''}  {rate:.0f}/s  {warmed.failed} failed"
        )
        full = _WIDTH if not self._total else min(_WIDTH, _WIDTH * warmed.done // self._total)
        self._bar.write(f"\r[{'#' * full}{'.' * (_WIDTH - full)}] {counts}\x1b[K{chr(10) if last else ''}")
        self._bar.flush()


def warm(
    reader: Reader, path: str, ids: Iterator[str], rate: float, progress: Progress, warmed: Warmed
) -> None:
    """Reads each user through the proxy, `rate` a second; `warmed` is kept up as it goes.

    Raises Stopped after ten failures in a row.
    """
    warmed.skipped = progress.before()
    for _ in range(warmed.skipped):
        next(ids, None)
    due, failures = time.monotonic(), 0
    for one in ids:
        time.sleep(max(0.0, due - time.monotonic()))
        # A slow answer is not made up for by a burst.
        due = max(due, time.monotonic() - 1 / rate) + 1 / rate
        try:
            status, x_cache, _ = reader.get(path.replace("{}", quote(one, safe="")))
        except (OSError, http.client.HTTPException):
            status, x_cache = 0, ""
        if status == 0 or status == 429 or status >= 500:
            warmed.failed += 1
            failures += 1
        else:
            failures = 0
            warmed.hits += x_cache == "HIT"
            warmed.stored += x_cache == "MISS" and status == 200
            warmed.others += x_cache not in ("HIT", "MISS") or (x_cache == "MISS" and status != 200)
        if failures >= _GIVE_UP:
            # They have to be asked for again.
            warmed.failed -= failures
            raise Stopped(f"{failures} requests in a row failed (the last: {status or 'no answer'})")
        progress.show(warmed)


def report(warmed: Warmed, *, as_json: bool) -> None:
    """Prints what was done."""
    if as_json:
        names = ("stored", "hits", "others", "failed", "skipped")
        out.say_json({name: getattr(warmed, name) for name in names})
        return
    out.say(
        f"{warmed.stored} read and stored, {warmed.hits} were there, {warmed.others} can't be stored, "
        f"{warmed.failed} failed" + (f", {warmed.skipped} done before" if warmed.skipped else "")
    )
