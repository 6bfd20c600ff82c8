"""Completion as a shell does it: the scripts are loaded by bash, and hold every command and flag."""

from __future__ import annotations

import subprocess

import pytest

from proxy.cli import make_parser
from proxy.clicomplete import commands_of, script
from proxy.cliparts import PROG

COMMANDS = commands_of(make_parser())


def completed(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    function = f"_{PROG.replace('-', '_')}"
    asking = f'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    program = script("bash", PROG, COMMANDS) + asking
    done = subprocess.run(
        ["bash", "--norc", "-euc", program, "bash", PROG, *words], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ev"], ["evict"]),
        (["evict", "--e"], ["--email"]),
        (["serve", "--up"], ["--upstream"]),
        (["completion", "ba"], ["bash"]),
        (["nonsense", "--"], []),
        (["--ver"], ["--version"]),
    ],
    ids=" ".join,
)
def test_bash_completes_commands_and_flags(words: list[str], offered: list[str]) -> None:
    """The command first, then its own flags."""
    assert offered == completed(*words)


def test_bash_completes_files() -> None:
    """What follows a flag may be a file."""
    assert "/etc/passwd" in completed("check", "--routes", "/etc/passw")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_in_the_script(shell: str) -> None:
    """Nothing is left out, whatever is added to the parser."""
    told = script(shell, PROG, COMMANDS)
    flags = {word.text for one in COMMANDS.values() for word in one.words if word.text.startswith("--")}

    assert [] == [name for name in COMMANDS if name not in told]
    assert [] == [flag for flag in flags if (f"-l {flag[2:]}" if shell == "fish" else flag) not in told]
