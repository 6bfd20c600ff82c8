"""The commands that go on for a while: `warm` and `stats --watch`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from proxy import clitext as out
from proxy import cliwarm
from proxy.cliadmin import AdminClient, NoProxy

_CLEAR, _HOME_AND_ON = "\x1b[2J", "\x1b[H"
_HIDE, _SHOW = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def warm(
    source: tuple[str, str],
    *,
    routes: str | None,
    route: str | None,
    proxy: str,
    headers: list[str],
    rate: float,
    state: str | None,
    as_json: bool,
) -> int:
    """Reads users through the proxy; `source` is `ids`, `range` or `list` and its text. 1 where it gave up.

    Raises ValueError for a wrong argument, ConfigError, KeyboardInterrupt after a word on how to go on.
    """
    from proxy.cliroutes import load_without_secret

    settings, _ = load_without_secret(os.environ, {"--routes": routes})
    _, path = cliwarm.path_of(settings, route)
    lines = [line.partition(":") for line in headers]
    if not all(name.strip() and colon for name, colon, _ in lines):
        raise ValueError("-H takes a header line: 'Name: value'")
    reader = cliwarm.Reader(proxy, {name.strip(): value.strip() for name, _, value in lines})
    kind, text = source
    total = None
    ids: Iterator[str]
    if kind == "range":
        numbers = cliwarm.ids_of_range(text)
        ids, total = map(str, numbers), len(numbers)
    elif kind == "ids":
        listed = cliwarm.ids_of_file(text)
        ids, total = iter(listed), len(listed)
    else:
        if not text.startswith("/"):
            raise ValueError("--list takes a path of the service, e.g. '/users?after={}&limit=100'")
        ids = cliwarm.ids_of_list(cliwarm.Reader(proxy, reader.headers), text, settings)
    progress = cliwarm.Progress(state, total, sys.stderr if sys.stderr.isatty() else None)
    warmed = cliwarm.Warmed()
    again = (
        f"; the same command goes on from there ({state})"
        if state
        else "; --state FILE lets a run be resumed"
    )
    try:
        cliwarm.warm(reader, path, ids, rate, progress, warmed)
    except cliwarm.Stopped as error:
        progress.show(warmed, last=True)
        cliwarm.report(warmed, as_json=as_json)
        out.complain(f"gave up: {error}{again}")
        return 1
    except KeyboardInterrupt:
        progress.show(warmed, last=True)
        cliwarm.report(warmed, as_json=as_json)
        out.complain(f"stopped{again}")
        raise
    progress.show(warmed, last=True)
    cliwarm.report(warmed, as_json=as_json)
    return 0


def watch(place: tuple[str, str | None], interval: float, *, as_json: bool) -> int:
    """Shows the counters again and again, until Ctrl-C: a page on a terminal, else a line each time.

    Raises ValueError, NoProxy where none answers at first, Refused.
    """
    client = AdminClient(*place)
    before, then = client.get("/stats"), time.monotonic()
    page = sys.stdout.isatty() and not as_json
    if page:
        out.say(_HIDE + _CLEAR)
    try:
        while True:
            time.sleep(interval)
            try:
                now = client.get("/stats")
            except NoProxy as error:
                shown = [str(error)]
            else:
                moment = time.monotonic()
                rates = pace(before, now, moment - then)
                before, then = now, moment
                if as_json:
                    out.say_json_line({**rates, "stats": now})
                    sys.stdout.flush()
                    continue
                shown = lines(client.place, rates, now) if page else [one_line(rates)]
            if page:
                sys.stdout.write(_HOME_AND_ON + "\x1b[K\n".join(fitted(shown)) + "\x1b[J")
            else:
                out.say(*shown)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    finally:
        if page:
            sys.stdout.write(_SHOW)
            sys.stdout.flush()


def fitted(shown: list[str]) -> list[str]:
    """As much of it as the terminal has room for: a line that wraps would push the first one out of sight."""
    width, height = shutil.get_terminal_size()
    return [line if len(line) < width else f"{line[: max(0, width - 2)]}…" for line in shown[: height - 1]]


def pace(before: dict[str, Any], now: dict[str, Any], seconds: float) -> dict[str, float]:
    """`{"requests_per_second", "upstream_per_second", "hit_rate_percent"}` between two looks."""
    seconds = max(seconds, 0.001)
    hits = max(0, now["hits"] - before["hits"])
    lookups = max(0, now["total_lookups"] - before["total_lookups"])

    def each(name: str) -> float:
        grown: int = sum(now.get(name, {}).values()) - sum(before.get(name, {}).values())
        return round(max(0, grown) / seconds, 1)

    return {
        "requests_per_second": each("requests"),
        "upstream_per_second": each("upstream"),
        "hit_rate_percent": round(100 * hits / lookups, 1) if lookups else 0.0,
    }


def one_line(rates: dict[str, float]) -> str:
    """The pace on one line."""
    return "  ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in rates.items())


def lines(place: str, rates: dict[str, float], now: dict[str, Any]) -> list[str]:
    """The page."""
    ever: float = now["hit_rate_percent"]
    asked, upstream = rates["requests_per_second"], rates["upstream_per_second"]
    rate = rates["hit_rate_percent"]
    full = round(rate / 100 * 40)
    head = [
        f"user-cache-proxy at {place}, up {now.get('uptime_seconds', 0):.0f} s   (Ctrl-C ends)",
        "",
        f"hit rate   [{'#' * full}{'.' * (40 - full)}] {rate:g} %, {ever:g} % since the start",
        f"requests   {asked:g} a second, {upstream:g} to the service",
        f"evictions  {now['invalidations']}, {now.get('epochs_raised', 0)} of everything",
        "",
    ]
    views = [
        (name, str(view.get("hits", 0)), str(view.get("misses", 0))) for name, view in now["views"].items()
    ]
    tiers = out.text(now.get("tiers", {}))
    reasons = sorted(now.get("reasons", {}).items(), key=lambda pair: -pair[1])[:8]
    return [
        *head,
        *out.table([("VIEW", "HITS", "MISSES"), *views]),
        "",
        f"hits by tier: {tiers or 'none yet'}",
        "",
        "WHY NOT A HIT",
        *(f"  {line}" for line in out.table([(name, str(count)) for name, count in reasons])),
    ]
