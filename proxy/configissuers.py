"""`tokens` as one block, or as a list of blocks with an issuer each, and their secrets (design §4)."""

from __future__ import annotations

from proxy.configfile import Node, Reader
from proxy.configgiven import Given
from proxy.configtokens import ReadFile, TokenBlock, no_files, read_block
from proxy.configvalues import quoted
from proxy.core.issuers import together
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import pem_keys


def read_tokens(reader: Reader, root: Node, read_file: ReadFile = no_files) -> tuple[TokenBlock, ...]:
    """The blocks, without their secrets; none where `tokens` is left out."""
    node = root.members.get("tokens")
    if node is None or node.kind == "null":
        return ()
    if node.kind != "seq":
        return (read_block(reader, node, read_file),)
    if not node.items:
        reader.wrong(node, "is empty; give a block for each issuer, or leave it out")
    blocks = tuple(read_block(reader, item, read_file) for item in node.items)
    first: dict[str, int] = {}
    for item, block in zip(node.items, blocks, strict=True):
        if block.issuer is None:
            if item.kind == "map" and ("issuer" not in item or item.members["issuer"].kind == "null"):
                reader.say(
                    block.line,
                    f"{item.path}.issuer: is required in a list; give what `iss` says in its tokens",
                )
        elif block.issuer in first:
            same = f"is that of line {first[block.issuer]} as well; give each issuer one block"
            reader.wrong(item.members["issuer"], f"{quoted(block.issuer)} {same}")
        else:
            first[block.issuer] = block.line
    return blocks


def token_settings(
    given: Given, blocks: tuple[TokenBlock, ...], name: str, *, packaged: bool
) -> TokenSettings | None:
    """The blocks of the file called `name` with their secrets; `packaged`: one without its secret is none."""
    settings: list[TokenSettings] = []
    for block in blocks:
        secret = None if block.secret_env is None else given.environ.get(block.secret_env, "")
        if secret == "":
            if packaged:
                return None
            given.mistakes.append(
                f"{block.secret_env}: is not set, and the tokens block ({name}:{block.line}) needs it; "
                "set it, or delete the tokens block"
            )
        settings.append(block.settings(secret))
    given.mistakes += _shared(blocks, settings, name)
    if len(settings) > 1:
        return together(settings)
    return settings[0] if settings else None


def _shared(blocks: tuple[TokenBlock, ...], settings: list[TokenSettings], name: str) -> list[str]:
    """A key that two issuers share: whoever signs for the one could sign for the other."""
    first: dict[str, int] = {}
    found = []
    for number, (block, one) in enumerate(zip(blocks, settings, strict=True)):
        for key in _keys(one):
            if first.setdefault(key, number) != number:
                found.append(
                    f"{name}:{block.line}: tokens[{number}]: has a key of tokens[{first[key]}], so each "
                    "could sign as the other; give every issuer its own keys"
                )
                break
    return found


def _keys(settings: TokenSettings) -> list[str]:
    """What tells the keys of a block from others'."""
    if settings.public_key:
        return [f"key {key.thumbprint}" for key in pem_keys(settings.public_key.encode())]
    named = {"secret": settings.secret, "url": settings.jwks_url}
    return [f"{kind} {text}" for kind, text in named.items() if text]
