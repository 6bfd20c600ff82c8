"""What bash, zsh and fish need to complete the commands and their flags, written from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A flag or a fixed word, and what it says of itself; `takes`: a value follows it."""

    text: str
    says: str
    takes: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """A command: its sentence, and what may follow it."""

    says: str
    words: Sequence[Word]


def commands_of(parser: argparse.ArgumentParser) -> dict[str, Completed]:
    """Each command of the parser with its flags and fixed words."""
    (group,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))  # noqa: SLF001 - argparse shows them nowhere else
    helps = {one.dest: one.help or "" for one in group._choices_actions}  # noqa: SLF001 - the same
    return {name: Completed(helps.get(name, ""), _words(sub)) for name, sub in group.choices.items()}


def _words(parser: argparse.ArgumentParser) -> list[Word]:
    found = []
    for action in parser._actions:  # noqa: SLF001 - the same
        found += [Word(flag, action.help or "", takes=action.nargs != 0) for flag in action.option_strings]
        if not action.option_strings and action.choices:
            found += [Word(str(choice), "") for choice in action.choices]
    return found


def script(shell: str, program: str, commands: Mapping[str, Completed]) -> str:
    """The completion script of `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](program, commands)


def _name(program: str) -> str:
    return f"_{program.replace('-', '_')}"


def _bash(program: str, commands: Mapping[str, Completed]) -> str:
    cases = "".join(
        f'    {name}) words="{" ".join(word.text for word in one.words)}" ;;\n'
        for name, one in commands.items()
    )
    return f"""\
# bash completion of {program}
{_name(program)}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words="{" ".join(commands)} --help --version"
  if [ "$COMP_CWORD" -gt 1 ]; then
    words=
    case ${{COMP_WORDS[1]}} in
{cases}    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  # A word that is neither a command nor a flag may be a file.
  if [ "$COMP_CWORD" -gt 1 ] && [ "${{current#-}}" = "$current" ]; then
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$current")
  fi
}}
complete -o filenames -F {_name(program)} {program}
"""


def _zsh(program: str, commands: Mapping[str, Completed]) -> str:
    listed = "\n".join(f"    {_quoted(f'{name}:{one.says}')}" for name, one in commands.items())
    cases = "".join(
        f"    {name}) _arguments {' '.join(_zsh_word(word) for word in one.words)} '*:file:_files' ;;\n"
        for name, one in commands.items()
    )
    return f"""\
#compdef {program}
{_name(program)}() {{
  local -a commands=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}  esac
}}
compdef {_name(program)} {program}
"""


def _zsh_word(word: Word) -> str:
    if not word.text.startswith("-"):
        return ""
    says = word.says.replace("[", "(").replace("]", ")").replace(":", " ")
    return _quoted(f"{word.text}[{says}]{':value:_files' if word.takes else ''}")


def _fish(program: str, commands: Mapping[str, Completed]) -> str:
    lines = [f"complete -c {program} -f"]
    for name, one in commands.items():
        lines.append(
            f"complete -c {program} -n __fish_use_subcommand -a {name} -d {_quoted(one.says, fish=True)}"
        )
        for word in one.words:
            how = (
                f"-l {word.text[2:]}"
                if word.text.startswith("--")
                else f"-s {word.text[1:]}"
                if word.text.startswith("-")
                else f"-a {word.text}"
            )
            takes = " -r -F" if word.takes else ""
            says = f" -d {_quoted(word.says, fish=True)}" if word.says else ""
            lines.append(f"complete -c {program} -n '__fish_seen_subcommand_from {name}' {how}{takes}{says}")
    return "\n".join(lines) + "\n"


def _quoted(text: str, *, fish: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'") if fish else text.replace("'", "'\\''")
    return f"'{escaped}'"
