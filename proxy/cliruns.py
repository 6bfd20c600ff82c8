"""The commands that have to do with a running proxy: arguments in, an exit code out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from proxy import clitext as out
from proxy.cliparts import FAILED, mistaken


def run_explain(given: argparse.Namespace) -> int:
    """What would be done with a request."""
    from proxy import cliask

    if len(given.words) > 2:
        return mistaken("explain takes [METHOD] URL: one or two words")
    method, url = ("GET", *given.words) if len(given.words) == 1 else given.words
    return _asked(
        lambda: cliask.explain(method.upper(), url, given.headers, given.routes, _place(given), given.json)
    )


def run_evict(given: argparse.Namespace) -> int:
    """Drops a user, or everybody."""
    from proxy import cliask

    if given.all:
        if not given.yes and not sys.stdin.isatty():
            return mistaken("evict --all drops everybody and there is no terminal to ask on; add --yes")
        if not given.yes and not cliask.confirmed("Drop everybody from the caches?"):
            out.complain("nothing was evicted")
            return FAILED
        whom: dict[str, str | bool] = {"all": True}
    else:
        keys = ("id", "email", "username", "phone")
        whom = {key: value for key in keys if (value := getattr(given, key)) is not None}
    return _asked(lambda: cliask.evict(whom, _place(given), given.json))


def run_stats(given: argparse.Namespace) -> int:
    """The counters, once or again and again."""
    from proxy import cliask

    if given.watch is not None:
        from proxy.clilive import watch

        if not 0.1 <= given.watch <= 3600:
            return mistaken("--watch takes 0.1 to 3600 seconds")
        return _asked(lambda: watch(_place(given), given.watch, as_json=given.json))
    return _asked(lambda: cliask.stats(_place(given), given.json))


def run_warm(given: argparse.Namespace) -> int:
    """Reads users through the proxy."""
    from proxy.clilive import warm

    if not 0.01 <= given.rate <= 100_000:
        return mistaken("--rate takes 0.01 to 100000 requests a second")
    (source,) = ((name, text) for name in ("ids", "range", "list") if (text := getattr(given, name)))
    return _asked(
        lambda: warm(
            source,
            routes=given.routes,
            route=given.route,
            proxy=given.proxy
            or f"http://127.0.0.1:{(os.environ.get('LISTEN') or '8080').rpartition(':')[2]}",
            headers=given.headers,
            rate=given.rate,
            state=given.state,
            as_json=given.json,
        )
    )


def _place(given: argparse.Namespace) -> tuple[str, str | None]:
    from proxy.cliadmin import DEFAULT

    return given.admin or os.environ.get("ADMIN_LISTEN") or DEFAULT, os.environ.get("ADMIN_TOKEN") or None


def _asked(question: Callable[[], int]) -> int:
    from proxy.cliadmin import NoProxy, Refused

    try:
        return question()
    except ValueError as error:
        return mistaken(str(error))
    except (NoProxy, Refused) as error:
        out.complain(str(error))
        return FAILED
