"""The `edge` and `limits` blocks: what they give, and what a mistake in them is called."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from proxy.config import parse
from proxy.core.edgesettings import EdgeSettings, LimitSettings, XForwarded
from proxy.core.errors import ConfigError


def test_both_blocks_may_be_left_out() -> None:
    """The defaults are those of the code."""
    found = parse(b"version: 1\n", "r.yaml", {})

    assert (EdgeSettings(), LimitSettings()) == (found.edge, found.limits)


def test_what_is_given_is_taken() -> None:
    """Every member of both blocks."""
    found = parse(
        b"version: 1\n"
        b"edge: {trusted_proxies: [10.1.0.0/16, 192.0.2.1], x_forwarded: replace, forwarded: true}\n"
        b"limits: {connections: 7, memory: 2MiB, target: 1KiB, field: 2KiB, head: 4KiB, fields: 9,\n"
        b"  body: 1MiB, buffer: 8KiB, head_timeout: 1s, body_timeout: 2s, body_rate: 3, idle_timeout: 4s,\n"
        b"  tunnel_timeout: 5s}\n",
        "r.yaml",
        {},
    )

    networks = (ip_network("10.1.0.0/16"), ip_network("192.0.2.1/32"))
    assert EdgeSettings(trusted=networks, x_forwarded=XForwarded.REPLACE, forwarded=True) == found.edge
    assert found.limits == LimitSettings(
        connections=7,
        memory=2 * 2**20,
        target=1024,
        field=2048,
        head=4096,
        fields=9,
        body=2**20,
        buffer=8192,
        head_timeout=1.0,
        body_timeout=2.0,
        body_rate=3,
        idle_timeout=4.0,
        tunnel_timeout=5.0,
    )


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("edge: {trusted_proxies: [10.0.0.1/8]}", "is not a network"),
        ("edge: {x_forwarded: maybe}", "not one of append, replace, off"),
        ("edge: {trusted: []}", "unknown key"),
        ("limits: {head: 1}", "out of bounds"),
        ("limits: {connections: 0}", "out of bounds"),
        ("limits: {memory: 1000KiB}", "1MiB or more"),
        ("limits: {head_timeout: 0}", "leaves no time"),
        ("limits: {bodies: 1}", "unknown key"),
    ],
)
def test_a_mistake_names_its_place(block: str, sentence: str) -> None:
    """File, line, and what to write instead."""
    with pytest.raises(ConfigError, match=rf"r\.yaml:2: .*{sentence}"):
        parse(f"version: 1\n{block}\n".encode(), "r.yaml", {})


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (None, True),
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("nobody", False),
    ],
)
def test_private_peers_are_trusted_by_default(peer: str | None, expected: bool) -> None:
    """A sidecar's peers are those in front of it; the internet is not believed."""
    assert expected is EdgeSettings().trusts(peer)
