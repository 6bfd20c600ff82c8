"""The lines of a request that say who is asking, whatever they mean."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from proxy.core.headers import Headers

ALWAYS = ("authorization", "cookie")

# RFC 9449 (DPoP), RFC 9421 (HTTP message signatures).
_PROOFS_OF_ONE = ("dpop", "signature", "signature-input")
_SCHEMES_OF_ONE = frozenset(
    {
        *("digest", "dpop", "gnap", "hawk", "hmac", "mutual", "negotiate", "ntlm", "oauth"),
        *("scram-sha-1", "scram-sha-256", "signature"),
    }
)

# Shorter ones occur by chance.
SHORTEST = 8


def has_credentials(headers: Headers, more: Iterable[str] = ()) -> bool:
    """Whether the request says who is asking: `Authorization`, `Cookie` or a header of `more`, even empty."""
    return any(name in headers for name in (*ALWAYS, *more))


def fleeting(headers: Headers) -> bool:
    """Whether the request proves who is asking in a way that is good for it alone, or for its connection.

    Who hears it must not be able to say it again.
    """
    if any(name in headers for name in _PROOFS_OF_ONE):
        return True
    schemes = (line.strip(" \t").partition(" ")[0].lower() for line in headers.get_all("authorization"))
    return any(scheme in _SCHEMES_OF_ONE or scheme.startswith("aws4-") for scheme in schemes)


def fingerprint(headers: Headers, more: Iterable[str] = (), *, secret: bytes = b"") -> str:
    """Stands for all credentials of a request; "" for a request without any."""
    parts = [(name, line) for name in (*ALWAYS, *more) for line in headers.get_all(name)]
    return digest(b"caller", (text for pair in parts for text in pair), secret) if parts else ""


def digest(what: bytes, parts: Iterable[str], secret: bytes = b"") -> str:
    """Stands for these texts, 64 hex digits: only for equal ones in equal order, as each is hashed with its
    length. With a `secret` it is an HMAC, so that nobody who can read Redis can guess a short password."""
    made = hmac.new(secret, what, sha256) if secret else sha256(what)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        made.update(b"%d:" % len(raw))
        made.update(raw)
    return made.hexdigest()


def reflected(headers: Headers, more: Iterable[str], *texts: bytes) -> bool:
    """Whether an answer (`texts`: body, header values) holds what the caller proved themselves with.

    Such an answer is about this caller, whatever it says of itself.
    """
    secrets = {line for name in ("cookie", *more) for line in headers.get_all(name)}
    # `Bearer x` or `Basic x`: services repeat the x.
    secrets |= {word for line in headers.get_all("authorization") for word in line.split(" ")[1:]}
    needles = [one.encode("utf-8", "surrogatepass") for one in secrets if len(one) >= SHORTEST]
    return any(needle in text for needle in needles for text in texts)
