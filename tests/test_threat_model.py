"""THREAT_MODEL.md: each trap is there, and the tests it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "THREAT_MODEL.md").read_text("utf-8")
# Helpers that assert.
CHECKING = re.compile(r"\b(promises|keeps|finds|assert_\w+|check\w*)\(")
TRAPS = re.findall(r"(?m)^\| (\d+) \|(.*)\|$", TEXT)


def test_the_traps_are_numbered() -> None:
    """None is left out."""
    assert [str(number) for number in range(1, 62)] == [number for number, _ in TRAPS]


@pytest.mark.parametrize(("number", "row"), TRAPS, ids=lambda cell: cell if cell.isdigit() else "")
def test_a_trap_names_tests_that_exist(number: str, row: str) -> None:
    """A test that is renamed or removed is missed here."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert named, f"trap {number} has no test"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        # Only what pytest collects: of the module itself, called a test, never left out, and able to fail.
        tests = {
            node.name: node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        assert name in tests, f"trap {number}: {path} has no {name}"
        marks = {ast.unparse(mark).split("(")[0] for mark in tests[name].decorator_list}
        assert not any(mark.endswith(("skip", "skipif", "xfail")) for mark in marks), f"trap {number}: {name}"
        text = ast.unparse(tests[name])
        assert "assert " in text or "raises(" in text or CHECKING.search(text), f"trap {number}: {name}"
