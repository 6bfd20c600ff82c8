"""Every setting of design §3 in one table, and flags over environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from proxy import configvalues as values

Flags = Mapping[str, str | int | None]
NOTHING: Flags = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: environment name, flag or None, default as text, what it means, and what reads it.

    `parse` raises ValueError with a sentence. A default that is words, not a value, is the caller's to give.
    """

    env: str
    flag: str | None
    default: str
    help: str
    parse: Callable[[str], Any]


OBSERVING: tuple[Setting, ...] = (
    Setting(
        "LOG_REQUESTS", None, "on", "a log line for each request but plain hits: on or off", values.switch
    ),
    Setting("LOG_HITS", None, "0%", "the share of plain hits that get a log line as well", values.share),
    Setting(
        "SEND_REQUEST_ID",
        None,
        "off",
        "give requests that have no X-Request-Id one on their way upstream: on or off",
        values.switch,
    ),
    Setting(
        "OTEL_TRACES_EXPORTER",
        None,
        "none",
        "otlp sends traces to OTEL_EXPORTER_OTLP_ENDPOINT, needs the extra otel; or none",
        values.choice("otlp", "none"),
    ),
    Setting(
        "FAST_PATH",
        None,
        "on",
        "answer repeated hits from ready bytes, before they are walked: on or off",
        values.switch,
    ),
)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "ROUTES_FILE",
        "--routes",
        "the packaged routes.yaml",
        "the file that says what is cached",
        values.text_value,
    ),
    Setting(
        "UPSTREAM_URL",
        "--upstream",
        "http://127.0.0.1:8000",
        "the service: http, https or unix:/path",
        values.upstream_url,
    ),
    Setting("LISTEN", "--listen", "0.0.0.0:8080", "host:port for clients", values.address),
    Setting(
        "ADMIN_LISTEN",
        "--admin",
        "127.0.0.1:9090",
        "host:port for health, metrics and eviction",
        values.address,
    ),
    Setting(
        "ADMIN_TOKEN",
        None,
        "none",
        "bearer token of the admin API; needed where it is not loopback",
        values.header_token,
    ),
    Setting(
        "LISTEN_TLS_CERT",
        None,
        "none: plain HTTP",
        "PEM file with the certificate that clients see, and its chain",
        values.text_value,
    ),
    Setting("LISTEN_TLS_KEY", None, "in LISTEN_TLS_CERT", "PEM file with its private key", values.text_value),
    Setting(
        "DRAIN_DELAY",
        None,
        "0s",
        "after SIGTERM, how long connections are still taken while /readyz says no",
        values.duration,
    ),
    Setting(
        "REDIS_URL",
        "--redis",
        "none: memory only",
        "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
        values.redis_url,
    ),
    Setting("REDIS_PRIVATE_URL", None, "none", "the same; wins over REDIS_URL", values.redis_url),
    Setting("REDIS_POOL_SIZE", None, "10", "connections to Redis per process", values.whole(1, 10_000, 10)),
    Setting("REDIS_POOL_TIMEOUT", None, "5.0", "seconds to wait for a connection to Redis", values.timeout),
    Setting(
        "USER_CACHE_TTL", None, "from the view", "overrides the TTL of view users; e.g. 300s", values.duration
    ),
    Setting(
        "MEMORY_CACHE_ENTRIES",
        None,
        "10000",
        "users held in memory, least recently used go first",
        values.whole(1, 10**8, 10_000),
    ),
    Setting(
        "WORKERS",
        "--workers",
        "1",
        "processes that share the port; 0 is one a core",
        values.whole(0, 1024, 2),
    ),
    Setting(
        "JWT_SECRET",
        None,
        "none",
        "the secret of the tokens, or the name that tokens.secret_env gives",
        values.text_value,
    ),
    Setting("CACHE_HASH_KEY", None, "none", "the key of hash_keys; new,old to change it", values.text_value),
    Setting("CACHE_ENCRYPT_KEY", None, "none", "the key of encrypt; new,old to change it", values.text_value),
    Setting(
        "MODE",
        "--mode",
        "serve",
        "serve, shadow (forward all and compare), or off (forward all)",
        values.mode,
    ),
    Setting(
        "LOG_LEVEL", None, "info", "debug, info, warning, error or critical", values.choice(*values.LEVELS)
    ),
    Setting("LOG_FORMAT", None, "json, text on a terminal", "json or text", values.choice(*values.FORMATS)),
    *OBSERVING,
)

_BY_ENV = {setting.env: setting for setting in SETTINGS}
_DEFAULT = object()


class Given:
    """What flags and environment give; what is wrong goes to `mistakes`, named after where it was given."""

    def __init__(self, environ: Mapping[str, str], flags: Flags) -> None:
        self.environ = environ
        self.mistakes: list[str] = []
        self.failed: set[str] = set()
        self._flags = {f"--{name.lstrip('-')}": value for name, value in flags.items() if value is not None}

    def text(self, env: str) -> str | None:
        """The text that was given. An empty variable is not given."""
        flag = self._flags.get(_BY_ENV[env].flag or "")
        return self.environ.get(env) or None if flag is None else str(flag)

    def label(self, env: str) -> str:
        """Where it was given: the flag or the variable."""
        flag = _BY_ENV[env].flag
        return flag if flag and flag in self._flags else env

    def prefers_private(self) -> bool:
        """Whether REDIS_PRIVATE_URL counts: it wins over REDIS_URL, and a flag over both."""
        return "--redis" not in self._flags and self.text("REDIS_PRIVATE_URL") is not None

    def value(self, env: str, default: Any = _DEFAULT) -> Any:
        """The value that was given, or else the default: the table's, where it is left out here."""
        setting = _BY_ENV[env]
        text = self.text(env)
        if text is not None:
            try:
                return setting.parse(text)
            except ValueError as error:
                self.wrong(env, str(error))
        return setting.parse(setting.default) if default is _DEFAULT else default

    def wrong(self, env: str, sentence: str) -> None:
        """Notes a mistake."""
        self.failed.add(env)
        self.mistakes.append(f"{self.label(env)}: {sentence}")
