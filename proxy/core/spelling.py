"""What a raw piece of a request target spells: exactly (reads), or in any way upstream may read it (writes).

Exact means minimal RFC 3986 spelling: other spellings of one path are other requests to upstream, so only
the exact one is answered from the cache. Any means that no write that upstream understood is overlooked.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from proxy.core.settings import VarType

MAX_LIST = 1000
# No service reads more as a number; also bounds the work on a hostile target.
_MAX_DIGITS = 1000

Value = str | tuple[str, ...]

INT = r"(?:0|[1-9][0-9]{0,18})"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# RFC 3986 §3.3 pchar without ';', which some servers cut off as a path parameter.
SEGMENT = r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@]++|%[0-9A-Fa-f]{2})++"
PATH = rf"{SEGMENT}(?:/{SEGMENT})*"
# In a query '&' separates.
_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,=:@]++|%[0-9A-Fa-f]{2})++")
_INT = re.compile(INT)
_UUID = re.compile(UUID)
_UUID_ANY_CASE = re.compile(UUID, re.IGNORECASE | re.ASCII)

# Escapes of what needs none (RFC 3986 §2.3 unreserved), of separators, and of control characters.
_FORBIDDEN_ESCAPE = re.compile(r"%(?:2[dDeEfF]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[cCfF]|7[eEfF]|[01].)")
_C1 = re.compile(r"[\x80-\x9f]")

PATTERNS: dict[VarType, str] = {
    VarType.INT: INT,
    VarType.UUID: UUID,
    VarType.SEGMENT: SEGMENT,
    VarType.LIST: SEGMENT,
    VarType.PATH: PATH,
}


def exact(kind: VarType, raw: str) -> Value | None:
    """The value of a path variable whose raw text matches the pattern of its type, or None."""
    if kind is VarType.INT or kind is VarType.UUID:
        return raw
    if kind is VarType.SEGMENT:
        return _exact_text(raw)
    if kind is VarType.LIST:
        return _exact_list(raw)
    parts = [_exact_text(part) for part in raw.split("/")]
    return None if None in parts else "/".join(part for part in parts if part is not None)


def exact_query(kind: VarType, raw: str) -> Value | None:
    """The value of a query variable (form-encoded: '+' is a space), or None."""
    if not _QUERY.fullmatch(raw):
        return None
    if kind is VarType.INT:
        return raw if _INT.fullmatch(raw) else None
    if kind is VarType.UUID:
        return raw if _UUID.fullmatch(raw) else None
    return exact(kind, raw.replace("+", "%20"))


def _exact_text(raw: str) -> str | None:
    if "%" not in raw:
        return None if raw in (".", "..") else raw
    if _FORBIDDEN_ESCAPE.search(raw):
        return None
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    return None if _C1.search(text) else text


def _exact_list(raw: str) -> tuple[str, ...] | None:
    if raw.count(",") >= MAX_LIST:
        return None
    found = []
    for item in raw.split(","):
        text = _exact_text(item) if item else None
        # An escaped comma may or may not separate, depending on when upstream decodes.
        if text is None or "," in text:
            return None
        found.append(text)
    return tuple(found)


def decoded(raw: str) -> str:
    """Percent-decoded text. Bytes that are no UTF-8 become lone surrogates, which no key may hold."""
    if "%" not in raw and raw.isascii():
        return raw
    return unquote_to_bytes(raw.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape")


def paths(target: str) -> list[tuple[str, ...]]:
    """The decoded, non-empty segments of a target's path, in each way that servers are known to read it.

    They differ in whether the path is split before decoding or after, whether dot segments are resolved and
    whether path parameters (`;…`) and backslashes count. Most targets have one reading.
    """
    path = re.split("[?#]", target, maxsplit=1)[0]
    if not path.startswith("/"):
        rest = path.partition("://")[2]
        if not rest:
            return []
        # RFC 9112 §3.2.2: servers accept the absolute form.
        path = "/" + rest.partition("/")[2]
    plain = tuple(decoded(raw) for raw in path.split("/") if raw)
    if not any(sign in path for sign in ("%", ";", "\\", "/.")):
        return [plain]
    whole = tuple(text for text in decoded(path).split("/") if text)
    bare = decoded(re.sub(r";[^/]*", "", path)).replace("\\", "/")
    readings = [plain, whole, _resolved(whole), _resolved(text for text in bare.split("/") if text)]
    return list(dict.fromkeys(readings))


def _resolved(segments: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment != ".":
            found.append(segment)
    return tuple(found)


def query(target: str) -> dict[str, set[str | None]]:
    """The decoded query parameters of a target, every value of each. None: a value whose end is unclear."""
    found: dict[str, set[str | None]] = {}
    for pair in target.partition("#")[0].partition("?")[2].replace("+", " ").split("&"):
        # Some servers also separate at ';' (CVE-2021-23336).
        pieces = pair.split(";")
        for piece in pieces:
            name, _, value = piece.partition("=")
            found.setdefault(decoded(name), set()).add(decoded(value) if len(pieces) == 1 else None)
    return found


def loose(kind: VarType, text: str, *, names_id: bool) -> tuple[bool, Value | None]:
    """Whether decoded text may be a value of a variable, and which. None: it may be, but of whom is unclear.

    `042` is user 42 to one service and the name "042" to another; the write is then one on somebody unknown.
    """
    match kind:
        case VarType.INT:
            return _loose_int(text)
        case VarType.UUID:
            return _loose_uuid(text)
        case VarType.LIST:
            items = tuple(item for item in text.split(",") if item)
            clear = len(items) <= MAX_LIST and not (names_id and any(map(_is_unclear_id, items)))
            return bool(items), items if clear else None
        case VarType.SEGMENT | VarType.PATH:
            return bool(text), None if names_id and _is_unclear_id(text) else text


def _is_unclear_id(text: str) -> bool:
    return any(fits and value != text for fits, value in (_loose_int(text), _loose_uuid(text)))


def _loose_int(text: str) -> tuple[bool, str | None]:
    if _INT.fullmatch(text):
        return True, text
    if len(text) > _MAX_DIGITS:
        return False, None
    try:
        # Python's own reading: blanks, signs, leading zeros, '_' and other scripts' digits; "42.0" likewise.
        int(re.sub(r"\.0*\s*$", "", text))
    except ValueError:
        return False, None
    return True, None


def _loose_uuid(text: str) -> tuple[bool, str | None]:
    if _UUID_ANY_CASE.fullmatch(text):
        return True, text.lower()
    try:
        uuid.UUID(text)
    except ValueError:
        return False, None
    return True, None
