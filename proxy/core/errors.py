"""Errors by who is at fault; library errors are translated into these at one edge each."""

from __future__ import annotations


class ProxyError(Exception):
    """Base of every error that this package raises on purpose."""


class ClientError(ProxyError):
    """The client broke a rule. `status` is the answer, `problem` the last part of the RFC 9457 type."""

    def __init__(self, status: int, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem
        self.detail = detail


class InvalidToken(ClientError):
    """A bearer token that is provably bad; `reason` says how (RFC 6750 §3.1)."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, "invalid-token", "The access token is expired, revoked or otherwise not valid.")
        self.reason = reason


class TooManyMisses(ClientError):
    """The client has asked for nobody too often; in `seconds` it may again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(429, "too-many-misses", "Too many look-ups of this client have found nobody.")
        self.seconds = seconds


class ClientGone(ProxyError):
    """The client closed its connection before its answer was complete."""


class UpstreamError(ProxyError):
    """Upstream could not be asked, or broke off. `executed` says whether it may have acted on the request."""

    status = 502
    problem = "upstream-failed"

    def __init__(self, detail: str, *, executed: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.executed = executed


class UpstreamRefused(UpstreamError):
    """No connection could be made: nothing was executed."""

    problem = "upstream-unreachable"


class UpstreamTimeout(UpstreamError):
    """A phase (connect, send, first byte, body) took longer than its deadline."""

    status = 504
    problem = "upstream-timeout"


class UpstreamBusy(UpstreamError):
    """All connections are taken and none came free in time: nothing was executed."""

    status = 503
    problem = "upstream-busy"


class RequestBroken(UpstreamError):
    """The request's own body broke off, or was malformed, while it was on its way to upstream.

    `cause` says what the client did. Upstream may have acted on the part that it got.
    """

    def __init__(self, cause: ClientError | ClientGone) -> None:
        super().__init__("The request's body ended early or is malformed.", executed=True)
        self.cause = cause
        self.status = cause.status if isinstance(cause, ClientError) else 400
        self.problem = cause.problem if isinstance(cause, ClientError) else "bad-request"


class StoreError(ProxyError):
    """A store could not answer. Never reaches a client: a cache failure is not a request failure.

    `gone`: there is no server at all, which needs no second try to be believed.
    """

    def __init__(self, detail: str, *, gone: bool = False) -> None:
        super().__init__(detail)
        self.gone = gone


class StoresAway(ClientError):
    """A write is refused because Redis can't be told of it, and the settings say so."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "store-unreachable",
            "Redis can't be told of this write, and on_redis_loss says to refuse it.",
        )


class ConfigError(ProxyError):
    """All mistakes of the settings, reported together. `mistakes` is a tuple of one-line sentences."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class SecretFieldError(ProxyError, ValueError):
    """A user that holds a secret-looking field was given to the cache; `field` is its dotted path."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"the user holds the secret-looking field {field!r}; remove it before caching, it is never stored"
        )
        self.field = field
