"""`make conformance`: the public suite of cache-tests.fyi through a `resource` route, and its score.

The npm package is installed by name into build/. It brings a server that plays the origin and a client that
plays the tests; the proxy stands between them, with memory alone and then with Valkey behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.processes import ROOT, Proxy
from tests.valkey import Valkey

VERSION = "0.4.5"
BUILD = ROOT / "build" / "conformance"
PACKAGE = BUILD / "node_modules" / "http-cache-tests"
ROUTES = """\
version: 1
routes:
  - {match: "GET /{any:path}", resource: {targeted: [CDN-Cache-Control, Surrogate-Control]}}
"""
# Each has its reason in docs/http.md. A required one that fails is never among them.
EXPECTED = Path(__file__).with_name("differences.txt")


def main() -> int:
    """Exit code 1 where a result is not as docs/http.md says."""
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("--id", default="", help="one test only, with what was sent and received")
    parser.add_argument("--only", choices=("memory", "redis"), help="one of the two stores only")
    given = parser.parse_args()
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        print(f"make conformance needs {' and '.join(missing)}, which is not installed", file=sys.stderr)
        return 2
    try:
        install()
    except subprocess.CalledProcessError:
        print("npm could not install http-cache-tests; is there a registry to be reached?", file=sys.stderr)
        return 2
    code = 0
    for store in ("memory", "redis") if given.only is None else (given.only,):
        code |= through(store, given.id)
    return code


def install() -> None:
    """The package and what it needs, by name, into build/."""
    if (PACKAGE / "cli.mjs").exists():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "package.json").write_text('{"private": true}\n')
    print(f"installing http-cache-tests {VERSION} into build/conformance …", flush=True)
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--ignore-scripts",
        "--silent",
    ]
    subprocess.run([*command, f"http-cache-tests@{VERSION}"], cwd=BUILD, check=True)


@contextmanager
def playing() -> Iterator[str]:
    """The suite's own origin; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": str(BUILD / "server.pid"),
    }
    command = ["node", "--no-warnings", "server/server.mjs"]
    process = subprocess.Popen(command, cwd=PACKAGE, env=environ, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def through(store: str, one: str) -> int:
    """Runs the suite over one store and tells the score."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        routes = folder / "routes.yaml"
        routes.write_text(ROUTES)
        settings = {"ROUTES_FILE": str(routes)}
        if store == "redis":
            settings["REDIS_URL"] = stack.enter_context(Valkey()).url
        upstream = stack.enter_context(playing())
        proxy = stack.enter_context(Proxy.start(upstream, **settings))
        results = played(proxy.url, one)
    if one:
        return 0
    return told(store, results, kinds())


def played(url: str, one: str) -> Mapping[str, Any]:
    """What the suite's client found out, by id: true, or what was wrong."""
    environ = os.environ | {"npm_config_base": url, "npm_config_id": one, "npm_package_config_id": one}
    command = ["node", "--no-warnings", "cli.mjs"]
    done = subprocess.run(command, cwd=PACKAGE, env=environ, stdout=subprocess.PIPE, check=True, text=True)
    if one:
        print(done.stdout)
        return {}
    found: Mapping[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def kinds() -> Mapping[str, Any]:
    """What each test is: required, optimal or a question, and what it builds on."""
    script = Path(__file__).with_name("kinds.mjs")
    done = subprocess.run(["node", str(script), str(PACKAGE)], stdout=subprocess.PIPE, check=True, text=True)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def verdict(name: str, results: Mapping[str, Any], tests: Mapping[str, Any]) -> str:
    """As the suite's own pages count: pass, fail, setup, or depends (what it builds on did not pass)."""
    if name not in results:
        return "never run"
    if any(verdict(other, results, tests) != "pass" for other in tests[name]["depends_on"]):
        return "depends"
    result = results[name]
    if result is True:
        return "pass"
    return "setup" if result[0] == "Setup" else "fail"


def told(store: str, results: Mapping[str, Any], tests: Mapping[str, Any]) -> int:
    """Prints the score and the ids that did not pass; says whether that is as the documentation has it."""
    verdicts = {name: verdict(name, results, tests) for name in tests if not tests[name]["browser_only"]}
    print(f"\nhttp-cache-tests {VERSION}, store: {store}")
    for kind in ("required", "optimal", "check"):
        for surrogate in (False, True):
            mine = [n for n in verdicts if tests[n]["kind"] == kind and tests[n]["surrogate"] is surrogate]
            passed = sum(verdicts[name] == "pass" for name in mine)
            told_as = f"{kind}, Surrogate-Control" if surrogate else kind
            print(f"  {told_as}: {passed} of {len(mine)} pass")
    lines = []
    for name, got in verdicts.items():
        if got != "pass" and tests[name]["kind"] != "check":
            why = results[name][1] if isinstance(results[name], list) else ""
            print(f"    {tests[name]['kind']} {got}: {name}  {why}")
            lines.append(name)
    known = set(EXPECTED.read_text().split()) if EXPECTED.exists() else set()
    unknown = sorted(set(lines) - known)
    if unknown:
        print(f"  not in docs/http.md: {', '.join(unknown)}")
    return 1 if unknown else 0


if __name__ == "__main__":
    raise SystemExit(main())
