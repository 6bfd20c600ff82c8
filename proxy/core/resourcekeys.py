"""How a resource is named: the unit that a write drops, and the slot of one URL's answer in it.

A unit is a path and a query, however they are spelled; it is kept like a user is, under an id that no user
can have. A slot is the host and the exact spelling, so that nobody is answered with what another URL is.
"""

from __future__ import annotations

from hashlib import blake2b
from urllib.parse import urljoin, urlsplit

from proxy.core.headers import Headers
from proxy.core.model import Ref
from proxy.core.spelling import paths

# The first character of a unit's id: a control character, which no user's id holds.
SIGN = "\x1f"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_resource(unit: str) -> bool:
    """Whether what is kept under this id is a resource, not a user."""
    return unit.startswith(SIGN)


def resource_ref(target: str, headers: Headers) -> Ref:
    """Where the answer to a GET of this target is kept, or what it varies on."""
    host = (headers.get("host") or "").lower()
    return Ref("id", units(target)[0], f"r#{_digest(host, target)}")


def variant_ref(ref: Ref, variant: str) -> Ref:
    """Where one variant of it is kept."""
    return Ref(ref.key, ref.value, f"{ref.slot}.{variant}")


def units(target: str) -> list[str]:
    """The units that a target may mean, the likeliest first: servers read some spellings differently."""
    query = target.partition("#")[0].partition("?")[2]
    return list(dict.fromkeys(SIGN + _digest(*path, query) for path in paths(target)))


def invalidated(target: str, request: Headers, reply: Headers, authority: str) -> list[str]:
    """The units that a successful write on a target drops (RFC 9111 §4.4).

    Besides the target: its path without a query, and what Location and Content-Location of the same origin
    name. The same origin is the host that the client asked for, or `authority`, upstream's own.
    """
    found = [*units(target), *units(target.partition("?")[0])]
    host = (request.get("host") or "").lower()
    mine = {host, authority.lower()}
    for name in ("location", "content-location"):
        for line in reply.get_all(name):
            other = _same_origin(target, line, mine)
            if other is not None:
                found += units(other)
    return list(dict.fromkeys(found))


def _same_origin(target: str, reference: str, hosts: set[str]) -> str | None:
    try:
        parts = urlsplit(urljoin(f"http://-{target}", reference.strip(" \t")))
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS:
        return None
    host = parts.netloc.lower()
    names = {host, host.removesuffix(_DEFAULT_PORTS[parts.scheme])}
    if host != "-" and names.isdisjoint(hosts):
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()
