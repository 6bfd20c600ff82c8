"""What our reader of tokens takes, PyJWT takes, and the other way round."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.utils import base64url_decode

from proxy.core import jws
from proxy.core.settings import TokenSettings
from proxy.core.tokens import Identity, Verifier

SECRET = "a secret that is long enough for every algorithm"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="


def theirs(part: bytes) -> bytes | None:
    """PyJWT's reading of a part."""
    try:
        return jwt.PyJWS()._decode_base64url_segment(part, "part")
    except jwt.DecodeError:
        return None


@given(st.text(ALPHABET, min_size=1, max_size=12).filter(lambda text: "=" not in text.rstrip("=")))
@example("AB")
@example("AA=")
@example("AA==")
@example("AAA====")
@example("AAAA=")
@example("A")
def test_a_part_is_read_as_pyjwt_reads_it(text: str) -> None:
    if text.startswith("="):
        # Nothing but padding is no part at all for the form of a token.
        assert jws.parts(f"{text}.AA.AA") is None
    else:
        assert jws.part_bytes(text.encode()) == theirs(text.encode())


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c.d", "a..c", ".b.c", "a.b.", "a.b.c\n", "a.b.ü", "a.b+.c", "a.b/.c", "a b.c.d"]
)
def test_what_has_not_the_form_of_a_token_has_no_parts(token: str) -> None:
    assert jws.parts(token) is None


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


HEADERS = (
    b'{"alg":"HS256","typ":"JWT"}',
    b'{"alg":"HS256"}',
    b'{"alg":"HS256","kid":"k"}',
    b'{"alg":"HS256","kid":1}',
    b'{"alg":"HS256","kid":null}',
    b'{"alg":"HS256","b64":false}',
    b'{"alg":"HS256","b64":true}',
    b'{"alg":"none"}',
    b'{"alg":["HS256"]}',
    b'{"alg":null}',
    b"{}",
    b"[]",
    b"nonsense",
)
CLAIMS = (b'{"sub":"42"}', b'{"sub":42,"x":[1]}', b'{"sub":""}', b"[]", b'"42"', b"nonsense", b"")


@given(
    st.sampled_from(HEADERS), st.sampled_from(CLAIMS), st.sampled_from(["", "=", "=="]), st.integers(0, 40)
)
def test_a_token_is_good_only_if_pyjwt_says_so_too(
    header: bytes, claims: bytes, pad: str, spoil: int
) -> None:
    """`spoil` damages a digit of the signature, or none beyond its end."""
    signed = f"{b64(header)}.{b64(claims)}{pad}"
    signature = list(b64(hmac.digest(SECRET.encode(), signed.encode(), sha256)))
    if spoil < len(signature):
        signature[spoil] = "A" if signature[spoil] != "A" else "B"
    token = f"{signed}.{''.join(signature)}"

    proven = Verifier(TokenSettings(secret=SECRET, algorithms=("HS256",))).verify(token, 1000.0)

    if isinstance(proven, Identity):
        assert jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_sub": False})["sub"]
    else:
        # Without a subject a token may be well signed and still be nobody's.
        with pytest.raises((jwt.PyJWTError, AssertionError)):
            assert jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_sub": False})["sub"]


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())]
)
def test_one_hash_stands_for_every_spelling_of_a_token(algorithm: str, curve: ec.EllipticCurve) -> None:
    """The mirrored signature proves the token too, and so does padding: a logout has to end them all."""
    private = ec.generate_private_key(curve)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    verifier = Verifier(TokenSettings(algorithms=(algorithm,), public_key=pem))

    def hashes(*tokens: str) -> set[str]:
        proven = [verifier.verify(token, 0.0) for token in tokens]
        assert all(isinstance(one, Identity) for one in proven), proven
        return {one.token_hash for one in proven if isinstance(one, Identity)}

    token = jwt.encode({"sub": "5"}, private, algorithm)
    signed, _, signature = token.rpartition(".")
    both = base64url_decode(signature)
    width = len(both) // 2
    mirrored = both[:width] + (curve.group_order - int.from_bytes(both[width:])).to_bytes(width)
    spelled = [urlsafe_b64encode(one).decode() for one in (both, mirrored)]

    of_token = hashes(token, *(f"{signed}.{one}" for one in spelled + [one.rstrip("=") for one in spelled]))
    assert 1 == len(of_token)
    assert of_token.isdisjoint(hashes(jwt.encode({"sub": "5", "jti": "2"}, private, algorithm)))
