"""Access tokens: signed JWTs, and the list of those that were logged out."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from upstream_stub.options import Algorithm
from upstream_stub.user import User

ISSUER: Final = "users-api"
_SCOPES = {"admin": "users:read users:write users:admin", "user": "users:read profile:write"}


class BadToken(Exception):
    """The token proves nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token with a good signature says. `token_id` is its jti, or its hash where it has none."""

    user_id: int
    token_id: str
    expires_at: int
    issued_at: int | None
    scope: str


class Signer:
    """Issues tokens and proves them. It knows keys and the clock, not users and not the database."""

    def __init__(self, secret: str, algorithm: Algorithm, lifetime: float) -> None:
        self.algorithm = algorithm
        self.lifetime = int(lifetime)
        self._secret = secret
        self._rsa_made = False

    @cached_property
    def _rsa(self) -> rsa.RSAPrivateKey:
        # Making one takes a tenth of a second, so it waits until somebody needs it.
        self._rsa_made = True
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public key, as a JSON Web Key (RFC 7517)."""
        numbers = self._rsa.public_key().public_numbers()
        modulus = _base64url(numbers.n)
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": hashlib.sha256(modulus.encode()).hexdigest()[:16],
            "n": modulus,
            "e": _base64url(numbers.e),
        }

    def issue(self, user: User, algorithm: Algorithm | None = None) -> str:
        """A token for the user, good from now on."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": str(user.id),
            "username": user.username,
            "role": user.role,
            "scope": scope_of(user),
            "iat": now,
            "exp": now + self.lifetime,
            # Not from the seed: a restart on the same file would repeat, and so revive or kill, older tokens.
            "jti": secrets.token_hex(16),
        }
        if (algorithm or self.algorithm) == "RS256":
            return jwt.encode(claims, self._rsa, "RS256", headers={"kid": self.jwk["kid"]})
        return jwt.encode(claims, self._secret, "HS256")

    def read(self, token: str) -> Claims:
        """The claims of a token that is signed and in its time, or `BadToken`."""
        try:
            algorithm = str(jwt.get_unverified_header(token).get("alg"))
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(algorithm),
                # Only the algorithm the key was chosen for: a public key must never be an HMAC secret.
                algorithms=[algorithm],
                options={"require": ["exp", "sub"]},
            )
            return Claims(
                user_id=int(claims["sub"]),
                token_id=str(claims.get("jti") or hashlib.sha256(token.encode()).hexdigest()),
                expires_at=int(claims["exp"]),
                issued_at=int(claims["iat"]) if "iat" in claims else None,
                scope=str(claims.get("scope", "")),
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            raise BadToken(str(error)) from error

    def _key(self, algorithm: str) -> str | rsa.RSAPublicKey:
        if algorithm == "HS256":
            return self._secret
        # With no key made yet, no token can have been signed with it.
        if algorithm == "RS256" and self._rsa_made:
            return self._rsa.public_key()
        raise BadToken("the algorithm is not one of ours")


def scope_of(user: User) -> str:
    """What a user may do, in the words of OAuth."""
    return _SCOPES[user.role]


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
