"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import Any, NoReturn

from proxy import clitext as out
from proxy import config

PROG = "user-cache-proxy"
FAILED, MISTAKE = 1, 2


class Parser(argparse.ArgumentParser):
    """One line for a mistake, not a page of usage before it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but nothing is left over: the command that was given it knows best what was meant."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", wrong[2]) if wrong else list(self._option_string_actions)
        wrong = wrong or re.search(r"unrecognized arguments: (--[^ =]+)", message)
        near = get_close_matches(wrong[1], known, 1) if wrong else []
        if near:
            message = f"{message}; did you mean {near[0]}?"
        self.exit(MISTAKE, f"{PROG}: {message}; see {self.prog} --help\n")


def add_settings(parser: argparse.ArgumentParser, flags: set[str]) -> None:
    """The settings of that name, with their help out of the one table."""
    for setting in config.SETTINGS:
        if setting.flag in flags:
            said = f"{setting.help} [{setting.env}, default: {setting.default}]"
            parser.add_argument(setting.flag, metavar=setting.flag[2:].upper(), help=said)


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_admin(parser: argparse.ArgumentParser) -> None:
    """`--admin` and `--json`: for what asks a running proxy."""
    parser.add_argument("--admin", metavar="HOST:PORT|URL",
                        help="the admin socket of the proxy [ADMIN_LISTEN, default: 127.0.0.1:9090]; "
                             "ADMIN_TOKEN is sent if it is set")  # fmt: skip
    add_json(parser)


def add_warm(parser: argparse.ArgumentParser) -> None:
    """The flags of `warm`: which users, through which proxy, how fast."""
    more = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ids", metavar="FILE", help="a file of ids, one a line; - is standard input")
    which.add_argument("--range", metavar="FIRST-LAST", help="numbers, such as 1-100000")
    paged = "the service's list of users; {} in it is the last id of the page before"
    which.add_argument("--list", metavar="PATH", help=paged)
    more("--rate", type=float, default=50.0, metavar="N", help="requests a second, default 50")
    more("--state", metavar="FILE",
         help="where what is done is kept; the same command then goes on from there")  # fmt: skip
    more("--proxy", metavar="HOST:PORT|URL",
         help="where clients ask the proxy [port of LISTEN, default: 127.0.0.1:8080]")  # fmt: skip
    more("--route", metavar="MATCH", help="the route to use; default: the first look-up by id")
    more("-H", dest="headers", action="append", default=[], metavar="'Name: value'",
         help="a header line for each request; may be repeated")  # fmt: skip


def only_in_environment() -> str:
    """The settings without a flag, as lines of help."""
    rows = [(s.env, f"{s.help} [default: {s.default}]") for s in config.SETTINGS if s.flag is None]
    lines = "".join(f"  {line}\n" for line in out.table(rows))
    return f"in the environment only (flags beat the environment, which beats the routes file):\n{lines}\n"


def mistaken(sentence: str) -> int:
    """Says what is wrong with the arguments; the exit code."""
    out.complain(sentence)
    return MISTAKE
