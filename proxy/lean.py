"""aiohttp without the machine's certificate authorities, to be imported before anything that imports it.

It reads them twice as it is imported, for connections of its client that nobody here makes: 2 MB, and a tenth
of the start. Upstream's TLS has a context of its own, with the authorities (`configtls`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NOWHERE = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
_before = {name: os.environ.get(name) for name in _NOWHERE}
os.environ.update(_NOWHERE)
try:
    import aiohttp as aiohttp
finally:
    for _name, _value in _before.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value


@contextmanager
def no_figures() -> Iterator[None]:
    """Redis's client, first imported within this, finds no OpenTelemetry to count with: 2 MB less.

    Spans are made of it all the same, by whoever imports it later.
    """
    hidden = "opentelemetry" not in sys.modules
    if hidden:
        sys.modules["opentelemetry"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["opentelemetry"]
