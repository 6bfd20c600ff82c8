"""A `tokens` block of `routes.yaml`: where the keys come from, and what a good token says (design §4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.configfile import Node, Reader, join
from proxy.configvalues import choice, dotted, duration, quoted, text_value
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import MAX_BYTES, PUBLIC_ALGORITHMS, SECRET_ALGORITHMS, pem_keys

SOURCES = ("secret_env", "public_key_file", "jwks_url")

ReadFile = Callable[[str], bytes]


def no_files(_: str) -> bytes:
    """For a routes file that lies nowhere. Raises OSError."""
    raise FileNotFoundError(2, "no such file")


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """The `tokens` block; a shared secret itself is in the environment variable `secret_env`."""

    line: int
    secret_env: str | None
    public_key: str | None
    jwks_url: str | None
    algorithms: tuple[str, ...]
    issuer: str | None
    audience: str | None
    leeway: float
    subject: tuple[str, ...]

    def settings(self, secret: str | None) -> TokenSettings:
        """The block together with its secret."""
        return TokenSettings(
            secret=secret,
            public_key=self.public_key,
            jwks_url=self.jwks_url,
            algorithms=self.algorithms,
            issuer=self.issuer,
            audience=self.audience,
            leeway=self.leeway,
            subject=self.subject,
        )


def read_block(reader: Reader, node: Node, read_file: ReadFile) -> TokenBlock:
    """One block, without its secret. `read_file` gives a file's bytes."""
    block = reader.table(node, (*SOURCES, "algorithms", "issuer", "audience", "leeway", "subject"))
    source = _source(reader, block)
    algorithms = _algorithms(reader, block, source)
    return TokenBlock(
        line=block.line,
        secret_env=(
            reader.value(block, "secret_env", _variable, "JWT_SECRET") if source == "secret_env" else None
        ),
        public_key=_public_key(reader, block, algorithms, read_file) if source == "public_key_file" else None,
        jwks_url=reader.value(block, "jwks_url", _url, "") if source == "jwks_url" else None,
        algorithms=algorithms,
        issuer=_text_or_null(reader, block, "issuer"),
        audience=_text_or_null(reader, block, "audience"),
        leeway=reader.value(block, "leeway", duration, 0.0),
        subject=reader.value(block, "subject", dotted, ("sub",)),
    )


def _source(reader: Reader, block: Node) -> str:
    given = [name for name in SOURCES if name in block]
    for name in given[1:]:
        reader.wrong(block.members[name], f"{given[0]} is given as well; keep one of them")
    return given[0] if given else "secret_env"


def _algorithms(reader: Reader, block: Node, source: str) -> tuple[str, ...]:
    """As listed, in the kind of the keys (RFC 8725 §3.1)."""
    secret = source == "secret_env"
    node = block.members.get("algorithms")
    if node is None:
        return ("HS256",) if secret else ("RS256", "ES256")

    def fitting(text: str) -> str:
        if text.lower() == "none":
            # RFC 8725 §3.2: an unsigned token proves nothing.
            example = "HS256" if secret else "RS256"
            raise ValueError(
                f"'none' accepts tokens that nobody signed and is never allowed; give e.g. {example}"
            )
        if secret and text in PUBLIC_ALGORITHMS:
            raise ValueError(f"{text!r} needs public keys; give jwks_url or public_key_file, or HS256")
        if not secret and text in SECRET_ALGORITHMS:
            raise ValueError(f"{text!r} needs a secret, and {source} gives public keys; give e.g. RS256")
        return choice(*(SECRET_ALGORITHMS if secret else PUBLIC_ALGORITHMS))(text)

    if node.kind == "seq" and not node.items:
        example = "HS256" if secret else "RS256"
        reader.wrong(node, f"is empty, so no token would be good; give e.g. [{example}]")
    return reader.texts(node, fitting)


def _public_key(reader: Reader, block: Node, algorithms: tuple[str, ...], read_file: ReadFile) -> str:
    """The text of the PEM file; empty where it is none, which is a mistake."""
    name = reader.value(block, "public_key_file", text_value, "")
    if not name:
        return ""
    place = f"{join(block.path, 'public_key_file')}"
    line = block.members["public_key_file"].line
    try:
        data = read_file(name)
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES // 1024} KiB")
        keys = pem_keys(data)
    except OSError as error:
        reader.say(line, f"{place}: {quoted(name)} cannot be read ({error.strerror}); check the path")
        return ""
    except ValueError as error:
        reader.say(line, f"{place}: {quoted(name)} {error}")
        return ""
    possible = set[str]().union(*(key.algorithms for key in keys))
    if algorithms and not possible & set(algorithms):
        fit = ", ".join(one for one in PUBLIC_ALGORITHMS if one in possible)
        reader.say(line, f"{place}: no key of {quoted(name)} fits the algorithms; give algorithms of {fit}")
    # Only the blocks count, so what else stands in the file need not be text.
    return data.decode("ascii", "replace")


def _text_or_null(reader: Reader, block: Node, name: str) -> str | None:
    node = block.members.get(name)
    return None if node is None or node.kind == "null" else reader.scalar(node, text_value, None)


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"{quoted(text)} is not the name of an environment variable; give e.g. JWT_SECRET")
    return text


def _url(text: str) -> str:
    """http or https, with a host, and nothing in it that is not sent. The text may hold a secret."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not a URL of a key set; give e.g. https://login.example/.well-known/jwks.json")
    if "@" in parts.netloc or "#" in text:
        raise ValueError("holds a user name or a fragment; give the URL without it")
    return text
