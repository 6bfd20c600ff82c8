"""deploy/prometheus and deploy/grafana before a real Prometheus. Run by `make metrics-test`."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import ROOT, Proxy, Stub, ask, poll
from tests.valkey import Valkey

RULES = ROOT / "deploy/prometheus/alerts.yml"
BOARD = json.loads((ROOT / "deploy/grafana/user-cache-proxy.json").read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
ALERTS = [
    (rule.get("alert") or rule["record"], rule["expr"])
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
# What has nothing to show here, and why that is right.
EMPTY = {
    "Age of the token keys": "the tokens here are proven with a shared secret, so no keys are fetched",
    "Fetches of the token keys": "the tokens here are proven with a shared secret, so no keys are fetched",
}
JSON = {"Content-Type": "application/json"}
# Windows of a dashboard, for a server that scrapes each second.
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s", "$__range": "1m"}
SCRAPES = 8


def run(*command: str | Path, given: str = "") -> str:
    """What a command prints; it must end well."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=30)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_right() -> None:
    """promtool takes them, and their unit tests hold."""
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", RULES.with_name("alerts_test.yml"))


def test_the_board_is_whole() -> None:
    """Ids are its own, no panel covers another, each query stays with the job and the instance chosen."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for title, expr in TARGETS:
        names = re.findall(r"user_cache_proxy_\w+", expr)
        assert names
        assert len(names) == expr.count('job=~"$job",instance=~"$instance"'), title


class Prometheus:
    """A running server that scrapes one proxy once a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def vector(self, expr: str) -> list[float]:
        """The numbers that a query gives now."""
        told = ask(self.url, "GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expr})).json()
        assert "success" == told["status"], told
        values = [float(one["value"][1]) for one in told["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def get(self, path: str) -> Any:
        """The data of one answer of its API."""
        return ask(self.url, "GET", path).json()["data"]


def busy(stub: Stub, proxy: Proxy, token: str) -> None:
    """A little of everything, from hits and writes to an eviction, shadow mode, a refusal and a failure."""
    writer = JSON | {"Authorization": f"Bearer {token}"}
    for number in range(1, 25):
        for _ in range(3):
            proxy.get(f"/users/{number}")
    proxy.get("/users/99999")
    assert 405 == proxy.ask("TRACE", "/").status
    proxy.get("/auth/me", {"Authorization": f"Bearer {token}"})
    assert 200 == proxy.ask("PUT", "/profile", writer, json.dumps({"bio": "new"})).status
    assert 200 == proxy.ask_admin("POST", "/evict", JSON, json.dumps({"id": 5})).status
    for mode in ("shadow", "serve"):
        assert 200 == proxy.ask_admin("POST", "/mode", JSON, json.dumps({"mode": mode})).status
        for number in range(7, 15):
            proxy.get(f"/users/{number}")
    stub.control(drop_after_commit_rate=1)
    assert 502 == proxy.ask("PUT", "/profile", writer, json.dumps({"bio": "lost"})).status
    stub.control(drop_after_commit_rate=0, error_rate=1)
    assert 500 == proxy.get("/users/40").status
    stub.control(error_rate=0)


@contextmanager
def watching(folder: Path, proxy: Proxy) -> Iterator[Prometheus]:
    """A Prometheus with the rules of this repository."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    target = {"targets": [proxy.admin.removeprefix("http://")]}
    settings = {
        "global": every,
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "users", "static_configs": [target]}],
    }
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(settings), "utf-8")
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"]
    command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Prometheus(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text("utf-8")
        try:
            return 200 == ask(server.url, "GET", "/-/ready").status
        except OSError:
            return False

    try:
        poll(ready, "Prometheus")
        yield server
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(name="stage", scope="module")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Prometheus]]:
    """The proxy under light load with two workers and Redis, and a Prometheus that has watched it."""
    folder = tmp_path_factory.mktemp("prometheus")
    routes = folder / "routes.yaml"
    text = (ROOT / "proxy/routes.yaml").read_text("utf-8")
    text = text.replace("holdback: 0%", "holdback: 5%").replace("sample: 0%", "sample: 50%")
    routes.write_text(text, "utf-8")
    with (
        Valkey() as valkey,
        Stub.start(latency="2ms") as stub,
        Proxy.start(stub.url, valkey.url, WORKERS="2", ROUTES_FILE=str(routes)) as proxy,
        watching(folder, proxy) as prometheus,
    ):
        token = stub.token(3, proxy.get("/users/3").json()["username"])

        def watched() -> bool:
            busy(stub, proxy, token)
            seen = prometheus.vector("count_over_time(user_cache_proxy_workers[1m])")
            return bool(seen) and seen[0] >= SCRAPES

        poll(watched, "enough scrapes", 30)
        yield proxy, prometheus


def test_prometheus_reads_the_metrics(stage: tuple[Proxy, Prometheus]) -> None:
    """promtool has nothing to say of what it scraped without an error."""
    proxy, prometheus = stage
    text = proxy.ask_admin("GET", "/metrics").body.decode()

    assert "" == run("promtool", "check", "metrics", given=text)
    assert [""] == [one["lastError"] for one in prometheus.get("/api/v1/targets")["activeTargets"]]
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    assert {"ok"} == {rule["health"] for rule in group["rules"]}


@pytest.mark.parametrize(("title", "expr"), TARGETS, ids=[title for title, _ in TARGETS])
def test_every_panel_shows_something(stage: tuple[Proxy, Prometheus], title: str, expr: str) -> None:
    """Each query has numbers under light load, or a reason for having none."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)

    assert bool(stage[1].vector(expr)) is (title not in EMPTY), EMPTY.get(title, expr)


@pytest.mark.parametrize(("name", "expr"), ALERTS, ids=[name for name, _ in ALERTS])
def test_every_alert_has_something_to_compare(stage: tuple[Proxy, Prometheus], name: str, expr: str) -> None:
    """With `bool`, a comparison that does not hold gives 0 and not nothing."""
    assert stage[1].vector(re.sub(r"([<>]) ", r"\1 bool ", expr)), name


@pytest.mark.parametrize(
    "name", [one["name"] for one in BOARD["templating"]["list"] if one["type"] == "query"]
)
def test_the_board_can_be_narrowed(stage: tuple[Proxy, Prometheus], name: str) -> None:
    """Each variable has values to choose from."""
    variable = next(one for one in BOARD["templating"]["list"] if one["name"] == name)
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
    assert found is not None
    values = stage[1].get("/api/v1/series?" + urllib.parse.urlencode({"match[]": found[1]}))
    assert all(one[found[2]] for one in values)
    assert values
