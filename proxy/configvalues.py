"""One setting's text → its value. Every reader raises ValueError with a sentence that says what to write.

The texts of URLs and secrets are never repeated: they may hold passwords.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from proxy.core.rolloutsettings import Mode
from proxy.core.settings import Address

T = TypeVar("T")

LONGEST = 366 * 86400.0
LARGEST = 1024**3
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "text")

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%)?")
_SIZE = re.compile(r"([0-9]{1,12})(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
_BYTES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def quoted(text: str) -> str:
    """The text as it can stand in a one-line message: escaped and cut."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not known."""
    words = list(known)
    close = get_close_matches(text, words, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(words)}" if words else "; none is known here"


def later(text: str, instead: str) -> str:
    """The sentence about something that exists in the design, but not yet."""
    return f"{quoted(text)} is not supported by this version; {instead}"


def one_of(what: str, known: Collection[str]) -> Callable[[str], str]:
    """A reader of one of the names that the file itself gives."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"unknown {what} {quoted(text)}{did_you_mean(text, known)}")
        return text

    return read


def text_value(text: str) -> str:
    """Any text that is not empty."""
    if not text:
        raise ValueError("is empty; give a value or leave it out")
    return text


def whole(low: int, high: int, example: int) -> Callable[[str], int]:
    """A reader of whole numbers within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"{quoted(text)} is not a whole number; give e.g. {example}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is out of bounds; give {low} to {high}")
        return number

    return read


def duration(text: str) -> float:
    """Seconds ≥ 0 out of `300s`, `10ms`, `5m`, `1h`, `1d`, or a plain number of seconds."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{quoted(text)} is not a duration; give e.g. 300s, 10ms or 5m")
    seconds = float(found[1]) * _SECONDS[found[2] or "s"]
    if seconds > LONGEST:
        raise ValueError(f"{quoted(text)} is too long; give at most 366d")
    return seconds


def timeout(text: str) -> float:
    """A duration above 0."""
    seconds = duration(text)
    if not seconds:
        raise ValueError(f"{quoted(text)} leaves no time at all; give e.g. 5s")
    return seconds


def size(text: str) -> int:
    """Bytes > 0 out of `256KiB`, `1MiB`, `10kB`, or a plain number of bytes."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{quoted(text)} is not a size; give e.g. 256KiB or 1MiB")
    count = int(found[1]) * _BYTES[found[2] or "B"]
    if not 0 < count <= LARGEST:
        raise ValueError(f"{quoted(text)} is out of bounds; give more than 0 and at most 1GiB")
    return count


def choice(*known: str) -> Callable[[str], str]:
    """A reader of one word out of a few."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(known)}")
        return text

    return read


def switch(text: str) -> bool:
    """`on` or `off`."""
    return choice("on", "off")(text) == "on"


def share(text: str) -> float:
    """A part of all, 0 to 1, out of `5%`, `0.05` or `0`."""
    found = _SHARE.fullmatch(text)
    part = float(found[1]) / (100 if found[2] else 1) if found else 2.0
    if part > 1:
        raise ValueError(f"{quoted(text)} is not a share; give 0% to 100%, e.g. 1%")
    return part


def mode(text: str) -> Mode:
    """`serve`, `shadow` or `off`."""
    return Mode(choice(*Mode)(text))


def dotted(text: str) -> tuple[str, ...]:
    """A dotted path to a JSON member, as member names."""
    names = tuple(text.split("."))
    if not all(names):
        raise ValueError(f"{quoted(text)} is not a dotted path; give e.g. data.id")
    return names


def address(text: str) -> Address:
    """A host and a port to listen on: `0.0.0.0:8080`, `[::1]:9090`, `localhost:8080`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not (_is_ip(host, 6) if bracketed else _is_ip(host, 4) or _HOST.fullmatch(host)):
        raise ValueError(f"{quoted(text)} is not an address; give host:port, e.g. 127.0.0.1:8080")
    try:
        return Address(host=host, port=whole(0, 65535, 8080)(port))
    except ValueError as error:
        raise ValueError(f"the port of {quoted(text)}: {error}") from None


def is_loopback(place: Address) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(place.host).is_loopback
    except ValueError:
        return place.host.lower() == "localhost"


def upstream_url(text: str) -> str:
    """`http://host[:port]`, `https://host[:port]` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.startswith("//") or "\0" in path:
            raise ValueError("not a socket's path; give unix:/path, e.g. unix:/run/users.sock")
        return text
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a URL of an upstream; give http://host:port, https://host:port or unix:/path")
    if "@" in parts.netloc:
        raise ValueError("holds a user name; give http://host:port without it")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("holds more than host and port; requests keep their own path, give http://host:port")
    return f"{parts.scheme}://{parts.netloc}"


def redis_url(text: str) -> str:
    """`redis://`, `rediss://`, `unix://`, `redis+cluster://h:p,h:p`, `redis+sentinel://h:p,h:p/service`."""
    scheme, _, rest = text.partition("://")
    if scheme in ("redis+cluster", "redis+sentinel"):
        return _several(text, scheme, rest)
    parts = _split(text)
    if parts.scheme == "unix" and text.startswith("unix://") and parts.path.startswith("/"):
        return text
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("not a URL of Redis; give redis://host:6379/0, rediss://… or unix:///path")
    if not re.fullmatch(r"/?[0-9]{0,5}", parts.path):
        raise ValueError("the database is not a number; give redis://host:6379/0")
    return text


def _several(text: str, scheme: str, rest: str) -> str:
    servers, _, name = rest.partition("/")
    places = servers.rpartition("@")[2].split(",")
    if not all(re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/\s]+):[0-9]{1,5}", place) for place in places):
        raise ValueError(f"each server is host:port; give {scheme}://host:6379,host:6379")
    if scheme == "redis+sentinel" and not name:
        raise ValueError("the master's name is missing; give redis+sentinel://host:26379,host:26379/name")
    if scheme == "redis+cluster" and name:
        raise ValueError("a Cluster has one database; give redis+cluster://host:6379,host:6379")
    return text


def header_token(text: str) -> str:
    """A token that a header can carry (RFC 6750 §2.1)."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds blanks or characters that a header cannot; give letters and digits")
    return text


def _split(text: str) -> SplitResult:
    if not text.isprintable() or " " in text:
        raise ValueError("not a URL: it holds blanks or control characters")
    try:
        parts = urlsplit(text)
        # Checked lazily, on access; port 0 cannot be connected to.
        sound = parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("not a URL: its host or port is not one; give a port of 1 to 65535")
    return parts


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
