"""One copy of an answer: its validators, what is kept of its header, and what is said about serving it."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from hashlib import blake2b

from proxy.core.headers import Headers, RawHeaders, end_to_end

CACHE_NAME = "user-cache-proxy"  # in Via and Cache-Status


def etag_for(body: bytes) -> bytes:
    """A strong ETag, quotes included, for a body that the proxy made: the same on every replica."""
    return b'"' + blake2b(body, digest_size=12).hexdigest().encode() + b'"'


_NEVER_KEPT = frozenset(
    {
        b"age",  # made again for each hit
        b"content-length",  # made again from the body
        b"set-cookie",  # one caller's
        b"set-cookie2",
        b"authentication-info",  # one caller's, RFC 9110 §11.6.3
        b"proxy-authentication-info",  # RFC 9111 §3.1
        b"cache-status",  # about the fill, not about the hit
        b"trailer",  # what comes behind the content is not kept
        b"x-cache",
    }
)
_ABOUT_THE_BYTES = frozenset(
    {
        b"etag",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"accept-ranges",
    }
)


def stored_headers(reply_headers: Headers, *, changed: bool, body: bytes) -> RawHeaders:
    """The field lines kept with an entry (RFC 9111 §3.1), order and duplicates as they came.

    `changed`: `body` is not upstream's any more, for a field was taken out. What described upstream's bytes
    goes as well then, and the copy gets an ETag of its own.
    """
    drop = _NEVER_KEPT | _ABOUT_THE_BYTES if changed else _NEVER_KEPT
    kept = [
        (name, value)
        for name, value in end_to_end(reply_headers)
        if name.lower() not in drop and not (name.lower() == b"via" and _is_our_via(value))
    ]
    if changed:
        kept.append((b"ETag", etag_for(body)))
    return tuple(kept)


def _is_our_via(value: bytes) -> bool:
    return b"," not in value and value.strip().endswith(b" " + CACHE_NAME.encode())


_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")  # RFC 8941 §3.3.4
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@lru_cache(maxsize=512)
def cache_status(
    *,
    hit: bool,
    fwd: str | None = None,
    fwd_status: int | None = None,
    stored: bool | None = None,
    collapsed: bool = False,
    ttl: int | None = None,
    detail: str | None = None,
) -> bytes:
    """The `Cache-Status` value (RFC 9211 §2). `detail` is a reason's name; never give it a key.

    `fwd` is one of the RFC's tokens. A hit was not forwarded, so what concerns forwarding is left out.
    """
    parts = [CACHE_NAME]
    if hit:
        parts.append("hit")
    else:
        if fwd is not None:
            parts.append(f"fwd={_bare_item(fwd)}")
        if fwd_status is not None:
            parts.append(f"fwd-status={fwd_status}")
        if stored is not None:
            parts.append("stored" if stored else "stored=?0")
        if collapsed:
            parts.append("collapsed")
    if ttl is not None:
        parts.append(f"ttl={ttl}")
    if detail is not None:
        parts.append(f"detail={_bare_item(detail)}")
    return "; ".join(parts).encode("ascii")


def _bare_item(text: str) -> str:
    if _TOKEN.fullmatch(text):
        return text
    quoted = _UNPRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def reflects_host(request_headers: Headers, body: bytes) -> bool:
    """Whether the answer holds the name the client called the service by, so that it may poison others.

    The name is looked for without its port (that finds it with one, too) and without regard to case. Names
    that occur by chance are not looked for (no dot and at most 7 characters, localhost), nor are addresses
    that only the inside can reach; a name after `@` is an e-mail address.
    """
    host = _reflectable(request_headers.get("host"))
    if host is None:
        return False
    text = body.lower()
    return host in text and host in text.replace(b"@" + host, b"")


def _reflectable(value: str | None) -> bytes | None:
    if not value:
        return None
    host = re.sub(r":\d*\Z", "", value.strip(" \t").lower())
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if host == "localhost" or ("." not in host and len(host) <= 7):
            return None
    else:
        if not address.is_global:
            return None
        host = host.strip("[]")
    return host.encode("latin-1")
