"""What the operating system allows of open files, and what the proxy makes of it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes import COMMAND, Proxy, Stub

ROUTES = """\
version: 1
upstream: {url: "http://127.0.0.1:1", max_connections: 20}
limits: {connections: 400}
"""


@contextmanager
def started(tmp_path: Path, soft: int, hard: int) -> Iterator[Proxy]:
    """A proxy that may have so many files open, and may raise that to `hard`."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    command = ("/bin/sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *COMMAND)
    with (
        Stub.start() as stub,
        Proxy.start(stub.url, command=command, ROUTES_FILE=str(routes)) as proxy,
    ):
        yield proxy


def statuses(proxy: Proxy, count: int) -> list[int]:
    """What each of so many clients gets, none of which goes away."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            client = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=10)
            stack.callback(client.close)
            # Sent apart: one client too many is answered before it has asked.
            client.connect()
            client.request("GET", "/users/1")
            answer = client.getresponse()
            found.append(answer.status)
            answer.read()
        return found


def allowed(proxy: Proxy) -> list[str]:
    """The soft and the hard limit of the process."""
    lines = Path(f"/proc/{proxy.pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max open files")).split()[3:5]


def test_a_low_soft_limit_is_raised(tmp_path: Path) -> None:
    """As far as the settings need it, and no farther."""
    with started(tmp_path, 64, 2000) as proxy:
        assert ["494", "2000"] == allowed(proxy)
        assert [200] * 90 == statuses(proxy, 90)
        assert not proxy.told("too few open files allowed")


def test_a_low_hard_limit_lowers_the_number_of_clients(tmp_path: Path) -> None:
    """One more is told to come again, and what is asked upstream still has its sockets."""
    with started(tmp_path, 100, 130) as proxy:
        assert ["130", "130"] == allowed(proxy)
        said = proxy.told("too few open files allowed")
        assert [(130, 494, 36)] == [(one["allowed"], one["wanted"], one["connections"]) for one in said]
        assert [200] * 36 + [503] == statuses(proxy, 37)
