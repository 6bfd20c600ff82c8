"""TLS towards upstream: whom it is believed, and how the proxy shows who it is itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from proxy.core.errors import ConfigError
from proxy.core.settings import UpstreamSettings


def tls_context(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """The client's side of TLS 1.2 and 1.3, or None for an upstream that is not `https:`.

    The files are read whatever the URL says, so that a mistake in them does not wait for it to change.
    Raises ConfigError with every file that is not what it should be.
    """
    secure, ca = settings.url.startswith("https:"), settings.ca_file
    # The machine's authorities take a while to read, so only where they are asked.
    context = (
        ssl.create_default_context() if secure and ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    mistakes: list[str] = []
    certificate, key = settings.certificate_file, settings.key_file
    if ca is not None:
        # One's own authority stands instead of the machine's: who names it wants no other to be believed.
        _try(mistakes, "ca_file", "no PEM certificates", lambda: context.load_verify_locations(ca))
    if certificate is not None:
        _try(
            mistakes,
            "certificate_file" if key is None else "certificate_file, upstream.key_file",
            "not a PEM certificate with its key, which has no passphrase",
            # Without an answer to its question OpenSSL would ask the terminal for the passphrase.
            lambda: context.load_cert_chain(certificate, key, password=lambda: ""),
        )
    if mistakes:
        raise ConfigError(tuple(mistakes))
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context if secure else None


def _try(mistakes: list[str], name: str, told: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            told = error.strerror or "no file"
        mistakes.append(
            f"upstream.{name}: cannot be read ({told}); check the path, which starts at the routes file"
        )
