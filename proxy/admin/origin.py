"""Is a request to a socket without a token one of this machine, or of a web page that its browser shows?

A page may send requests to 127.0.0.1, and may read the answers once its own name resolves to that address
(DNS rebinding). Such a request has the page's name as Host, or the page as Origin;
those of tools have neither.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def foreign(headers: Mapping[str, str]) -> str | None:
    """Why these headers are those of a foreign page's request, in a sentence; None where they are not."""
    host = headers.get("Host", "")
    if not _local(host):
        return "the Host must be an address or localhost: a name may be that of a web page"
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return "the Origin is another one: web pages of others may not ask this"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "web pages of others may not ask this"
    return None


def _local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None or "@" in host or "/" in host:
        return False
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
