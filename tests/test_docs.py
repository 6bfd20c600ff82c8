"""What the documentation shows works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.config import SETTINGS, parse
from tests.keys import pem
from tests.processes import Proxy, Stub, ask, environment, poll
from tests.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy/kubernetes/README.md"]


# Who runs what is in the pages: this module, deploy/live (nginx, vcl, sh image), or nobody (text: a picture).
LANGUAGES = {
    "sh",
    "sh make",
    "sh serve",
    "sh image",
    "sh simulator",
    "yaml",
    "json",
    "python",
    "nginx",
    "vcl",
    "text",
}


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


def test_every_block_says_what_it_is() -> None:
    """So that no command is overlooked."""
    found = {
        (page.name, language)
        for page in PAGES
        for language in re.findall(r"(?ms)^```([^\n]*)\n.*?^```$", page.read_text())
    }
    assert set() == {one for one in found if one[1] not in LANGUAGES}


# What a part of a routes file is a part of.
WHOLE = """
version: 1
tokens: {secret_env: JWT_SECRET, algorithms: [HS256]}
views: {users: {ttl: 60s}, introspection: {ttl: 60s}}
routes: [{match: "GET /users/{id:int}", lookup: {by: id, view: users}, access: anyone}]
"""


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_good_settings(text: str, tmp_path: Path) -> None:
    """Each is accepted as a routes file, or as that part of one; what is Kubernetes' is for its own test."""
    given = yaml.safe_load(text)
    if isinstance(given, dict) and {"apiVersion", "lifecycle"} & set(given):
        return
    if "version: 1" not in text:
        part = {"routes": given} if isinstance(given, list) else given
        text = yaml.safe_dump(yaml.safe_load(WHOLE) | part, sort_keys=False)
    parse(text.encode(), "routes.yaml", KEYS, read_file=lambda _: pem("rsa"))


@pytest.mark.parametrize("text", blocks("json"))
def test_json_examples_are_json(text: str) -> None:
    """Each line by itself, or all of it."""
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


@pytest.mark.parametrize("text", blocks("sh make"))
def test_targets_are_there(text: str) -> None:
    """Each line is a target that make knows; to run them is for .ci/run and the demo's tests."""
    for line in text.splitlines():
        command = line.partition("#")[0].split()
        assert "make" == command[0]
        done = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, check=False)
        assert 0 == done.returncode


@pytest.mark.parametrize("text", blocks("sh simulator"))
def test_the_longer_search_runs(text: str, tmp_path: Path) -> None:
    """With fewer seeds."""
    words = text.strip().replace(".venv/bin/python", sys.executable).replace("3000", "1").split()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize("text", blocks("sh serve"))
def test_it_starts_as_it_is_written(text: str, tmp_path: Path) -> None:
    """The lines as they stand, but for the secret and the ports, in a folder with a routes.yaml."""
    (tmp_path / "routes.yaml").write_bytes((ROOT / "proxy/routes.yaml").read_bytes())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with Valkey() as valkey, Stub.start() as stub, (tmp_path / "log").open("wb") as log:
        text = text.replace("…", KEYS["JWT_SECRET"]).replace("http://127.0.0.1:8000", stub.url)
        text = text.replace("redis://127.0.0.1:6379/0", valkey.url).replace(
            "\nuser-cache", "\nexec user-cache"
        )
        environ = environment(PATH=path, LISTEN="127.0.0.1:0", ADMIN_LISTEN="127.0.0.1:0", LOG_FORMAT="json")
        command = ["bash", "--norc", "-euo", "pipefail", "-c", text]
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
        try:

            def listening() -> str | None:
                assert process.poll() is None, (tmp_path / "log").read_text()
                told = re.search(r'"message": "listening", "listen": "(.*?)"', (tmp_path / "log").read_text())
                return told and told[1]

            place = poll(listening, "listening")
            assert ["MISS", "HIT"] == [ask(f"http://{place}", "GET", "/users/1").x_cache for _ in range(2)]
        finally:
            process.terminate()
            assert 0 == process.wait(20)


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
