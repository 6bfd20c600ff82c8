"""The parts of a JWS in compact form, read as strictly as PyJWT reads them, but sooner. Pure."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from typing import Final, NamedTuple

# RFC 7515 §3.1; five parts are a JWE.
_JWS: Final = re.compile(r"([\w-]+=*)\.([\w-]+=*)\.([\w-]+=*)", re.ASCII)
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
# By what is left over of four digits: the last ones that say nothing beyond the last byte. Others would make
# several spellings of one token.
_LAST: Final = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
# RFC 7518 §3.4: R and S of one width; the number of points of the curve (FIPS 186-4 D.1.2).
_ORDERS: Final = {
    "ES256": (32, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    "ES384": (48, (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D),
    "ES512": (66, (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7),
}


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


def one_spelling(token: str, algorithm: str) -> str:
    """The spelling that stands for all spellings of a token that the same signing made good.

    Whoever holds a token can pad its signature, and can put n - S for the S of one on an elliptic curve: both
    still prove it. What is said of the token, as that it was logged out, has to hold for these as well.
    """
    bare = token.rstrip("=")
    if algorithm not in _ORDERS:
        return bare
    width, order = _ORDERS[algorithm]
    signed, _, signature = bare.rpartition(".")
    both = part_bytes(signature.encode("ascii"))
    if both is None or len(both) != 2 * width:
        return bare
    s = int.from_bytes(both[width:])
    if not order - s < s < order:
        return bare
    mirrored = both[:width] + (order - s).to_bytes(width)
    return f"{signed}.{urlsafe_b64encode(mirrored).rstrip(b'=').decode('ascii')}"
