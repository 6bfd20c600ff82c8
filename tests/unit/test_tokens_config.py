"""The tokens block: one source of keys, algorithms of its kind, and every mistake told with its line."""

# A mistake stands here as one line, as it is told.
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import load, parse, warnings
from proxy.core.errors import ConfigError
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import MAX_BYTES
from tests.keys import pem, pem_of_private

FILES = {
    "rsa.pem": pem("rsa"),
    "ed.pem": pem("ed25519"),
    "both.pem": pem("rsa") + pem("ed25519"),
    "private.pem": pem_of_private("rsa"),
    "huge.pem": b"x" * (MAX_BYTES + 1),
}


def tokens_of(block: str) -> TokenSettings:
    """The settings of a tokens block that stands on line 2, beside FILES."""
    found = parse(f"version: 1\ntokens: {block}\n".encode(), "r.yaml", {"KEY": "k" * 64}, read_file=read)
    assert found.tokens is not None
    assert () == warnings(found)
    return found.tokens


def read(name: str) -> bytes:
    """One of FILES."""
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[name]


def test_a_source_of_each_kind() -> None:
    """Exactly one of the three is set, and the algorithms are those of its kind."""
    for block, expected in {
        "{secret_env: KEY}": ("k" * 64, None, None, ("HS256",)),
        "{public_key_file: rsa.pem}": (None, FILES["rsa.pem"].decode(), None, ("RS256", "ES256")),
        "{public_key_file: ed.pem, algorithms: [EdDSA]}": (None, FILES["ed.pem"].decode(), None, ("EdDSA",)),
        "{jwks_url: 'http://k:8/j?a=b'}": (None, None, "http://k:8/j?a=b", ("RS256", "ES256")),
        "{jwks_url: 'https://k', algorithms: [PS512]}": (None, None, "https://k", ("PS512",)),
    }.items():
        found = tokens_of(block)
        assert expected == (found.secret, found.public_key, found.jwks_url, found.algorithms)


URL = "tokens.jwks_url: not a URL of a key set; give e.g. https://login.example/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("block", "sentences"),
    [
        ("{jwks_url: 'https://k', public_key_file: rsa.pem}", ["tokens.jwks_url: public_key_file is given as well; keep one of them"]),
        ("{secret_env: KEY, jwks_url: 'https://k', public_key_file: rsa.pem}", ["tokens.public_key_file: secret_env is given as well; keep one of them", "tokens.jwks_url: secret_env is given as well; keep one of them"]),
        ("{jwks_url: 'https://k', algorithms: [HS256]}", ["tokens.algorithms[0]: 'HS256' needs a secret, and jwks_url gives public keys; give e.g. RS256"]),
        ("{jwks_url: 'https://k', algorithms: [RS256, none]}", ["tokens.algorithms[1]: 'none' accepts tokens that nobody signed and is never allowed; give e.g. RS256"]),
        ("{jwks_url: 'https://k', algorithms: [ES256K]}", ["tokens.algorithms[0]: 'ES256K' is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA"]),
        ("{jwks_url: 'https://k', algorithms: []}", ["tokens.algorithms: is empty, so no token would be good; give e.g. [RS256]"]),
        ("{secret_env: KEY, algorithms: [PS256]}", ["tokens.algorithms[0]: 'PS256' needs public keys; give jwks_url or public_key_file, or HS256"]),
        ("{public_key_file: none.pem}", ["tokens.public_key_file: 'none.pem' cannot be read (No such file or directory); check the path"]),
        ("{public_key_file: private.pem}", ["tokens.public_key_file: 'private.pem' holds a private key, which does not belong here; give the public one"]),
        ("{public_key_file: huge.pem}", ["tokens.public_key_file: 'huge.pem' is larger than 256 KiB"]),
        ("{public_key_file: ed.pem}", ["tokens.public_key_file: no key of 'ed.pem' fits the algorithms; give algorithms of EdDSA"]),
        ("{public_key_file: ''}", ["tokens.public_key_file: is empty; give a value or leave it out"]),
        ("{public_key_file: both.pem, algorithms: [ES384]}", ["tokens.public_key_file: no key of 'both.pem' fits the algorithms; give algorithms of RS256, RS384, RS512, PS256, PS384, PS512, EdDSA"]),
        ("{jwks_url: ''}", [URL]),
        ("{jwks_url: 'ftp://k/j'}", [URL]),
        ("{jwks_url: 'unix:/k'}", [URL]),
        ("{jwks_url: 'https:///j'}", [URL]),
        ("{jwks_url: 'https://k:0/j'}", [URL]),
        ("{jwks_url: 'https://k:x/j'}", [URL]),
        ("{jwks_url: 'https://[k/j'}", [URL]),
        ("{jwks_url: 'https://k/a b'}", [URL]),
        ("{jwks_url: 'https://k/ä'}", [URL]),
        ("{jwks_url: 'https://u:p@k/j'}", ["tokens.jwks_url: holds a user name or a fragment; give the URL without it"]),
        ("{jwks_url: 'https://k/j#x'}", ["tokens.jwks_url: holds a user name or a fragment; give the URL without it"]),
    ],
)  # fmt: skip
def test_mistakes(block: str, sentences: list[str]) -> None:
    """Each names its line and says what to give; no URL is repeated, for it may hold a password."""
    with pytest.raises(ConfigError) as caught:
        tokens_of(block)

    assert [f"r.yaml:2: {sentence}" for sentence in sentences] == list(caught.value.mistakes)


def test_a_file_lies_beside_the_routes_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts there, wherever the program was started; an absolute one is itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "k.pem").write_bytes(pem("rsa"))
    for name in ("k.pem", str(tmp_path / "conf" / "k.pem")):
        (tmp_path / "conf" / "r.yaml").write_text(f"version: 1\ntokens: {{public_key_file: {name}}}\n")
        tokens = load({"ROUTES_FILE": "conf/r.yaml"}).tokens
        assert tokens is not None
        assert pem("rsa").decode() == tokens.public_key


def test_a_file_nobody_can_give() -> None:
    """A routes file that is only text has no files beside it."""
    with pytest.raises(ConfigError, match="cannot be read"):
        parse(b"version: 1\ntokens: {public_key_file: rsa.pem}\n", "r.yaml", {})
