"""Ready heads: what an answer says but for its Age, its ttl and, where the service gave none, its Date."""

from __future__ import annotations

import re
from typing import Final

from proxy.core.forwarding import reply_head
from proxy.core.model import Reply
from proxy.core.verbatim import any_case

# Longer heads are rare, and hashing them costs what a walk does.
LONGEST: Final = 4096
# What names a request and says nothing of its answer: only for logs and traces, here and in the service.
_NAMES: Final = (
    *(b"traceparent", b"tracestate", b"x-request-id", b"x-correlation-id", b"request-id", b"x-amzn-trace-id"),
    *(b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"),
    *(b"x-datadog-trace-id", b"x-datadog-parent-id", b"x-datadog-sampling-priority", b"x-datadog-tags"),
    *(b"x-cloud-trace-context", b"uber-trace-id", b"sentry-trace", b"baggage"),
)
_TRACES: Final = re.compile(rb"\r\n(?=[BbRrSsTtUuXx])(?:" + any_case(_NAMES) + rb"):[\t -~]*+(?=\r\n)")
# Every one of them once: nobody's limit on the number of lines is got round.
MOST_TRACES: Final = len(_NAMES)
_FOLDED: Final = re.compile(rb"\r\n[\t ]")
# No line of a stored answer holds a NUL.
HOLE: Final = b"\x00"
BETWEEN: Final = b"\r\nX-Cache: HIT\r\nCache-Status: user-cache-proxy; hit; ttl="
_AGE_AND_TTL: Final = re.compile(rb"\r\nAge: [0-9]+" + re.escape(BETWEEN) + rb"[0-9]+\r\n")


def nameless(head: bytes) -> tuple[bytes, int]:
    """A head without the lines that only name it, and how many these were."""
    return _TRACES.subn(b"", head)


def foldless(head: bytes) -> bool:
    """Whether each line of the head is a line."""
    return _FOLDED.search(head) is None


def parts_of(reply: Reply) -> tuple[bytes, list[bytes]] | None:
    """What comes before the Age and behind the ttl of a hit's head, the latter in two pieces around a Date.

    None where the head has another form than hits here have.
    """
    body = reply.body
    if not isinstance(body, bytes):
        return None
    text, length, persists = reply_head(reply, method="GET", http_version="1.1", keep_alive=True, date=HOLE)
    parts = _AGE_AND_TTL.split(text)
    # Anything else that looks like ours is upstream's: which is which, only the walk knows.
    if not persists or length != len(body) or len(parts) != 2:
        return None
    before, after = parts[0] + b"\r\nAge: ", (b"\r\n" + parts[1]).split(HOLE)
    return None if len(after) > 2 else (before, after)
