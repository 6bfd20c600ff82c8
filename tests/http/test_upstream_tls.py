"""TLS to upstream with real handshakes: whom the proxy believes, and who it says it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy.config import load
from proxy.core.errors import ConfigError, UpstreamError, UpstreamRefused
from proxy.core.headers import Headers
from proxy.core.model import Request
from proxy.core.settings import UpstreamSettings
from proxy.upstream import HttpUpstream
from tests.certificates import Authority
from tests.origin import Origin

GET = Request("GET", "/", Headers(((b"Host", b"h"),)))
HERE = x509.IPAddress(ip_address("127.0.0.1"))


@asynccontextmanager
async def service(
    ours: Authority, *names: x509.GeneralName, clients: Authority | None = None
) -> AsyncIterator[tuple[str, list[Any]]]:
    """An `https://` origin, and the certificates that its clients showed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*ours.issue(*(names or (HERE,))))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.file)
    at, shown = Origin(), list[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert"))
        await at.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", shown
    finally:
        server.close()
        await at.finish()


async def status(url: str, **settings: Any) -> int:
    """What a GET gets."""
    upstream = HttpUpstream(UpstreamSettings(url=url, **settings))
    try:
        return (await upstream.send(GET)).status
    finally:
        await upstream.close()


async def test_an_authority_of_ones_own_is_believed(tmp_path: Path) -> None:
    """`ca_file` vouches for the service; without it nobody does."""
    ours = Authority(tmp_path)
    async with service(ours) as (url, _):
        assert 200 == await status(url, ca_file=str(ours.file))
        with pytest.raises(UpstreamRefused, match="not trusted"):
            await status(url)


async def test_another_authority_is_not_believed(tmp_path: Path) -> None:
    """A certificate of somebody else's authority is refused, whatever it says."""
    async with service(Authority(tmp_path, "theirs")) as (url, _):
        with pytest.raises(UpstreamRefused, match="not trusted"):
            await status(url, ca_file=str(Authority(tmp_path, "ours").file))


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    """Vouched for, but not for the host of the URL."""
    ours = Authority(tmp_path)
    async with service(ours, x509.DNSName("elsewhere.test")) as (url, _):
        with pytest.raises(UpstreamRefused, match="not trusted"):
            await status(url, ca_file=str(ours.file))


async def test_verify_false_believes_anybody(tmp_path: Path) -> None:
    """Neither the authority nor the name counts."""
    async with service(Authority(tmp_path), x509.DNSName("elsewhere.test")) as (url, _):
        assert 200 == await status(url, verify=False)


@pytest.mark.parametrize("together", [True, False])
async def test_the_proxy_shows_its_own_certificate(tmp_path: Path, together: bool) -> None:
    """A service that asks for one gets it, with the key in a file of its own or in the same one."""
    ours = Authority(tmp_path)
    certificate, key = ours.issue()
    if together:
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    mine = {"certificate_file": str(certificate), "key_file": None if together else str(key)}
    async with service(ours, clients=ours) as (url, shown):
        assert 200 == await status(url, ca_file=str(ours.file), **mine)
        assert [((("commonName", "somebody"),),)] == [one["subject"] for one in shown]


async def test_without_a_certificate_such_a_service_fails(tmp_path: Path) -> None:
    """502, and no answer from anywhere else."""
    ours = Authority(tmp_path)
    async with service(ours, clients=ours) as (url, _):
        with pytest.raises(UpstreamError) as caught:
            await status(url, ca_file=str(ours.file))

    assert 502 == caught.value.status


def test_files_are_looked_at_when_the_settings_are_read(tmp_path: Path) -> None:
    """All mistakes in them at once, by the names of the fields; paths start at the routes file."""
    (tmp_path / "nonsense.pem").write_text("nonsense")
    routes = tmp_path / "routes.yaml"
    routes.write_text(
        "version: 1\nupstream: {url: 'http://h', ca_file: none.pem, certificate_file: nonsense.pem}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load({"ROUTES_FILE": str(routes)})

    first, second = caught.value.mistakes
    assert first.startswith("upstream.ca_file: cannot be read (No such file or directory)")
    assert second.startswith("upstream.certificate_file: cannot be read (not a PEM certificate with its key")


def test_a_key_of_another_certificate_is_a_mistake(tmp_path: Path) -> None:
    """Said at start, not at the first request."""
    ours = Authority(tmp_path)
    (certificate, _), (_, key) = ours.issue(), ours.issue()

    with pytest.raises(ConfigError, match="key_file"):
        HttpUpstream(UpstreamSettings(certificate_file=str(certificate), key_file=str(key)))
