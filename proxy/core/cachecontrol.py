"""Reading Cache-Control, Pragma and HTTP dates. Garbage is tolerated and read the careful way."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from proxy.core.headers import Headers

LARGEST = 2**31  # RFC 9111 §1.2.2: what larger numbers of seconds are taken for; also "any max-stale"

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\Z))+', re.DOTALL)
_CLOSED = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# Of two contradicting arguments, the one that serves less from cache is kept.
_SMALLEST = frozenset({"max-age", "s-maxage", "max-stale", "stale-while-revalidate", "stale-if-error"})
_LARGEST = frozenset({"min-fresh"})


def delta_seconds(text: str | None) -> int | None:
    """Whole seconds, digits only, capped at 2^31; None for anything else (RFC 9111 §1.2.2)."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    # Capped before the conversion: Python refuses to read a number of thousands of digits.
    digits = text.lstrip("0") or "0"
    return LARGEST if len(digits) > 10 else min(int(digits), LARGEST)


def parse(value: str | None) -> dict[str, str | None]:
    """Directives of a joined Cache-Control value: lower-case name to unquoted argument, or None without one.

    RFC 9111 §5.2. Of duplicates the more careful number is kept (§4.2.1), else the first.
    """
    found: dict[str, str | None] = {}
    if not value:
        return found
    for element in _elements(value):
        name, equals, argument = element.partition("=")
        name = name.strip(" \t").lower()
        if not name:
            continue
        read = _unquoted(argument.strip(" \t")) if equals else None
        found[name] = _careful(name, found[name], read) if name in found else read
    return found


def _elements(value: str) -> list[str]:
    if '"' not in value:
        return value.split(",")
    elements: list[str] = _ELEMENT.findall(value)
    if _CLOSED.fullmatch(value) is None:
        # A quote that never ends must not hide the directives behind it.
        elements += value.split(",")
    return elements


def _unquoted(argument: str) -> str:
    if len(argument) >= 2 and argument[0] == argument[-1] == '"':
        return _ESCAPED.sub(r"\1", argument[1:-1])
    return argument


def _careful(name: str, first: str | None, second: str | None) -> str | None:
    if name not in _SMALLEST and name not in _LARGEST:
        return first
    if name == "max-stale" and (first is None or second is None):
        # Without an argument it allows anything; with one, less.
        return second if first is None else first
    one, two = delta_seconds(first), delta_seconds(second)
    if one is None or two is None:
        return first if one is None else second
    return first if (one >= two if name in _LARGEST else one <= two) else second


class RequestDirectives(msgspec.Struct, frozen=True):
    """What a request asks of caches (RFC 9111 §5.2.1). Seconds; `max_stale` is `LARGEST` for "any"."""

    no_store: bool = False
    no_cache: bool = False
    max_age: int | None = None
    max_stale: int | None = None
    min_fresh: int | None = None
    only_if_cached: bool = False


NO_DIRECTIVES = RequestDirectives()
_NO_CACHE = RequestDirectives(no_cache=True)


def request_directives(headers: Headers) -> RequestDirectives:
    """The request's directives; the shared `NO_DIRECTIVES` where there are none.

    `Pragma: no-cache` counts only without Cache-Control (RFC 9111 §5.4). A max-age that is no number is
    read as 0; an unreadable max-stale or min-fresh is ignored.
    """
    value = headers.joined("cache-control")
    if value is None:
        pragma = headers.joined("pragma")
        return _NO_CACHE if pragma is not None and "no-cache" in parse(pragma) else NO_DIRECTIVES
    found = parse(value)
    if not found:
        return NO_DIRECTIVES
    max_stale = None
    if "max-stale" in found:
        max_stale = LARGEST if found["max-stale"] is None else delta_seconds(found["max-stale"])
    asked = RequestDirectives(
        no_store="no-store" in found,
        no_cache="no-cache" in found,
        max_age=(delta_seconds(found["max-age"]) or 0) if "max-age" in found else None,
        max_stale=max_stale,
        min_fresh=delta_seconds(found.get("min-fresh")),
        only_if_cached="only-if-cached" in found,
    )
    # Extensions alone ask for nothing.
    return NO_DIRECTIVES if asked == NO_DIRECTIVES else asked


_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_SHORT_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_DATES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"{_SHORT_DAY}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"{_LONG_DAY}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",  # RFC 850
        rf"{_SHORT_DAY} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",  # asctime
    )
)


def http_date(text: str | None) -> float | None:
    """Wall-clock seconds of an HTTP-date in any of its three formats, or None (RFC 9110 §5.6.7).

    A cache reads them without regard to case (RFC 9111 §4.2).
    Two-digit years follow POSIX (69-99 are 19xx): the RFC's "50 years ahead" needs a clock, and where the
    two differ the older date is the careful one.
    """
    if not text:
        return None
    for pattern in _DATES:
        match = pattern.fullmatch(text.strip(" \t"))
        if match is not None:
            break
    else:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 69 else 2000
    second = int(match["second"])
    if second > 60:
        return None
    try:
        moment = datetime(
            year,
            _MONTHS[match["month"].capitalize()],
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(second, 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    # A leap second has no datetime of its own.
    return moment.timestamp() + (1 if second == 60 else 0)
