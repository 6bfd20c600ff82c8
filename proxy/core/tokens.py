"""Bearer tokens: read from a request, proven (JWT, shared secret), hashed. The raw token is never kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from proxy.core.errors import ConfigError
from proxy.core.headers import Headers
from proxy.core.keys import dig, user_id
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings

MAX_TOKEN = 8192  # characters; looked at before anything is parsed
MAX_VERIFIED = 4096  # tokens remembered
MAX_TIME = 10**15  # a sum with it is still exact; JSON can write integers that no float can hold

_BEARER = re.compile(r"bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])(.*)", re.IGNORECASE | re.DOTALL)
_B64TOKEN = re.compile(r" +([A-Za-z0-9\-._~+/]+=*)")  # RFC 6750 §2.1
_JWS = re.compile(r"[\w-]+=*\.[\w-]+=*\.[\w-]+=*", re.ASCII)  # RFC 7515 §3.1; five parts are a JWE

# Shared-secret algorithms only: with no other in the registry, `none` and a public key taken for a secret
# have no code that could accept them (RFC 8725 §2.1, §3.1).
_HASHES = {
    "HS256": HMACAlgorithm.SHA256,
    "HS384": HMACAlgorithm.SHA384,
    "HS512": HMACAlgorithm.SHA512,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good token proves. `exp` is wall-clock seconds, None for a token that does not end."""

    user_id: str
    claims: Mapping[str, Any] = field(repr=False, hash=False)
    exp: float | None
    token_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The token is provably not good, and why."""

    reason: Reason


def bearer(headers: Headers) -> str | Rejected | None:
    """The request's bearer token; None where it has none (no Authorization, or another scheme).

    Rejected(TOKEN_MALFORMED) for more than one Authorization line, or a Bearer line without one well-formed
    b64token (RFC 6750 §2.1): upstream might read such a request as anybody's.
    """
    lines = headers.get_all("authorization")
    if not lines:
        return None
    if len(lines) > 1:
        return Rejected(Reason.TOKEN_MALFORMED)
    scheme = _BEARER.fullmatch(lines[0].strip(" \t"))
    if scheme is None:
        return None
    token = _B64TOKEN.fullmatch(scheme[1])
    return Rejected(Reason.TOKEN_MALFORMED) if token is None else token[1]


def token_hash(token: str) -> str:
    """SHA-256 of the token, 64 hex digits: what stands for it in keys and memory."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class _CheckedSecret(HMACAlgorithm):
    """HMAC with a secret that was looked at once, at start, instead of with every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - the base class's signature
        # The secret is the legacy service's: a warning per token would change nothing.
        return None


class Verifier:
    """Proves JWTs against one shared secret. Good ones are remembered by hash; bad ones never are.

    Raises ConfigError when the settings name no or another algorithm than HS256, HS384, HS512, or a secret
    that is empty or is itself a public key.
    """

    def __init__(self, settings: TokenSettings) -> None:
        unknown = sorted(set(settings.algorithms) - _HASHES.keys())
        if unknown or not settings.algorithms:
            known = ", ".join(_HASHES)
            raise ConfigError((f"tokens.algorithms: {', '.join(unknown) or 'empty'}; possible are {known}",))
        try:
            self._secret = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(settings.secret)
        except jwt.InvalidKeyError:
            raise ConfigError(("tokens: the secret is empty, or is a key and not a secret",)) from None
        self._settings = settings
        self._jws = jwt.PyJWS(algorithms=[])
        for name in settings.algorithms:
            if name not in self._jws.get_algorithms():
                self._jws.register_algorithm(name, _CheckedSecret(_HASHES[name]))
        self._verified: dict[str, Identity] = {}

    def __repr__(self) -> str:
        return f"Verifier({', '.join(self._settings.algorithms)}, {len(self._verified)} remembered)"

    def verify(self, token: str, now: float) -> Identity | Rejected:
        """Whose token it is, or why it is not good at `now`. Never raises."""
        if len(token) > MAX_TOKEN:
            return Rejected(Reason.TOKEN_MALFORMED)
        digest = token_hash(token)
        known = self._verified.get(digest)
        identity = self._prove(token, digest) if known is None else known
        if isinstance(identity, Rejected):
            return identity
        fault = self._time_fault(identity, now)
        if fault is not None:
            self._verified.pop(digest, None)
            return Rejected(fault)
        if known is None:
            if len(self._verified) >= MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = identity
        return identity

    def _prove(self, token: str, digest: str) -> Identity | Rejected:
        """All but the time."""
        claims = self._claims(token)
        if isinstance(claims, Rejected):
            return claims
        fault = self._party_fault(claims)
        if fault is not None:
            return Rejected(fault)
        if any(name in claims and not _is_time(claims[name]) for name in ("exp", "nbf", "iat")):
            return Rejected(Reason.TOKEN_MALFORMED)
        subject = user_id(dig(claims, self._settings.subject))
        if subject is None:
            return Rejected(Reason.TOKEN_SUBJECT)
        exp = float(claims["exp"]) if "exp" in claims else None
        return Identity(subject, MappingProxyType(claims), exp, digest)

    def _claims(self, token: str) -> dict[str, Any] | Rejected:
        """The signed claims: parts, header, algorithm and signature are good (RFC 7519 §7.2)."""
        if _JWS.fullmatch(token) is None:
            return Rejected(Reason.TOKEN_MALFORMED)
        try:
            parts = self._jws.decode_complete(token, self._secret, algorithms=self._settings.algorithms)
        except jwt.InvalidAlgorithmError:
            return Rejected(Reason.TOKEN_ALGORITHM)
        except jwt.InvalidSignatureError:
            return Rejected(Reason.TOKEN_SIGNATURE)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return Rejected(Reason.TOKEN_MALFORMED)
        if "crit" in parts["header"]:
            # RFC 7515 §4.1.11: none of the extensions is understood here, PyJWT's b64 included.
            return Rejected(Reason.TOKEN_MALFORMED)
        try:
            return msgspec.json.decode(parts["payload"], type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Rejected(Reason.TOKEN_MALFORMED)

    def _party_fault(self, claims: dict[str, Any]) -> Reason | None:
        issuer, audience = self._settings.issuer, self._settings.audience
        if issuer is not None and claims.get("iss") != issuer:
            return Reason.TOKEN_ISSUER
        if audience is None:
            # Not asked to check: a service that never looked at `aud` must not lose its callers here.
            return None
        named = claims.get("aud")
        listed = named if isinstance(named, list) else [named]
        return None if audience in listed else Reason.TOKEN_AUDIENCE

    def _time_fault(self, identity: Identity, now: float) -> Reason | None:
        """RFC 7519 §4.1.4-6. PyJWT would read the clock itself, so the times are judged here."""
        leeway = self._settings.leeway
        if identity.exp is not None and identity.exp <= now - leeway:
            return Reason.TOKEN_EXPIRED
        latest = now + leeway
        if identity.claims.get("nbf", latest) > latest or identity.claims.get("iat", latest) > latest:
            return Reason.TOKEN_NOT_YET
        return None


def _is_time(value: object) -> bool:
    """A number that seconds can be; JSON's true is none, though Python takes it for 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_TIME
