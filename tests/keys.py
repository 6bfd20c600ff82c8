"""Private keys of every kind, their JWKs and PEM files, and tokens signed with them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHM_OF = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "rsa"),
    "ES256": "p256",
    "ES384": "p384",
    "ES512": "p521",
    "EdDSA": "ed25519",
}


@cache
def private(name: str) -> Any:
    """The key of that name: a kind, with anything after a dash to have another one of it."""
    kind = name.partition("-")[0]
    curves = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "k256": ec.SECP256K1}
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size={"rsa": 2048}.get(kind) or int(kind[3:]))


def pem(name: str) -> bytes:
    """The public half as a PEM block."""
    return (
        private(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def pem_of_private(name: str) -> bytes:
    """The key itself as a PEM block."""
    return private(name).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def jwk(name: str, kid: str | None = None, *, of_private: bool = False, **more: Any) -> dict[str, Any]:
    """The public half (or all of it) as a JWK."""
    kind = name.partition("-")[0]
    algorithm = {"p": "ES256", "k": "ES256", "e": "EdDSA", "r": "RS256"}[kind[0]]
    key = private(name) if of_private else private(name).public_key()
    found: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(key))
    found.pop("key_ops", None)
    return found | ({} if kid is None else {"kid": kid}) | more


def jwks(*keys: Any) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": keys}).encode()


def token(name: str, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    """A token of user 42, signed with that key."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode({"sub": "42", **claims}, private(name), algorithm=algorithm, headers=headers)
