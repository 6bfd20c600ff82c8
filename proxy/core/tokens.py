"""Bearer tokens that are JWTs, proven. The raw token is never kept."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, TypeGuard

import msgspec
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from proxy.core import jws
from proxy.core.bearer import bearer, token_hash
from proxy.core.errors import ConfigError
from proxy.core.identity import Identity, Proven, Rejected, Unproven
from proxy.core.keys import dig, user_id
from proxy.core.model import Reason
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import (
    MAX_TRIED,
    PUBLIC_ALGORITHMS,
    SECRET_ALGORITHMS,
    Key,
    KeySet,
    configured_keys,
)

__all__ = [
    "MAX_TOKEN",
    "Identity",
    "Proven",
    "Rejected",
    "Unproven",
    "Verifier",
    "bearer",
    "is_time",
    "token_hash",
    "unproven_claims",
]

MAX_TOKEN = 8192  # characters; looked at before anything is parsed
MAX_VERIFIED = 4096  # tokens remembered
MAX_TIME = 10**15  # a sum with it is still exact; JSON can write integers that no float can hold
# Seconds that a key server, the caches before it and its clock may be behind the tokens it issues.
PUBLISHED = 300.0

# RFC 8725 §3.5: a token that brings its own key, or the place of one, wants to be proven by it.
_KEY_HEADERS = frozenset({"jku", "jwk", "x5u"})
MAX_HEADERS = 256  # headers of tokens that are remembered: an issuer writes the same one again and again

_ANOTHER_KEY = Rejected(Reason.TOKEN_SIGNATURE)

_Header = tuple[str, str | None]  # alg and kid


class _CheckedSecret(HMACAlgorithm):
    """HMAC with a secret that was looked at once, at start, instead of with every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def sign(self, msg: bytes, key: bytes) -> bytes:
        # The same in one call: `hmac.new` makes two objects of it.
        return hmac.digest(key, msg, self.hash_alg)


_SECRETS = {
    "HS256": _CheckedSecret(HMACAlgorithm.SHA256),
    "HS384": _CheckedSecret(HMACAlgorithm.SHA384),
    "HS512": _CheckedSecret(HMACAlgorithm.SHA512),
}
_ALGORITHMS = {name: get_default_algorithms()[name] for name in PUBLIC_ALGORITHMS} | _SECRETS


def _nothing() -> None:
    """For keys that can't be fetched again."""


class Verifier:
    """Proves JWTs against the keys in use. Good ones are remembered by hash; bad ones never are.

    `on_unknown_kid` is called for a token whose key is not in a fetched set: it may be a new one. Raises
    ConfigError when the settings hold no good key, or name an algorithm that is not one of that kind of key.
    """

    def __init__(self, settings: TokenSettings, on_unknown_kid: Callable[[], None] = _nothing) -> None:
        # With only these at hand, `none` and a public key taken for a secret have no code that could accept
        # them (RFC 8725 §2.1, §3.1).
        possible = PUBLIC_ALGORITHMS if settings.secret is None else SECRET_ALGORITHMS
        unknown = sorted(set(settings.algorithms) - set(possible))
        if unknown or not settings.algorithms:
            known = ", ".join(possible)
            raise ConfigError((f"tokens.algorithms: {', '.join(unknown) or 'empty'}; possible are {known}",))
        self._settings = settings
        self._on_unknown_kid = on_unknown_kid
        self._algorithms = {name: _ALGORITHMS[name] for name in settings.algorithms}
        self._headers: dict[bytes, _Header] = {}
        self._keys = configured_keys(settings)
        self._verified: dict[str, Identity] = {}
        self.generation = 0
        """Times that the keys became others."""

    def __repr__(self) -> str:
        return f"Verifier({', '.join(self._settings.algorithms)}, {len(self._verified)} remembered)"

    def use(self, keys: KeySet) -> None:
        """Replaces the keys. Where they are others than before, no token is remembered any more."""
        if self._keys is None or self._keys.keys != keys.keys:
            self._verified.clear()
            self.generation += 1
        self._keys = keys

    @property
    def leeway(self) -> float:
        """Seconds that its times are good beyond their end, and before their beginning."""
        return self._settings.leeway

    def users(self) -> tuple[Callable[[KeySet], None], ...]:
        """What is told of new keys, for each block of the settings."""
        return (self.use,)

    def of(self, identity: Identity) -> Verifier:  # noqa: ARG002 - of several, one would be chosen by it
        """The one that proved it; see Issuers."""
        return self

    def has_keys(self, now: float) -> bool:
        """Whether there is any key to prove a token with."""
        return self._keys is not None and self._keys.usable(now)

    @property
    def keys_until(self) -> float:
        """Up to when (wall-clock seconds) the keys in use are not too old."""
        dead = None if self._keys is None else self._keys.dead
        return math.inf if dead is None else dead

    def verify(self, token: str, now: float) -> Proven:
        """Whose token it is, or why it is not good at `now`, or that nobody here knows. Never raises."""
        keys = self._keys
        if keys is None or not keys.usable(now):
            return Unproven()
        if len(token) > MAX_TOKEN:
            return Rejected(Reason.TOKEN_MALFORMED)
        digest = token_hash(token)
        known = self._verified.get(digest)
        identity = self._prove(token, digest, keys) if known is None else known
        if not isinstance(identity, Identity):
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

    def _prove(self, token: str, digest: str, keys: KeySet) -> Proven:
        """All but the time."""
        parts = jws.parts(token)
        if parts is None:
            return Rejected(Reason.TOKEN_MALFORMED)
        header = self._headers.get(parts.header) or self._header(parts.header)
        if isinstance(header, Rejected):
            return header
        claims = self._claims(parts, header, keys)
        if not isinstance(claims, dict):
            return claims
        fault = self._party_fault(claims)
        if fault is not None:
            return Rejected(fault)
        if any(name in claims and not is_time(claims[name]) for name in ("exp", "nbf", "iat")):
            return Rejected(Reason.TOKEN_MALFORMED)
        subject = user_id(dig(claims, self._settings.subject))
        if subject is None:
            return Rejected(Reason.TOKEN_SUBJECT)
        # Cut off, as the service may do it: a part of a second is no reason to be the last to accept it.
        exp = float(math.floor(claims["exp"])) if "exp" in claims else None
        spelling = jws.one_spelling(token, header[0])
        whole = digest if spelling == token else token_hash(spelling)
        return Identity(subject, MappingProxyType(claims), exp, whole)

    def _claims(
        self, parts: jws.Parts, header: _Header, keys: KeySet
    ) -> dict[str, Any] | Rejected | Unproven:
        """The signed claims: algorithm and signature are good (RFC 7519 §7.2)."""
        algorithm, kid = header
        named = keys.named(kid)
        candidates = [key for key in named or keys.nameless(kid) if algorithm in key.algorithms]
        for key in candidates[:MAX_TRIED]:
            claims = self._signed(parts, key, algorithm)
            if claims != _ANOTHER_KEY:
                return claims
        if len(candidates) > MAX_TRIED:
            return Unproven()
        if not named and keys.as_of is not None:
            return self._unknown(parts, kid, keys, keys.as_of)
        return _ANOTHER_KEY if candidates else Rejected(Reason.TOKEN_ALGORITHM)

    def _header(self, part: bytes) -> _Header | Rejected:
        """What the header names, if it names nothing that must not be there."""
        header = _json_part(part)
        # RFC 7515 §4.1.11: none of the extensions is understood here, an unencoded payload (b64) included.
        if header is None or "crit" in header or header.get("b64") is False:
            return Rejected(Reason.TOKEN_MALFORMED)
        kid, algorithm = header.get("kid"), header.get("alg")
        if "kid" in header and not isinstance(kid, str):
            return Rejected(Reason.TOKEN_MALFORMED)
        # RFC 7519 §5.2: `cty` says that the claims are a token again.
        if not _KEY_HEADERS.isdisjoint(header) or str(header.get("cty")).lower() == "jwt":
            return Rejected(Reason.TOKEN_HEADER)
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return Rejected(Reason.TOKEN_ALGORITHM)
        if len(self._headers) >= MAX_HEADERS:
            self._headers.clear()
        self._headers[part] = found = (algorithm, kid)
        return found

    def _signed(self, parts: jws.Parts, key: Key, algorithm: str) -> dict[str, Any] | Rejected:
        """The claims if this key signed them; the key was made for the algorithm."""
        payload, signature = jws.part_bytes(parts.payload), jws.part_bytes(parts.signature)
        if payload is None or signature is None:
            return Rejected(Reason.TOKEN_MALFORMED)
        if not self._algorithms[algorithm].verify(parts.signed, key.material, signature):
            return _ANOTHER_KEY
        claims = _json(payload)
        return Rejected(Reason.TOKEN_MALFORMED) if claims is None else claims

    def _unknown(self, parts: jws.Parts, kid: str | None, keys: KeySet, as_of: float) -> Rejected | Unproven:
        """The judgement where no key of a fetched set is the token's.

        A token that says it was made well before the set was read must have its key there, so it is bad. One
        that says otherwise may be signed with a new key; if it lies, it costs upstream a request.
        """
        if keys.leaves_out(kid):
            return Unproven()
        self._on_unknown_kid()
        issued = (_json_part(parts.payload) or {}).get("iat")
        return _ANOTHER_KEY if is_time(issued) and issued < as_of - PUBLISHED else Unproven()

    def _party_fault(self, claims: dict[str, Any]) -> Reason | None:
        issuer, audience = self._settings.issuer, self._settings.audience
        if issuer is not None and claims.get("iss") != issuer:
            return Reason.TOKEN_ISSUER
        if audience is None:
            # Not asked to check: a service that never looked at `aud` must not lose its callers here.
            return None
        named = claims.get("aud")
        listed = named if isinstance(named, list) else [named]
        sound = all(isinstance(one, str) for one in listed)
        return None if sound and audience in listed else Reason.TOKEN_AUDIENCE

    def _time_fault(self, identity: Identity, now: float) -> Reason | None:
        """RFC 7519 §4.1.4-6. PyJWT would read the clock itself, so the times are judged here."""
        leeway = self._settings.leeway
        if identity.exp is not None and identity.exp <= now - leeway:
            return Reason.TOKEN_EXPIRED
        latest = now + leeway
        if identity.claims.get("nbf", latest) > latest or identity.claims.get("iat", latest) > latest:
            return Reason.TOKEN_NOT_YET
        return None


def stands_for(token: str) -> str:
    """The hash that stands for a JWT and for all its other spellings, nothing proven of it."""
    header = _json_part(token.partition(".")[0].encode()) or {}
    return token_hash(jws.one_spelling(token, str(header.get("alg"))))


def unproven_claims(token: str) -> dict[str, Any] | None:
    """What a token says, nothing proven of it; None where it is no JWT, or too long for one."""
    parts = jws.parts(token) if len(token) <= MAX_TOKEN else None
    return None if parts is None else _json_part(parts.payload)


def _json_part(part: bytes) -> dict[str, Any] | None:
    """A part of a token as JSON, nothing proven of it."""
    text = jws.part_bytes(part)
    return None if text is None else _json(text)


def _json(text: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_time(value: object) -> TypeGuard[int | float]:
    """A number that seconds can be; JSON's true is none, though Python takes it for 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_TIME
