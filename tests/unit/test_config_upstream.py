"""The `upstream` block: what it gives, what a mistake in it is called, and what is probably not meant."""

from __future__ import annotations

import pytest

from proxy.config import parse, warnings
from proxy.core.errors import ConfigError
from proxy.core.settings import HostLine, UpstreamSettings


def read(block: str, name: str = "r.yaml") -> UpstreamSettings:
    """The settings of one block."""
    return parse(f"version: 1\nupstream: {block}\n".encode(), name, {}).upstream


def test_what_is_given_is_taken() -> None:
    """Every member; paths start at the routes file."""
    found = read(
        "{url: 'https://u:1', connect_timeout: 1s, timeout: 2s, head_timeout: 3s, idle_timeout: 4s,\n"
        "  max_connections: 5, host: replace, ca_file: ca.pem, verify: true, certificate_file: a/c.pem,\n"
        "  key_file: /k.pem}",
        "/etc/proxy/routes.yaml",
    )

    assert found == UpstreamSettings(
        url="https://u:1",
        connect_timeout=1.0,
        timeout=2.0,
        head_timeout=3.0,
        idle_timeout=4.0,
        max_connections=5,
        host=HostLine.REPLACE,
        ca_file="/etc/proxy/ca.pem",
        certificate_file="/etc/proxy/a/c.pem",
        key_file="/k.pem",
    )


def test_one_time_stands_for_both() -> None:
    """`timeout` holds for the phases that have none of their own."""
    found = read("{timeout: 7s, idle_timeout: 9s}")

    assert (7.0, 9.0) == (found.until_head, found.until_next)


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("{host: other}", "upstream.host: 'other' is not one of keep, replace"),
        ("{verify: 1}", "upstream.verify: must be true or false"),
        ("{key_file: k.pem}", "upstream.key_file: is the key of no certificate"),
        ("{ca_file: c.pem, verify: false}", "upstream.ca_file: is not looked at with verify: false"),
        ("{ca_file: ''}", "upstream.ca_file: is empty"),
        ("{head_timeout: 0}", "upstream.head_timeout: '0' leaves no time"),
        ("{idle_timout: 1s}", "did you mean 'idle_timeout'?"),
    ],
)
def test_a_mistake_names_its_place(block: str, sentence: str) -> None:
    """File, line, field and what to write."""
    with pytest.raises(ConfigError) as caught:
        read(block)

    assert ["r.yaml:2"] == [one.partition(": ")[0] for one in caught.value.mistakes]
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("{url: 'http://u', ca_file: c.pem}", ["upstream.ca_file"]),
        ("{url: 'http://u', certificate_file: c.pem}", ["upstream.certificate_file"]),
        ("{url: 'https://u', verify: false}", ["upstream.verify"]),
        ("{url: 'https://u', ca_file: c.pem}", []),
    ],
)
def test_what_is_probably_not_meant(block: str, told: list[str]) -> None:
    """Files that nobody looks at, and a check that is off."""
    settings = parse(f"version: 1\nupstream: {block}\n".encode(), "r.yaml", {})

    assert told == [one.partition(":")[0] for one in warnings(settings)]
