"""The command line: arguments and environment in, an exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import uvloop

from upstream_stub.options import DEFAULT_SECRET, Options, parse_address, parse_duration, parse_rate
from upstream_stub.server import serve

_DESCRIPTION = """\
A legacy users API on SQLite: users, logins, tokens and avatars, as slow and as unreliable as you ask for.

User N is called ada1, grace2, alan3 ... and has the password password-N. User 1 is an admin. User 13 and
every 25th user are inactive. The same seed gives the same users.

Try it:
  curl http://127.0.0.1:8000/users/1
  curl -X PUT -d '{"bio": "new"}' http://127.0.0.1:8000/users/1
  curl -d '{"username": "ada1", "password": "password-1"}' http://127.0.0.1:8000/auth/login
"""
_EPILOG = """\
Durations are 10ms, 0.5s, 2m or plain seconds; rates are 0 to 1.
GET /__stats, POST /__stats/reset and GET, POST /__control are test instruments: they count requests, hold
them, and change latency, faults and the leak at run time. `python -m pydoc upstream_stub.instruments`
describes them.
"""


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The options of a command line; ends the process on a mistake."""
    default = Options()
    parser = _Parser(
        prog="upstream_stub",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--listen", type=_reading(parse_address), default=default.listen, metavar="HOST:PORT|unix:PATH",
        help=f"default {default.listen.host}:{default.listen.port}; port 0 takes a free one")  # fmt: skip
    add("--database", default=default.database, metavar="PATH|:memory:",
        help="default :memory:; a file is filled once and then kept")  # fmt: skip
    add("--users", type=_reading(_count), default=default.users, metavar="N",
        help=f"how many users a new database gets, default {default.users}")  # fmt: skip
    add("--seed", type=_reading(_count), default=default.seed, metavar="N",
        help=f"of the users and of all chance, default {default.seed}")  # fmt: skip
    add("--latency", type=_reading(parse_duration), default=default.latency, metavar="TIME",
        help=f"of every answer, default {default.latency * 1000:g}ms")  # fmt: skip
    add("--latency-jitter", type=_reading(parse_duration), default=default.latency_jitter, metavar="TIME",
        help=f"up to so much more or less, default {default.latency_jitter * 1000:g}ms")  # fmt: skip
    add("--error-rate", type=_reading(parse_rate), default=default.error_rate, metavar="RATE",
        help="answer 500 before doing anything")  # fmt: skip
    add("--drop-after-commit-rate", type=_reading(parse_rate), default=default.drop_after_commit_rate,
        metavar="RATE", help="commit a write, then close the connection unanswered")  # fmt: skip
    add("--leak-hash", action="store_true", help="put hashed_password into every user")
    add("--etag", action="store_true", help="put strong ETags on users and honour If-None-Match")
    add("--open-writes", action=argparse.BooleanOptionalAction, default=default.open_writes,
        help="let requests without a token write to /users/..., default on")  # fmt: skip
    add("--algorithm", choices=("HS256", "RS256"), default=default.algorithm,
        help=f'of issued tokens unless the login says "alg", default {default.algorithm}')  # fmt: skip
    add("--jwt-secret", type=_reading(_secret), default=environment.get("JWT_SECRET") or default.jwt_secret,
        metavar="TEXT", help=f"of HS256 tokens; default $JWT_SECRET or {DEFAULT_SECRET}")  # fmt: skip
    add("--token-ttl", type=_reading(_lifetime), default=default.token_ttl, metavar="TIME",
        help=f"how long a token is good, default {default.token_ttl:g}s")  # fmt: skip
    add("--access-log", action="store_true", help="log every request to standard error")
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service; 0 after a clean end, 2 where it could not start."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments, os.environ)
    if options.access_log:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        uvloop.run(serve(options))
    except OSError as error:
        return _refuse(f"cannot listen on {options.listen.url}: {error.strerror or error}")
    except sqlite3.Error as error:
        return _refuse(f"cannot use the database {options.database}: {error}")
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(f"upstream_stub: {reason}\n")
    return 2


def _reading(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The parser for argparse, which shows the text of its own exception only."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _secret(text: str) -> str:
    if not text:
        raise ValueError("the secret is empty")
    return text


def _lifetime(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError("a token lives for 1 s or longer")
    return seconds
