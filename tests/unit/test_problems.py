"""The proxy's own errors: one table in the code, the same one in the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from proxy.core import errors
from proxy.core.problems import PROBLEMS

ROOT = Path(__file__).resolve().parent.parent.parent


def raised() -> Iterator[tuple[str, int]]:
    """Each type and status that the source gives to an error, whether on its class or where it is raised."""
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, errors.UpstreamError):
            yield one.problem, one.status
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(problem)), _]
                ) if 100 < status < 600 and ast.unparse(node.func) in ("ClientError", "super().__init__"):
                    yield problem, status


def test_every_error_has_a_type_that_is_known() -> None:
    """With the status and the title of the table."""
    found = set(raised())

    assert len(found) >= 10
    assert set() == {(problem, status) for problem, status in found if PROBLEMS[problem][0] != status}


def test_the_documentation_lists_the_types() -> None:
    """All of them with their status, and no other."""
    page = (ROOT / "docs/http.md").read_text("utf-8")
    section = page.partition("## The proxy's own answers")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (\d{3}) \|", section)

    assert {problem: status for problem, (status, _) in PROBLEMS.items()} == {
        problem: int(status) for problem, status in rows
    }
    assert len(PROBLEMS) == len(rows)
