"""Cache directives for this cache alone: Surrogate-Control, CDN-Cache-Control and their kin (RFC 9213)."""

from __future__ import annotations

import re

from proxy.core.cachecontrol import parse
from proxy.core.headers import Headers

SURROGATE = "surrogate-control"
# W3C Edge Architecture §2.2: by this name upstream may address this cache.
DEVICE = "user-cache-proxy"
CAPABILITY = (b"Surrogate-Capability", b'user-cache-proxy="Surrogate/1.0"')

# A structured dictionary (RFC 8941 §3.2) of bare items; what these can't say, no directive needs.
_ITEM = (
    r'(?:-?\d{1,15}(?:\.\d{1,3})?|"(?:[^"\\\x00-\x1f\x7f-\xff]|\\["\\])*"'
    r"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01])"
)
_KEY = r"[a-z*][a-z0-9_.*-]*"
_MEMBER = re.compile(
    rf"[ \t]*(?P<key>{_KEY})(?:=(?P<item>{_ITEM}))?(?P<parameters>(?:;[ ]*{_KEY}(?:={_ITEM})?)*)[ \t]*",
    re.ASCII,
)
_SECONDS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


def directives(reply: Headers, fields: tuple[str, ...]) -> tuple[dict[str, str | None], bool]:
    """The directives that count for this cache, and whether they came in one of the targeted `fields`.

    The first field that is there and can be read stands in for Cache-Control and Expires (RFC 9213 §2.2).
    """
    for name in fields:
        value = reply.joined(name)
        if value is None:
            continue
        found = _surrogate(value) if name == SURROGATE else _structured(value)
        if found:
            return found, True
    return parse(reply.joined("cache-control")), False


def _structured(value: str) -> dict[str, str | None] | None:
    """The directives of a structured dictionary; None for one that is not well-formed."""
    found: dict[str, str | None] = {}
    position = 0
    while True:
        match = _MEMBER.match(value, position)
        if match is None:
            return None
        key, item = match["key"], match["item"]
        found.pop(key, None)
        if key in _SECONDS and not (item or "").isdigit():
            return None
        if item is None or item == "?1":
            found[key] = None
        elif item != "?0":
            found[key] = item.strip('"')
        position = match.end()
        if position == len(value):
            return found
        if value[position] != ",":
            return None
        position += 1


def _surrogate(value: str) -> dict[str, str | None]:
    """Surrogate-Control: directives for any surrogate, or better, those addressed to this one.

    `max-age=3600+60` is fresh for 3600 and of use while stale for 60 more seconds.
    """
    common: list[str] = []
    mine: list[str] = []
    for element in value.split(","):
        text, semicolon, device = element.partition(";")
        if not semicolon:
            common.append(text)
        elif device.strip(" \t") == DEVICE:
            mine.append(text)
    found = parse(", ".join(common)) | parse(", ".join(mine))
    age, plus, stale = (found.get("max-age") or "").partition("+")
    if plus:
        found |= {"max-age": age, "stale-while-revalidate": stale}
    return {name: argument for name, argument in found.items() if name != "content"}
