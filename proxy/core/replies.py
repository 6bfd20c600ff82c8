"""Answers made here: from a stored entry, or a 304 to a client that has it already."""

from __future__ import annotations

from http import HTTPStatus

from msgspec.structs import replace

from proxy.core.forwarding import PSEUDONYM
from proxy.core.headers import Headers, RawHeaders
from proxy.core.model import Entry, Outcome, Reason, Reply, Request, XCache
from proxy.core.policy import age_header
from proxy.core.representation import cache_status
from proxy.core.validation import not_modified

# RFC 9110 §15.4.5: what a 304 carries of the 200 that it stands for.
KEPT_IN_304 = frozenset(
    {
        b"age",
        b"cache-control",
        b"content-location",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"vary",
        b"via",
    }
)
VIA = (b"Via", b"1.1 " + PSEUDONYM)
_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def phrase(status: int) -> bytes:
    """The standard reason phrase, or nothing for a status without one."""
    return _PHRASES.get(status, b"")


def from_entry(request: Request, entry: Entry, now: float | None) -> Reply:
    """The stored answer at `now`, with its Age; `now` is None for one that has just come from upstream.

    A client that holds the same representation gets 304 (RFC 9110 §13.2).
    """
    headers: RawHeaders = (*entry.headers, VIA)
    if now is not None:
        headers = (*headers, (b"Age", str(age_header(entry, now)).encode("ascii")))
    elif entry.age:
        headers = (*headers, (b"Age", str(entry.age).encode("ascii")))
    if entry.status == 200 and not_modified(request.headers, Headers(entry.headers)):
        kept = tuple(pair for pair in headers if pair[0].lower() in KEPT_IN_304)
        return Reply(304, phrase(304), kept)
    return Reply(entry.status, phrase(entry.status), headers, entry.body)


# RFC 9211 §2.2: why the request went on to upstream.
_FORWARDED = {XCache.MISS: "uri-miss", XCache.BYPASS: "bypass", XCache.REVALIDATED: "stale"}
_FORWARDED_FOR = {
    Reason.EXPIRED: "stale",
    Reason.VARY_MISS: "vary-miss",
    Reason.REQUEST_NO_CACHE: "request",
    Reason.REQUEST_MAX_AGE: "request",
    Reason.REQUEST_MIN_FRESH: "request",
}


def _forwarded_for(outcome: Outcome) -> str:
    told = _FORWARDED[outcome.x_cache]
    if outcome.x_cache is XCache.BYPASS or outcome.reason is None:
        return told
    return _FORWARDED_FOR.get(outcome.reason, told)


def finished(reply: Reply, outcome: Outcome) -> Reply:
    """The reply with `X-Cache` and `Cache-Status` (RFC 9211) that tell what became of the request."""
    hit = outcome.x_cache in (XCache.HIT, XCache.STALE)
    why = outcome.skipped or outcome.reason
    status = cache_status(
        hit=hit,
        fwd=None if hit or outcome.refused else _forwarded_for(outcome),
        fwd_status=outcome.upstream_status if not hit else None,
        stored=outcome.stored,
        collapsed=outcome.collapsed,
        ttl=outcome.ttl,
        detail=None if why is None else why.value,
    )
    extra = ((b"X-Cache", outcome.x_cache.value.encode("ascii")), (b"Cache-Status", status))
    return replace(reply, headers=(*reply.headers, *extra))
