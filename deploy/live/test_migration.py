"""What the pages show of other caches is what these take: `make migration-test`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NGINX = """pid {folder}/pid;
error_log stderr;
events {{}}
http {{
{outside}
server {{
listen 127.0.0.1:8099;
{inside}
}}
}}
"""


def blocks(language: str) -> list[str]:
    """The blocks of that language."""
    return [
        text
        for page in PAGES
        for text in re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text("utf-8"))
    ]


@pytest.mark.parametrize("text", blocks("nginx"))
def test_nginx_takes_it(text: str, tmp_path: Path) -> None:
    """What stands outside of a server, and the location in one."""
    text = text.replace("/var/cache/nginx", str(tmp_path / "cache"))
    outside, location, inside = text.partition("location ")
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, outside=outside, inside=location + inside), "utf-8")
    command = ["nginx", "-t", "-c", config, "-p", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert 0 == done.returncode, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.parametrize("text", blocks("vcl"))
def test_varnish_takes_it(text: str, tmp_path: Path) -> None:
    """It is compiled."""
    file = tmp_path / "users.vcl"
    file.write_text(text, "utf-8")
    done = subprocess.run(
        ["varnishd", "-C", "-j", "none", "-f", file, "-n", tmp_path / "work"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
