"""What the documentation shows works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.config import SETTINGS, parse
from tests.processes import Proxy, Stub, environment

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[object]:
    """Every fenced block of that language, with a name for its test."""
    found = []
    for page in PAGES:
        for number, text in enumerate(
            re.findall(rf"(?ms)^```{language}\n(.*?)^```", page.read_text()), start=1
        ):
            found.append(pytest.param(text, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("text", blocks("python"))
def test_python_examples_run(text: str, tmp_path: Path) -> None:
    """Each is a whole program that ends without an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)


KEYS = {
    "JWT_SECRET": "a-secret-that-is-long-enough-to-be-one",
    "CACHE_HASH_KEY": "0a" * 32,
    "CACHE_ENCRYPT_KEY": "0b" * 32,
}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_good_settings(text: str) -> None:
    """A block that is a whole routes file is accepted as one; a part of one is YAML at least."""
    if "version: 1" in text:
        parse(text.encode(), "routes.yaml", KEYS)
    else:
        yaml.safe_load(text)


@pytest.fixture(name="stage", scope="module")
def _stage() -> Iterator[tuple[Stub, Proxy]]:
    with Stub.start() as stub, Proxy.start(stub.url) as served:
        yield stub, served


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_run(text: str, stage: tuple[Stub, Proxy], tmp_path: Path) -> None:
    """Each line of a `sh` block ends well, in a folder with a routes.yaml, before a running proxy.

    The documented ports stand for those that were free.
    """
    stub, served = stage
    for written, real in (("8000", stub.url), ("8080", served.url), ("9090", served.admin)):
        text = text.replace(f"http://127.0.0.1:{written}", real)
    (tmp_path / "routes.yaml").write_bytes((ROOT / "proxy/routes.yaml").read_bytes())
    (tmp_path / "ids.txt").write_text("21\n22\n", "utf-8")
    done = subprocess.run(
        ["bash", "--norc", "-euo", "pipefail", "-c", text],
        cwd=tmp_path,
        env=environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            ADMIN_LISTEN=served.admin.removeprefix("http://"),
            LISTEN=served.url.removeprefix("http://"),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr if done.returncode else "")


def test_every_setting_is_in_the_readme() -> None:
    """The table of the README names each variable and flag that the program reads."""
    readme = (ROOT / "README.md").read_text()

    assert [] == [one.env for one in SETTINGS if f"`{one.env}`" not in readme]
    assert [] == [one.flag for one in SETTINGS if one.flag and f"`{one.flag}`" not in readme]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that exist."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())

    assert [] == [link for link in links if not (page.parent / link).exists()]
