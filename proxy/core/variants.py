"""Which of several answers of a URL a request selects: Vary, with values in one spelling (RFC 9111 §4.1)."""

from __future__ import annotations

import re
from hashlib import blake2b

from proxy.core.headers import Headers

# Members of unequal preference; their order, case and blanks mean nothing.
_PREFERENCES = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})
_MEMBERS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\Z))+', re.DOTALL)
_WEIGHT = re.compile(r"[Qq]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
MOST = 16  # names; an answer that varies on more is not worth keeping


def members(value: str | None) -> set[str]:
    """The lower-case members of a list field (RFC 9110 §5.6.1), empty ones left out."""
    return {member.strip(" \t").lower() for member in (value or "").split(",")} - {""}


def selecting(reply: Headers) -> tuple[str, ...] | None:
    """The names that an answer varies on, sorted; None where no request can select it.

    A coded answer that does not say so varies on Accept-Encoding all the same: not everybody can read it.
    """
    names = members(reply.joined("vary"))
    if members(reply.joined("content-encoding")) - {"identity"}:
        names |= {"accept-encoding"}
    if "*" in names or len(names) > MOST:
        return None
    return tuple(sorted(names))


def variant(request: Headers, names: tuple[str, ...]) -> str:
    """Names the variant that a request selects: equal for requests that upstream can't tell apart."""
    digest = blake2b(digest_size=12)
    for name in names:
        value = normalised(name, request)
        for text in (name.encode("latin-1"), b"-" if value is None else b"+" + value.encode("latin-1")):
            digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()


def normalised(name: str, request: Headers) -> str | None:
    """The one spelling of a field: lines combined, no blanks around commas; None without the field."""
    value = request.joined(name)
    if value is None:
        return None
    found = [member.strip(" \t") for member in _MEMBERS.findall(value)]
    found = [member for member in found if member]
    return ",".join(_by_preference(found) if name in _PREFERENCES else found)


def _by_preference(found: list[str]) -> list[str]:
    """Members by weight, then by name: among equals upstream may choose as it likes (RFC 9110 §12.5)."""
    weighed: list[tuple[float, str]] = []
    for member in found:
        text, weight = _without_blanks(member.lower()), 1.0
        head, semicolon, last = text.rpartition(";")
        given = _WEIGHT.fullmatch(last) if semicolon else None
        if given is not None:
            text, weight = head, float(given[1])
        weighed.append((-weight, text))
    return [f"{text};q={-weight:g}" for weight, text in sorted(weighed)]


def _without_blanks(text: str) -> str:
    return text if '"' in text else text.replace(" ", "").replace("\t", "")
