"""The command line: arguments and environment in, an exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from proxy import __version__, config, logs
from proxy import clitext as out
from proxy.cliparts import (
    FAILED,
    MISTAKE,
    PROG,
    Parser,
    add_admin,
    add_json,
    add_settings,
    add_warm,
    mistaken,
    only_in_environment,
)
from proxy.cliruns import run_evict, run_explain, run_stats, run_warm
from proxy.core.errors import ConfigError

OK, INTERRUPTED = 0, 130

_EPILOG = """\
examples:
  user-cache-proxy demo                                     try it: a sample service, Valkey and the proxy
  user-cache-proxy check --routes routes.yaml               is this file right, and what does it do?
  user-cache-proxy serve --upstream http://127.0.0.1:8000 --redis redis://127.0.0.1:6379/0
  user-cache-proxy explain /users/42                        what would happen to this request, and why?
  user-cache-proxy evict --email ada1@example.com           drop one user from the caches of a running proxy

exit codes: 0 done, 1 it could not be done, 2 a mistake in settings or arguments.
`user-cache-proxy COMMAND --help` says more.
"""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. A mistake of the user is told in lines, never in a traceback."""
    out.forgive_encodings()
    parser = make_parser()
    given = parser.parse_args(argv)
    if given.command is None:
        parser.print_help(sys.stderr)
        return MISTAKE
    run: Command = given.command
    try:
        code = run(given)
        sys.stdout.flush()
    except ConfigError as error:
        out.complain(*error.mistakes)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def make_parser() -> argparse.ArgumentParser:
    """All commands and their flags; `parse_args` gives a `command` to call with its result."""
    parser = Parser(
        prog=PROG,
        description="A sidecar cache that stands in front of a users API and answers for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)

    def add(
        name: str, says: str, command: Command, *examples: str, more: str = ""
    ) -> argparse.ArgumentParser:
        shown = "".join(f"  {PROG} {name}{' ' if each else ''}{each}\n" for each in examples)
        sub: argparse.ArgumentParser = commands.add_parser(
            name,
            help=says,
            description=f"{says[0].upper()}{says[1:]}.",
            epilog=f"{more}examples:\n{shown}" if shown else more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        return sub

    serve = add(
        "serve",
        "run the proxy",
        _serve,
        "--upstream http://127.0.0.1:8000",
        "--routes routes.yaml --redis redis://127.0.0.1:6379/0 --workers 4",
        more=only_in_environment(),
    )
    add_settings(serve, {setting.flag for setting in config.SETTINGS if setting.flag})

    check = add("check", "report every mistake of the settings, and what each route does", _check,
                "", "--routes routes.yaml --json")  # fmt: skip
    add_settings(check, {"--routes"})
    add_json(check)

    explain = add("explain", "say what would be done with a request, and why", run_explain, "/users/42",
                  "DELETE /users/42", "/auth/me -H 'Authorization: Bearer …'")  # fmt: skip
    explain.usage = (
        f"{PROG} explain [-H 'Name: value'] [--routes FILE] [--admin ADDRESS] [--json] [METHOD] URL"
    )
    explain.add_argument(
        "words", nargs="+", metavar="[METHOD] URL", help="the path with its query; default GET"
    )
    explain.add_argument("-H", dest="headers", action="append", default=[], metavar="'Name: value'",
                         help="a header line; may be repeated")  # fmt: skip
    add_settings(explain, {"--routes"})
    add_admin(explain)

    evict = add("evict", "drop a user, or everybody, from the caches of a running proxy", run_evict,
                "--id 42", "--email ada1@example.com", "--all --yes")  # fmt: skip
    whom = evict.add_mutually_exclusive_group(required=True)
    for key in ("id", "email", "username", "phone"):
        whom.add_argument(f"--{key}", metavar="VALUE", help=f"the user with this {key}")
    whom.add_argument("--all", action="store_true", help="everybody; asks first")
    evict.add_argument("--yes", action="store_true", help="do not ask")
    add_admin(evict)

    stats = add("stats", "print the counters of a running proxy", run_stats, "", "--json", "--watch")
    stats.add_argument("--watch", nargs="?", type=float, const=1.0, metavar="SECONDS",
                       help="show them again each second, or as often as given, until Ctrl-C")  # fmt: skip
    add_admin(stats)

    warm = add("warm", "read users through a running proxy, so that it has them", run_warm,
               "--range 1-100000 --rate 200", "--ids ids.txt --state ids.done",
               "--list '/users?after={}&limit=500'")  # fmt: skip
    add_warm(warm)
    add_settings(warm, {"--routes"})
    add_json(warm)

    schema = add(
        "schema", "print the JSON schema of routes.yaml, for editors", _schema, "> routes.schema.json"
    )
    schema.add_argument("--reference", action="store_true", help="print all settings as a page of Markdown")

    completion = add("completion", "print what a shell needs to complete these commands", _completion,
                     "bash > /etc/bash_completion.d/user-cache-proxy",
                     "zsh > ~/.zfunc/_user-cache-proxy",
                     "fish > ~/.config/fish/completions/user-cache-proxy.fish")  # fmt: skip
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))

    demo = add("demo", "try it: a sample service, a Valkey server and the proxy, all started here", _demo,
               "", "--once")  # fmt: skip
    demo.add_argument("--once", action="store_true", help="end after the walk; exit code 0 if all was right")
    demo.add_argument("--port", type=int, default=8080, metavar="N",
                      help="of the proxy, default 8080; a free one if it is taken")  # fmt: skip
    demo.add_argument("--json", action="store_true", help="with --once: print the results as JSON")
    return parser


def _serve(given: argparse.Namespace) -> int:
    # Until the loop has its own handlers: a container's init must not miss the signal that stops it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        flags = {s.flag: getattr(given, s.flag[2:]) for s in config.SETTINGS if s.flag}
        settings = config.load(os.environ, flags)
        logs.configure(settings.log_level, settings.log_format)
        for sentence in config.warnings(settings):
            logging.getLogger("proxy").warning(sentence)
        # Imported here: aiohttp and what belongs to it cost the other commands time for nothing.
        from proxy import server

        try:
            server.run(settings, partial(config.load, dict(os.environ), flags))
        except server.CannotListen as error:
            out.complain(str(error))
            return FAILED
    except KeyboardInterrupt:
        pass
    return OK


def _check(given: argparse.Namespace) -> int:
    from proxy import cliroutes

    try:
        settings, warnings = cliroutes.load_without_secret(os.environ, {"--routes": given.routes})
    except ConfigError as error:
        if given.json:
            out.say_json({"ok": False, "mistakes": list(error.mistakes)})
            return MISTAKE
        raise
    routes = [cliroutes.described(settings, route) for route in settings.routes]
    if given.json:
        out.say_json({"ok": True, "routes": routes, "warnings": list(warnings)})
        return OK
    head = ("ROUTE", "KIND", "KEY", "VIEW", "ACCESS", "EVICTS")
    rows = [
        (
            told["match"],
            told["kind"],
            told.get("key", "-"),
            f"{told['view']} {told['ttl_seconds']:g}s" if "view" in told else "-",
            told.get("access", "-"),
            ", ".join(told.get("evicts", ())) or "-",
        )
        for told in routes
    ]
    out.say(*out.table([head, *rows]), "")
    out.say(*(f"warning: {sentence}" for sentence in warnings))
    out.say(f"{settings.routes_file}: {len(routes)} routes, no mistakes")
    return OK


def _schema(given: argparse.Namespace) -> int:
    from proxy import configdoc

    sys.stdout.write(configdoc.reference() if given.reference else configdoc.schema_text())
    return OK


def _completion(given: argparse.Namespace) -> int:
    from proxy import clicomplete

    sys.stdout.write(clicomplete.script(given.shell, PROG, clicomplete.commands_of(make_parser())))
    return OK


def _demo(given: argparse.Namespace) -> int:
    if given.json and not given.once:
        return mistaken("demo --json needs --once")
    if not 0 <= given.port <= 65535:
        return mistaken("--port takes 0 to 65535")
    from proxy import demo

    return demo.run(port=given.port, once=given.once, as_json=given.json)
