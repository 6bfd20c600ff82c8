"""Making connections to upstream: its addresses one after another, within one bound of time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from proxy.core.errors import ConfigError, UpstreamRefused, UpstreamTimeout
from proxy.core.settings import UpstreamSettings

# A name with more addresses than this is tried at the first ones only, so that each has time to answer.
ADDRESSES: Final = 16
# How long an address that failed is tried after the others.
SHUNNED_SECONDS: Final = 10.0

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Dialer(Generic[P]):
    """Connects `protocol` to where `settings.url` points. Raises ConfigError for another kind of URL."""

    def __init__(
        self, settings: UpstreamSettings, tls: ssl.SSLContext | None, protocol: Callable[[], P]
    ) -> None:
        self._path, self._host, self._port, self.authority = _address(settings.url)
        self._timeout = settings.connect_timeout
        self._tls = tls
        self._protocol = protocol
        self._failed: dict[tuple[str, int], float] = {}  # with the loop time when

    async def dial(self) -> P:
        """A connection within `connect_timeout`, with its TLS handshake. Raises UpstreamError."""
        try:
            async with asyncio.timeout(self._timeout):
                return await (self._unix() if self._path else self._network())
        except TimeoutError:
            raise UpstreamTimeout("Upstream did not accept a connection in time.", executed=False) from None
        except ssl.SSLCertVerificationError:
            raise UpstreamRefused("Upstream's certificate is not trusted.", executed=False) from None
        except (OSError, UnicodeError):
            raise UpstreamRefused("Upstream could not be reached.", executed=False) from None

    async def _unix(self) -> P:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(self._protocol, self._path)
        return connection

    async def _network(self) -> P:
        """Each address gets an even share of the time left, so that a dead one leaves some to the next."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        addresses = self._in_turn(
            await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM), loop.time()
        )
        failure: OSError = OSError("no address")
        for index, address in enumerate(addresses):
            share = (end - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    _, connection = await loop.create_connection(
                        self._protocol,
                        *address,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )
            except OSError as error:  # a timeout is one as well
                failure = error
                self._failed[address] = loop.time()
            else:
                self._failed.pop(address, None)
                return connection
        raise failure

    def _in_turn(self, found: list[tuple[Any, ...]], now: float) -> list[tuple[str, int]]:
        """The resolver's order, but those that failed a moment ago come last."""
        addresses = list(dict.fromkeys((str(one[4][0]), int(one[4][1])) for one in found))
        self._failed = {
            address: when
            for address, when in self._failed.items()
            if address in addresses and now - when < SHUNNED_SECONDS
        }
        return sorted(addresses, key=lambda address: address in self._failed)[:ADDRESSES]


def _address(url: str) -> tuple[str, str, int, bytes]:
    """Socket path, host, port, and the authority for a Host line."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        return path.removeprefix("//"), "", 0, b"localhost"
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        plain = parts.path in ("", "/") and not parts.query and "@" not in parts.netloc
        if port and parts.hostname and plain:
            return "", parts.hostname, port, parts.netloc.encode("idna" if not url.isascii() else "ascii")
    raise ConfigError(("upstream.url: must be http://host[:port], https://host[:port] or unix:/path",))
