"""Listening sockets, and TLS on them."""

from __future__ import annotations

import socket
import ssl

from proxy.core.errors import ConfigError
from proxy.core.settings import Address, TlsSettings

BACKLOG = 1024


class CannotListen(Exception):
    """An address can't be had; the text names it and the cause."""


def listen(address: Address, *, shared: bool) -> socket.socket:
    """A listening TCP socket; `shared` lets several processes have the port (SO_REUSEPORT).

    Raises CannotListen.
    """
    sock = bound(address, shared=shared)
    sock.listen(BACKLOG)
    return sock


def bound(address: Address, *, shared: bool) -> socket.socket:
    """A TCP socket that has its address and takes no connections yet. Raises CannotListen."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(place)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CannotListen(f"can't listen on {address}: {error.strerror or error}") from error
    sock.setblocking(False)
    return sock


def tls(files: TlsSettings | None) -> ssl.SSLContext | None:
    """The server's side of TLS 1.2 and 1.3, where the settings ask for it. Raises ConfigError."""
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:
        told = "not a PEM certificate with its key"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            told = error.strerror or "no file"
        raise ConfigError((f"LISTEN_TLS_CERT, LISTEN_TLS_KEY: cannot be read ({told})",)) from None
    return context
