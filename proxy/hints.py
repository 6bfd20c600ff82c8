"""What upstream says before its answer (1xx) on its way to the client, while that answer is awaited."""

from __future__ import annotations

import re
from typing import Final

from proxy.core.forwarding import end_to_end
from proxy.core.headers import RawHeaders
from proxy.core.replies import phrase
from proxy.duplex import Duplex

# Upstream decides how many come; nobody needs more.
MOST: Final = 16
# These would speak of content, which a 1xx has not (RFC 9110 §15.2).
_CONTENT: Final = frozenset({b"content-length", b"transfer-encoding"})
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Hints:
    """Passes interim answers on until it is closed: behind the answer they would be the next one.

    They are no promise, so that a client which is slow to read is spared them.
    """

    __slots__ = ("_client", "_left")

    def __init__(self, client: Duplex) -> None:
        self._client: Duplex | None = client
        self._left = MOST

    def __call__(self, status: int, headers: RawHeaders) -> None:
        """One interim answer: any but 100, which is between neighbours, and 101, which is no interim one."""
        client = self._client
        if client is None or client.gone or client.transport is None or not self._left:
            return
        lines = [line for line in end_to_end(headers) if line[0].lower() not in _CONTENT]
        if client.transport.get_write_buffer_size() or any(_CONTROL.search(value) for _, value in lines):
            return
        self._left -= 1
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        client.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase(status), head))

    def close(self) -> None:
        """The answer is there."""
        self._client = None
