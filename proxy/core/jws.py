"""The parts of a JWS in compact form, read as strictly as PyJWT reads them, but sooner. Pure."""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import Final, NamedTuple

# RFC 7515 §3.1; five parts are a JWE.
_JWS: Final = re.compile(r"([\w-]+=*)\.([\w-]+=*)\.([\w-]+=*)", re.ASCII)
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
# By what is left over of four digits: the last ones that say nothing beyond the last byte. Others would make
# several spellings of one token.
_LAST: Final = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}


class Parts(NamedTuple):
    """A token taken apart; each part but `signed`, which is what the signature covers, is base64url."""

    header: bytes
    payload: bytes
    signature: bytes
    signed: bytes


def parts(token: str) -> Parts | None:
    """The parts of a token; None where it is none by its form."""
    found = _JWS.fullmatch(token)
    if found is None:
        return None
    text = token.encode("ascii")
    first, second = found.end(1), found.end(2)
    return Parts(text[:first], text[first + 1 : second], text[second + 1 :], text[:second])


def part_bytes(part: bytes) -> bytes | None:
    """What a part of `Parts` spells; None where another spelling is the right one.

    Padding, which some issuers write, is good where it is complete.
    """
    bare = part.rstrip(b"=")
    if len(bare) != len(part) and (len(part) % 4 or len(part) - len(bare) > 2):
        return None
    left_over = len(bare) % 4
    if left_over == 1 or (left_over and bare[-1] not in _LAST[left_over]):
        return None
    return a2b_base64(bare.translate(_URL_SAFE) + b"==")
