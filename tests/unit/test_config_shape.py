"""The types that the JSON schema is written from say what the readers of the routes file do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy import config, configdoc
from proxy.config import parse
from proxy.configfile import Node, Reader
from proxy.core.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = configdoc.schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)

KEY = "00112233445566778899aabbccddeeff" * 2
ENVIRONMENT = {
    "JWT_SECRET": "s" * 32,
    **dict.fromkeys(("USERS_CACHE_KEY", "CACHE_HASH_KEY", "CACHE_ENCRYPT_KEY"), KEY),
}

# Every block once, each with no more than it needs.
BARE = """\
version: 1
upstream: {}
edge: {}
limits: {}
user: {keys: {email: {path: email}}}
views: {users: {ttl: 60s}}
tokens: {}
token_from: {cookie: session}
revoking: {}
truth: {}
hash_keys: {key_env: USERS_CACHE_KEY}
encrypt: {key_env: USERS_CACHE_KEY}
routes:
  - {match: "GET /users/{id:int}", lookup: {by: id, view: users}}
  - {match: "GET /a/{id}", lookup: {by: id, view: users}, access: owner, allow: {claim: r, any: [a]}}
  - {match: "GET /b/{id}", lookup: {by: id, view: users}, access: token, require: {scope: a}}
  - {match: "GET /me", introspect: {answer: view, view: users}}
  - {match: "PUT /profile", write: {evict: [{id: token}]}}
  - {match: "GET /avatars/{file:path}", resource: {}}
  - {match: "POST /login", pass: true}
resources: {}
"""


def read(value: Any) -> Any:
    """The settings that a document amounts to."""
    return parse(yaml.safe_dump(value).encode(), "routes.yaml", ENVIRONMENT)


def blocks(path: str = "", block: dict[str, Any] = SCHEMA) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping of the schema by its path."""
    yield path, block
    for name, fragment in block["properties"].items():
        for step, inner in configdoc._inner(fragment):
            if "$ref" in inner:
                where = f"{path}.{name}{step}".lstrip(".").replace("[]", "[*]")
                if where == "tokens[*]":
                    continue  # one of a list is what stands alone, read by the same reader
                yield from blocks(where, SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]])


def generic(path: str) -> str:
    """The path of a node with its own names and numbers taken out."""
    path = re.sub(r"\[\d+\]", "[*]", path)
    return re.sub(r"^(views|user\.keys)\.\w+$", r"\1.NAME", path)


def test_the_types_know_the_keys_that_the_readers_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that a reader gets belongs into proxy/configshape.py too, with a sentence; then `make docs`."""
    known: dict[str, set[str]] = {}

    class Recorder(Reader):
        def table(self, node: Node, names: Iterable[str]) -> Node:
            listed = list(names)
            if not re.search(r"\.evict\[\d+\]$", node.path):
                known.setdefault(generic(node.path), set()).update(listed)
            return super().table(node, listed)

    monkeypatch.setattr(config, "Reader", Recorder)
    read(yaml.safe_load(BARE))

    assert known == {path: set(block["properties"]) for path, block in blocks()}


def test_every_key_has_a_sentence() -> None:
    """The reference leaves no key unexplained."""
    rows = [line for line in configdoc.reference().splitlines() if line.startswith("| `")]

    assert [] == [row for row in rows if not row.split(" | ")[-1].rstrip(" |")]


def places(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping of a document with its generic path."""
    if isinstance(value, dict):
        yield generic(path), value
        for name, inner in value.items():
            yield from places(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, f"{path}[{number}]")


DEFAULTS = [
    pytest.param(path, name, fragment["default"], id=f"{path}.{name}")
    for path, block in blocks()
    for name, fragment in block["properties"].items()
    if fragment.get("default") not in (None, {}, [])
]
EXAMPLES = [
    pytest.param(path, name, example, id=f"{path}.{name}={example}")
    for path, block in blocks()
    for name, fragment in block["properties"].items()
    for example in fragment.get("examples", ())
]


@pytest.mark.parametrize(("path", "name", "default"), DEFAULTS)
def test_a_default_is_what_is_read_without_it(path: str, name: str, default: Any) -> None:
    """Writing a default down changes nothing."""
    given = yaml.safe_load(BARE)
    fitting = [block for where, block in places(given) if where == path]
    for block in fitting[:1]:
        block[name] = default

    assert fitting
    assert read(yaml.safe_load(BARE)) == read(given)


@pytest.mark.parametrize(("path", "name", "example"), EXAMPLES)
def test_an_example_is_accepted(path: str, name: str, example: Any) -> None:
    """By the schema, and by the readers in one of the places where the key may stand."""
    results = []
    for number in range(10):
        given = yaml.safe_load(BARE)
        fitting = [block for where, block in places(given) if where == path]
        if number >= len(fitting):
            break
        fitting[number][name] = example
        try:
            read(given)
        except ConfigError as error:
            # The example alone is judged here, not what else would have to change with it.
            results.append([one for one in error.mistakes if "unknown" in one or " is not " in one])
        else:
            results.append([])
        assert [] == [error.message for error in CHECK.iter_errors(given)]

    assert [] in results


WRONG = {
    "an unknown block": {"veiws": {}},
    "an unknown key": {"upstream": {"urls": "http://a"}},
    "no version": {"version": None},
    "another version": {"version": 2},
    "a duration that is none": {"views": {"users": {"ttl": "soon"}}},
    "a view without its ttl": {"views": {"users": {}}},
    "a size that is none": {"user": {"max_size": "big"}},
    "a key name that is none": {"user": {"keys": {"E-Mail": {"path": "email"}}}},
    "an unknown algorithm": {"tokens": {"algorithms": ["none"]}},
    "a route without an action": {"routes": [{"match": "GET /x"}]},
    "a route with two actions": {"routes": [{"match": "GET /x", "pass": True, "write": {"evict": "all"}}]},
    "an unknown key of a route": {"routes": [{"match": "GET /x", "pas": True}]},
    "a match without a method": {"routes": [{"match": "/x", "pass": True}]},
    "a pass that is false": {"routes": [{"match": "GET /x", "pass": False}]},
    "an unknown access": {
        "routes": [{"match": "GET /x", "lookup": {"by": "id", "view": "users"}, "access": "all"}]
    },
    "an unknown place": {"routes": [{"match": "PUT /x", "write": {"evict": [{"id": "paht.id"}]}}]},
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_refused_by_both(mistake: str) -> None:
    """What an editor underlines is what `check` would say."""
    given = yaml.safe_load(BARE) | WRONG[mistake]
    if given["version"] is None:
        del given["version"]

    assert [] != list(CHECK.iter_errors(given))
    with pytest.raises(ConfigError):
        read(given)


def shown() -> list[Any]:
    """Every whole routes file that the project shows."""
    found = [pytest.param((ROOT / "proxy/routes.yaml").read_text("utf-8"), id="packaged")]
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        texts = re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text("utf-8"))
        found += [
            pytest.param(text, id=f"{page.name}-{number}")
            for number, text in enumerate(texts, start=1)
            if "version: 1" in text
        ]
    return found


@pytest.mark.parametrize("text", shown())
def test_what_is_shown_is_accepted(text: str) -> None:
    """The packaged file and those of the documentation, by a real validator."""
    assert [] == [error.message for error in CHECK.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_a_schema() -> None:
    """By the standard's own schema of schemas."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_is_published_is_current() -> None:
    """docs/ holds what the types say now; `make docs` writes it."""
    assert (ROOT / "docs/routes.schema.json").read_text("utf-8") == configdoc.schema_text()
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == configdoc.reference()
