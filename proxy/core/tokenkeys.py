"""The keys that prove tokens. Each is bound to the algorithms of its kind, so no key can pass for another.

A secret makes HS* only; RSA makes RS* and PS*, a curve its own ES*, Ed25519 EdDSA (RFC 8725 §3.1). What a
token's header offers as a key (`jwk`, `jku`, `x5c`, `x5u`) is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.core.errors import ConfigError
from proxy.core.settings import TokenSettings

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
PUBLIC_ALGORITHMS = (*RSA_ALGORITHMS, *CURVES.values(), "EdDSA")

MIN_RSA, MAX_RSA = 2048, 8192  # bits; RFC 7518 §3.3, and above it a check costs milliseconds
MAX_BYTES = 256 * 1024
MAX_KEYS = 100  # in a fetched set
MAX_TRIED = 8  # signature checks for one token, and keys in a file

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

Material = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it may prove. Keys are equal by kid, algorithms and `thumbprint` (SHA-256, hex)."""

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    material: Material = field(repr=False, compare=False)


class KeySet(msgspec.Struct, frozen=True):
    """Keys that are good together.

    `as_of` (wall-clock seconds) is when a fetched set was true, `dead` when it is too old for any use; both
    None for keys that do not change. `unusable` are the kids (None: without one) of keys that the set holds
    and this program does not use: nothing is known about their tokens.
    """

    keys: tuple[Key, ...]
    unusable: frozenset[str | None] = frozenset()
    as_of: float | None = None
    dead: float | None = None

    def usable(self, now: float) -> bool:
        """Whether it holds keys that are not too old at `now`."""
        return bool(self.keys) and (self.dead is None or now < self.dead)

    def named(self, kid: str | None) -> tuple[Key, ...]:
        """The keys of that name."""
        return () if kid is None else tuple(key for key in self.keys if key.kid == kid)

    def nameless(self, kid: str | None) -> tuple[Key, ...]:
        """The keys that may have signed though no name leads to them: a token or a key without kid."""
        return self.keys if kid is None else tuple(key for key in self.keys if key.kid is None)

    def leaves_out(self, kid: str | None) -> bool:
        """Whether a key that is not used here may have signed a token with this kid."""
        return bool(self.unusable) if kid is None else bool({kid, None} & self.unusable)


def configured_keys(settings: TokenSettings) -> KeySet | None:
    """The keys that the settings hold; None where they are to be fetched. Raises ConfigError."""
    if settings.secret is not None:
        return KeySet((secret_key(settings.secret),))
    if settings.public_key is not None:
        try:
            return KeySet(pem_keys(settings.public_key.encode()))
        except ValueError as error:
            raise ConfigError((f"tokens.public_key_file: {error}",)) from None
    if settings.jwks_url is not None:
        return None
    raise ConfigError(("tokens: there is no key; give secret_env, public_key_file or jwks_url",))


def secret_key(secret: str) -> Key:
    """A shared secret. Raises ConfigError for one that is empty or is itself a public key (RFC 8725 §2.1)."""
    try:
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ConfigError(("tokens: the secret is empty, or is a key and not a secret",)) from None
    # No thumbprint: a hash of a short secret could be turned back into it.
    return Key(None, frozenset(SECRET_ALGORITHMS), "", material)


def pem_keys(data: bytes) -> tuple[Key, ...]:
    """The keys of a PEM file: public keys (SPKI, PKCS #1) and certificates, whose dates are not looked at.

    Raises ValueError with a sentence that shows nothing of the file.
    """
    found = [(match[1].decode("ascii"), match[0]) for match in _PEM.finditer(data)]
    if not found:
        raise ValueError("holds no PEM public key or certificate (-----BEGIN PUBLIC KEY-----)")
    if len(found) > MAX_TRIED:
        raise ValueError(f"holds more than {MAX_TRIED} keys; leave the unused ones out")
    return tuple(dict.fromkeys(_pem_key(label, block) for label, block in found))


def _pem_key(label: str, block: bytes) -> Key:
    if "PRIVATE" in label:
        raise ValueError("holds a private key, which does not belong here; give the public one")
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"):
        raise ValueError("holds a PEM block that is neither a public key nor a certificate")
    try:
        if label == "CERTIFICATE":
            return _public_key(None, x509.load_pem_x509_certificate(block).public_key())
        return _public_key(None, serialization.load_pem_public_key(block))
    except _UnusableError as error:
        raise ValueError(f"holds {error}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds a PEM block that can't be read") from None


def jwks_keys(data: bytes) -> KeySet:
    """The keys of a fetched JWK set (RFC 7517 §5); those that can't be used are named in `unusable`.

    Raises ValueError with a sentence where it is no JWK set at all, or a huge one.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1024} KiB")
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a JSON object") from None
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("not a JWK set: it has no list 'keys'")  # noqa: TRY004 - it is the sender's
    if len(listed) > MAX_KEYS:
        raise ValueError(f"holds more than {MAX_KEYS} keys")
    keys: dict[Key, None] = {}
    unusable: set[str | None] = set()
    for jwk in listed:
        try:
            keys[_jwk_key(jwk)] = None
        except _UnusableError:
            kid = jwk.get("kid") if isinstance(jwk, dict) else None
            unusable.add(kid if isinstance(kid, str) else None)
    return KeySet(tuple(keys), frozenset(unusable))


class _UnusableError(Exception):
    """A key that is not used here; the text is the object of a sentence."""


# kty → what builds the key, and the public members that it is given: nothing else of a JWK counts.
_KINDS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "RSA": (RSAAlgorithm, ("n", "e")),
    "EC": (ECAlgorithm, ("crv", "x", "y")),
    "OKP": (OKPAlgorithm, ("crv", "x")),
}


def _jwk_key(jwk: object) -> Key:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid", ""), str):
        raise _UnusableError("a key that is not one")
    if "d" in jwk:
        # Whoever reads the set can sign with it, so a signature proves nothing.
        raise _UnusableError("a private key")
    if jwk.get("use", "sig") != "sig" or not _may_verify(jwk.get("key_ops", ["verify"])):
        raise _UnusableError("a key for another use")
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _KINDS:
        raise _UnusableError("a key of another kind")
    builder, members = _KINDS[kty]
    try:
        material = builder.from_jwk({"kty": kty, **{name: jwk[name] for name in members}})
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        raise _UnusableError("a key that can't be read") from None
    key = _public_key(jwk.get("kid"), material)
    if "alg" not in jwk:
        return key
    algorithms = frozenset(name for name in key.algorithms if name == jwk["alg"])
    if not algorithms:
        raise _UnusableError("a key for another algorithm")
    return Key(key.kid, algorithms, key.thumbprint, key.material)


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _public_key(kid: str | None, material: object) -> Key:
    if isinstance(material, rsa.RSAPublicKey):
        if not MIN_RSA <= material.key_size <= MAX_RSA:
            raise _UnusableError(f"an RSA key of {material.key_size} bits; {MIN_RSA} to {MAX_RSA} are good")
    elif not isinstance(material, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise _UnusableError("a key that is not RSA, EC (P-256, P-384, P-521) or Ed25519")
    der = material.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, frozenset(_algorithms(material)), sha256(der).hexdigest(), material)


def _algorithms(
    material: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
) -> Iterator[str]:
    if isinstance(material, rsa.RSAPublicKey):
        yield from RSA_ALGORITHMS
    elif isinstance(material, ed25519.Ed25519PublicKey):
        yield "EdDSA"
    elif material.curve.name in CURVES:
        yield CURVES[material.curve.name]
    else:
        raise _UnusableError("a key of a curve other than P-256, P-384 and P-521")
