"""A stored resource as an answer: whole, as 304, or in part. Pure."""

from __future__ import annotations

from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Entry, Reply, Request
from proxy.core.policy import age_header
from proxy.core.ranges import Unsatisfiable, partial
from proxy.core.replies import KEPT_IN_304, VIA, phrase
from proxy.core.validation import not_modified


def from_resource(request: Request, entry: Entry, now: float) -> Reply:
    """The stored answer at `now`, with its Age, as this request asks for it (RFC 9111 §4.3.2, §3.4)."""
    headers: RawHeaders = (*entry.headers, VIA, (b"Age", str(age_header(entry, now)).encode("ascii")))
    stored = Headers(entry.headers)
    if entry.status == 200:
        if not_modified(request.headers, stored, entry.stored):
            kept = tuple(pair for pair in headers if pair[0].lower() in KEPT_IN_304)
            return Reply(304, phrase(304), kept)
        if request.method == "GET" and "range" in request.headers:
            found = partial(request.headers, headers, entry.body)
            if isinstance(found, Unsatisfiable):
                told = (b"Content-Range", b"bytes */%d" % len(entry.body))
                return Reply(416, phrase(416), (told, VIA))
            if found is not None:
                return Reply(206, phrase(206), found.headers, found.body)
    return Reply(entry.status, phrase(entry.status), headers, entry.body)
