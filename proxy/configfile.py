"""YAML → nodes that know their line and path, and a reader that collects mistakes instead of stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import yaml

from proxy.configvalues import did_you_mean, quoted

T = TypeVar("T")

MAX_BYTES = 1024 * 1024
# Aliases let a small file unfold into a huge or endless one.
MAX_NODES = 20_000
MAX_DEPTH = 16

_TOO_MUCH = "nested too deep, or unfolds to too many values; use fewer aliases"
# The kind of what should have been a mapping: said once, so nothing is missed in it.
_WRONG = "wrong"
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands. `kind` is the YAML type: str, int, float, bool, null, map, seq, …"""

    path: str
    line: int
    kind: str
    text: str = ""
    members: dict[str, Node] = field(default_factory=dict)
    items: tuple[Node, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.members


class Reader:
    """Reads one file's nodes. What is wrong goes to `mistakes`, and a default is read in its place."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._mistakes: list[tuple[int, str]] = []
        self._count = 0

    @property
    def mistakes(self) -> tuple[str, ...]:
        """One line each, in the order of the file."""
        return tuple(text for _, text in sorted(self._mistakes, key=lambda pair: pair[0]))

    def say(self, line: int, sentence: str) -> None:
        """Notes a mistake at a line; 0 is the file as a whole."""
        place = f"{self.name}:{line}" if line else self.name
        # A key or YAML's own words may hold line ends; a mistake is one line.
        self._mistakes.append((line, " ".join(f"{place}: {sentence}".split())))

    def wrong(self, node: Node, sentence: str) -> None:
        """Notes a mistake in a value."""
        self.say(node.line, f"{node.path}: {sentence}" if node.path else sentence)

    def compose(self, data: bytes) -> Node | None:
        """The root of a file, or None where it is no YAML mapping."""
        try:
            return self._root(data)
        except _UnreadableError as error:
            self.say(error.line, error.sentence)
        except RecursionError:
            self.say(0, _TOO_MUCH)
        return None

    def table(self, node: Node, known: Iterable[str]) -> Node:
        """The node as a mapping with known keys only; every other key is a mistake."""
        if node.kind != "map":
            self.wrong(node, f"must be a mapping, not {_shown(node)}")
            return Node(node.path, node.line, _WRONG)
        names = list(known)
        for name, member in node.members.items():
            if name in names:
                continue
            hint = f"unknown key{did_you_mean(name, names)}"
            self.wrong(member, hint)
        return node

    def entries(self, node: Node | None) -> Mapping[str, Node]:
        """The members of a mapping with free names; nothing where it is absent."""
        if node is None or node.kind == "null":
            return {}
        if node.kind != "map":
            self.wrong(node, f"must be a mapping, not {_shown(node)}")
        return node.members

    def items(self, node: Node) -> tuple[Node, ...]:
        """The elements of a list."""
        if node.kind != "seq":
            self.wrong(node, f"must be a list, not {_shown(node)}")
        return node.items

    def texts(self, node: Node, parse: Callable[[str], str]) -> tuple[str, ...]:
        """A list of texts."""
        found = [self.scalar(item, parse, "") for item in self.items(node)]
        return tuple(text for text in found if text)

    def value(self, table: Node, name: str, parse: Callable[[str], T], default: T) -> T:
        """A member read by `parse`, or the default where it is absent."""
        node = table.members.get(name)
        return default if node is None else self.scalar(node, parse, default)

    def required(self, table: Node, name: str, parse: Callable[[str], T], default: T, example: str) -> T:
        """A member that must be there."""
        if name in table or table.kind == _WRONG:
            return self.value(table, name, parse, default)
        self.say(table.line, f"{join(table.path, name)}: is required; give e.g. {example}")
        return default

    def scalar(self, node: Node, parse: Callable[[str], T], default: T) -> T:
        """A single value read by `parse`, which raises ValueError with a sentence."""
        if node.kind == "bool":
            self.wrong(node, f"{quoted(node.text)} is read as true or false; quote it or give another value")
        elif node.kind not in ("str", "int", "float"):
            self.wrong(node, f"must be a single value, not {_shown(node)}")
        else:
            try:
                return parse(node.text)
            except ValueError as error:
                self.wrong(node, str(error))
        return default

    def flag(self, table: Node, name: str, *, default: bool) -> bool:
        """A member that is true or false."""
        node = table.members.get(name)
        if node is None:
            return default
        if node.kind == "bool" and node.text.lower() in ("true", "false"):
            return node.text.lower() == "true"
        self.wrong(node, "must be true or false")
        return default

    def _root(self, data: bytes) -> Node:
        if len(data) > MAX_BYTES:
            raise _UnreadableError(0, f"larger than {MAX_BYTES} bytes; this is not a routes file")
        try:
            text = data.decode()
            raw = yaml.compose(text, Loader=yaml.SafeLoader)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _UnreadableError(line, "not UTF-8; save the file as UTF-8") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            sentence = f"not YAML: {error.problem or error.context}"
            raise _UnreadableError(mark.line + 1 if mark else 0, sentence) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise _UnreadableError(line, "not YAML: it holds a control character") from None
        if raw is None:
            raise _UnreadableError(0, "the file is empty; give at least 'version: 1'")
        if not isinstance(raw, yaml.MappingNode):
            raise _UnreadableError(raw.start_mark.line + 1, "not a mapping; begin with 'version: 1'")
        return self._node(raw, "", 0)

    def _node(self, raw: yaml.Node, path: str, depth: int) -> Node:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise _UnreadableError(0, _TOO_MUCH)
        line = raw.start_mark.line + 1
        if isinstance(raw, yaml.ScalarNode):
            kind = raw.tag.removeprefix(_TAG)
            return Node(path, line, "str" if kind == "timestamp" else kind, text=raw.value)
        if isinstance(raw, yaml.SequenceNode):
            items = (self._node(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(raw.value))
            return Node(path, line, "seq", items=tuple(items))
        return Node(path, line, "map", members=self._members(raw, path, depth))

    def _members(self, raw: yaml.Node, path: str, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key, value in raw.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.say(line, f"{path or 'the file'}: a key must be a single word")
                continue
            where = join(path, key.value)
            if key.value in members:
                self.say(
                    line, f"{where}: the key appears twice, first on line {lines[key.value]}; remove one"
                )
                continue
            lines[key.value] = line
            members[key.value] = self._node(value, where, depth + 1)
        return members


class _UnreadableError(Exception):
    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


def join(path: str, name: str) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else name


def _shown(node: Node) -> str:
    if node.kind in ("map", "seq", "null"):
        return {"map": "a mapping", "seq": "a list", "null": "empty"}[node.kind]
    return quoted(node.text)
