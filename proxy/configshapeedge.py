"""The shape of the blocks `upstream`, `edge` and `limits`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta

from proxy.configshapebase import Duration, Size, Text, Unset, told

Lines = Annotated[int, Meta(ge=1, le=10_000)]


class Upstream(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where the service is, and how long to wait for it."""

    url: Annotated[
        Annotated[str, Meta(pattern="^(https?://|unix:/)")],
        told(
            "The service: http, https or a unix socket. `UPSTREAM_URL` and `--upstream` win.",
            "https://users.internal:8443",
            "unix:/run/users.sock",
        ),
    ] = "http://127.0.0.1:8000"
    connect_timeout: Annotated[Duration, told("How long a connection may take.", "500ms")] = "1s"
    timeout: Annotated[
        Duration,
        told("How long the service may be silent: what holds for the two times below.", "30s"),
    ] = "10s"
    head_timeout: (
        Annotated[Duration, told("From the end of a request to the head of its answer; 504 above.", "60s")]
        | Unset
    ) = UNSET
    idle_timeout: (
        Annotated[
            Duration,
            told("How long a body may stand still, in either direction; event streams may for ever.", "5m"),
        ]
        | Unset
    ) = UNSET
    max_connections: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)], told("Connections to the service, of each process.", 20)
    ] = 100
    host: Annotated[
        Literal["keep", "replace"],
        told(
            "`keep` passes the client's `Host` on, `replace` sends host and port of `url`; "
            "the client's is in `X-Forwarded-Host` either way.",
            "replace",
        ),
    ] = "keep"
    ca_file: (
        Annotated[
            Text,
            told(
                "A PEM file of the authorities that may vouch for the service, instead of the machine's. "
                "Paths start at the routes file.",
                "tls/ca.pem",
            ),
        ]
        | Unset
    ) = UNSET
    verify: Annotated[
        bool, told("`false` believes any certificate of the service: for a test, never else.", False)
    ] = True
    certificate_file: (
        Annotated[Text, told("A PEM file with the proxy's own certificate and its chain.", "tls/client.pem")]
        | Unset
    ) = UNSET
    key_file: (
        Annotated[
            Text,
            told("The key of that certificate, without a passphrase; else in the same file.", "tls/key.pem"),
        ]
        | Unset
    ) = UNSET


class Edge(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of a client to the service, and which clients may say something themselves."""

    trusted_proxies: (
        Annotated[
            list[Text],
            told(
                "Peers whose `X-Forwarded-*` and `Forwarded` are believed: networks, addresses, `private` "
                "(this machine and networks that the internet does not route; the default) or `all`.",
                ["10.0.0.0/8", "192.0.2.1"],
                [],
            ),
        ]
        | Unset
    ) = UNSET
    x_forwarded: Annotated[
        Literal["append", "replace", "off"],
        told(
            "`append` adds this hop to what a trusted peer said, `replace` says it anew for everybody, "
            "`off` leaves the lines as they came.",
            "replace",
        ),
    ] = "append"
    forwarded: Annotated[bool, told("Whether this hop is added to `Forwarded` (RFC 7239) too.", True)] = False


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What clients may take of this process; what goes over is refused and the connection closed."""

    connections: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)],
        told("Clients at a time, of each process. One more gets 503 with `Retry-After`.", 1000),
    ] = 4096
    memory: Annotated[
        Size,
        told(
            "What may wait in each process for a slow client or service, of all connections together; "
            "at the limit a new request gets 503 with `Retry-After`. 1MiB or more.",
            "256MiB",
        ),
    ] = "64MiB"
    target: Annotated[Size, told("The path with its query; 414 above.", "16KiB")] = 8190
    field: Annotated[Size, told("One header line; 431 above.", "32KiB")] = "16KiB"
    head: Annotated[Size, told("All of a request's head; 431 above.", "32KiB")] = "64KiB"
    fields: Annotated[Lines, told("Header lines; 431 above.", 64)] = 128
    body: Annotated[Literal["none"] | Size, told("A request's body; 413 above.", "10MiB", "none")] = "none"
    buffer: Annotated[
        Size, told("How much of a body waits for the service to take it; twice this at most.", "32KiB")
    ] = "64KiB"
    head_timeout: Annotated[Duration, told("How long a head may take to come; 408 above.", "5s")] = "15s"
    body_timeout: Annotated[
        Duration,
        told("How long a body may not come on (408), or a client may take nothing of its answer.", "30s"),
    ] = "60s"
    body_rate: Annotated[
        Annotated[int, Meta(ge=0)],
        told("Bytes a second that a body makes on the average after `body_timeout`; 408 below, 0: any.", 0),
    ] = 240
    idle_timeout: Annotated[
        Duration, told("How long a connection may say nothing between requests.", "120s")
    ] = "75s"
    tunnel_timeout: Annotated[
        Duration,
        told("How long a WebSocket, or what else a connection was switched to, may be silent.", "1h"),
    ] = "10m"
    not_found: Annotated[
        Annotated[int, Meta(ge=0)],
        told("Look-ups a minute of one client (by its address) that may find nobody; 0: no limit.", 100),
    ] = 1000
    over_not_found: Annotated[
        Literal["forward", "refuse"],
        told(
            "What becomes of a client's misses beyond that. `forward`: the service is asked, and its "
            '"not found" is not kept. `refuse`: 429 with `Retry-After`.',
            "refuse",
        ),
    ] = "forward"
