"""The JSON schema of `routes.yaml` and the reference of all settings, both written from the types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.configgiven import SETTINGS
from proxy.configroutes import ACTIONS
from proxy.configshape import RoutesFile

_ROOT = RoutesFile.__name__
_NOTE = "<!-- Written by `make docs` from proxy/configshape.py and proxy/configgiven.py. -->"

_INTRO = f"""\
{_NOTE}

# Configuration reference

Flags beat the environment, the environment beats the routes file. An unknown key is a mistake, and so is an
unknown value; `user-cache-proxy check` tells all of them at once, with file and line.
`user-cache-proxy schema` prints the JSON schema of the file ([routes.schema.json](routes.schema.json)), for
editors that know the YAML language server:

```yaml
# yaml-language-server: $schema=routes.schema.json
version: 1
```

A *duration* is `10ms`, `5s`, `5m`, `1h`, `1d`, or a number of seconds. A *size* is `10kB`, `256KiB`, `1MiB`,
or a number of bytes. A *dotted path* names a member of a JSON document: `data.user.id`.

## Environment and flags

An empty variable counts as unset. Secrets are read from the environment only.

| environment | flag | default | meaning |
|---|---|---|---|
"""


def schema() -> dict[str, Any]:
    """The schema of a routes file (JSON Schema 2020-12)."""
    made = msgspec.json.schema(RoutesFile)
    definitions: dict[str, Any] = made["$defs"]
    route = definitions["Route"]
    route["oneOf"] = [{"required": [name]} for name in ACTIONS if name in route["properties"]]
    for block in definitions.values():
        if not block.get("required", True):
            del block["required"]
    root = definitions.pop(_ROOT)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routes.yaml of user-cache-proxy",
    }
    return {**head, **{name: value for name, value in root.items() if name != "title"}, "$defs": definitions}


def schema_text() -> str:
    """The same as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """All settings as a page of Markdown."""
    rows = [
        _row(f"`{one.env}`", f"`{one.flag}`" if one.flag else "", one.default, one.help) for one in SETTINGS
    ]
    whole = schema()
    blocks = [f"\n## The routes file\n\n{_table(whole)}"]
    blocks += [
        f"\n### `{path}`\n\n{definition['description']}\n\n{_table(definition)}"
        for path, definition in _blocks(whole, whole, "")
    ]
    return _INTRO + "".join(rows) + "".join(blocks)


def _blocks(whole: dict[str, Any], block: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping of the file with the path it is found at, outermost first."""
    for name, value in block["properties"].items():
        where = f"{path}.{name}".lstrip(".")
        for step, fragment in _inner(value):
            if "$ref" in fragment:
                definition = whole["$defs"][fragment["$ref"].rpartition("/")[2]]
                yield where + step, definition
                yield from _blocks(whole, definition, where + step)


def _inner(fragment: dict[str, Any], step: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield step, fragment
    if isinstance(fragment.get("additionalProperties"), dict):
        yield from _inner(fragment["additionalProperties"], f"{step}.NAME")
    if "items" in fragment:
        yield from _inner(fragment["items"], f"{step}[]")
    for one in fragment.get("anyOf", ()):
        yield from _inner(one, step)


def _table(block: dict[str, Any]) -> str:
    lines = ["| key | value | default | meaning |\n|---|---|---|---|\n"]
    for name, value in block["properties"].items():
        if name in block.get("required", ()):
            default = "required"
        else:
            default = f"`{_yaml(value['default'])}`" if value.get("default") not in (None, {}, []) else "none"
        says = value.get("description", "")
        examples = ", ".join(f"`{_yaml(example)}`" for example in value.get("examples", ()))
        lines.append(
            _row(f"`{name}`", _kind(value), default, f"{says} E.g. {examples}" if examples else says)
        )
    return "".join(lines)


def _kind(value: dict[str, Any]) -> str:
    """The values a key may have, in a few words."""
    if "title" in value:
        return str(value["title"])
    if "enum" in value:
        return ", ".join(f"`{_yaml(one)}`" for one in value["enum"])
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(one) for one in value["anyOf"]))
    if "$ref" in value:
        return "mapping"
    match value["type"]:
        case "array":
            return f"list of {_kind(value['items'])}"
        case "object":
            return "mapping"
        case "boolean":
            return "`true`, `false`"
        case "integer":
            low, high = value.get("minimum"), value.get("maximum")
            return "number" if low is None or high is None else f"{low} to {high}"
        case "null":
            return "null"
        case _:
            return "text"


def _yaml(value: Any) -> str:
    """A value as it is written in YAML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_yaml(each)}' for name, each in value.items())}}}"
    return str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"
