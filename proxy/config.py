"""Flags, environment and `routes.yaml` → frozen Settings, or all their mistakes at once (design §3, §4)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proxy import configvalues as values
from proxy.configaccess import read_credential_headers
from proxy.configblocks import read_user, read_views
from proxy.configedge import read_edge, read_limits
from proxy.configfile import Reader
from proxy.configgiven import NOTHING, SETTINGS, Flags, Given, Setting
from proxy.configissuers import read_tokens, token_settings
from proxy.configobserving import observing
from proxy.configprivacy import PrivacyBlock, encrypt_keys, hash_keys, read_privacy
from proxy.configresources import MEMORY, read_resource_memory
from proxy.configrevoking import read_revoking
from proxy.configrollout import RolloutBlock, read_rollout
from proxy.configroutes import Blocks, read_routes
from proxy.configtls import tls_context
from proxy.configtokenplace import read_token_place
from proxy.configtokens import ReadFile, TokenBlock, no_files
from proxy.configupstream import read_upstream
from proxy.configwarnings import warnings
from proxy.core.edgesettings import EdgeSettings, LimitSettings
from proxy.core.errors import ConfigError
from proxy.core.revoking import RevokingSettings
from proxy.core.settings import (
    RedisSettings,
    Route,
    Settings,
    TlsSettings,
    UpstreamSettings,
    UserModel,
    View,
)
from proxy.core.tokenplace import HEADER, TokenPlace

__all__ = ["SETTINGS", "Setting", "load", "parse", "warnings"]

PACKAGED = Path(__file__).with_name("routes.yaml")
BLOCKS = (
    *("version", "upstream", "edge", "limits", "user", "views", "tokens", "on_redis_loss"),
    *("credential_headers", "token_from", "revoking"),
    *("mode", "holdback", "truth", "hash_keys", "encrypt", "resources", "routes"),
)


def load(environ: Mapping[str, str], flags: Flags = NOTHING) -> Settings:
    """Reads the routes file that flags or environment name, or the packaged one, and parses all of it.

    Flags are keyed by name, with or without leading dashes; None is not given. Raises ConfigError.
    """
    given = Given(environ, flags)
    named = given.text("ROUTES_FILE")
    name, path = named or PACKAGED.name, Path(named) if named else PACKAGED
    try:
        data: bytes | None = path.read_bytes()
        unread = ""
    except (OSError, ValueError) as error:
        data = None
        told = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        shown = name if name.isprintable() else repr(name)
        unread = f"{shown}: cannot be read ({told}); check {given.label('ROUTES_FILE')}"
    settings = parse(
        data,
        name,
        environ,
        flags,
        cores=os.cpu_count() or 1,
        terminal=sys.stderr.isatty(),
        unread=unread,
        packaged=path == PACKAGED,
        read_file=lambda other: (path.parent / other).read_bytes(),
    )
    tls_context(settings.upstream)
    return settings


def parse(
    data: bytes | None,
    name: str,
    environ: Mapping[str, str],
    flags: Flags = NOTHING,
    *,
    cores: int = 1,
    terminal: bool = False,
    unread: str = "",
    packaged: bool = False,
    read_file: ReadFile = no_files,
) -> Settings:
    """The settings out of the bytes of a routes file called `name`, an environment and flags; pure.

    `cores` is what `WORKERS=0` means, `terminal` whether the log goes to one. Without `data` the mistake is
    `unread`. The `packaged` file starts without the secret of its tokens; a file of the user's own names them
    on purpose. `read_file` gives the bytes of a file that the routes file names, or raises OSError. Raises
    ConfigError with every mistake.
    """
    reader = Reader(name)
    file = _File.read(reader, data, read_file)
    given = Given(environ, flags)
    redis_name = "REDIS_PRIVATE_URL" if given.prefers_private() else "REDIS_URL"
    settings = Settings(
        upstream=msgspec.structs.replace(file.upstream, url=given.value("UPSTREAM_URL", file.upstream.url)),
        user=msgspec.structs.replace(file.user, hash_keys=hash_keys(given, file.privacy.hash_keys, name)),
        views=_views(given, file, name),
        tokens=token_settings(given, file.tokens, name, packaged=packaged),
        routes=file.routes,
        credential_headers=file.credential_headers,
        token_from=file.token_from,
        revoking=file.revoking,
        redis=RedisSettings(
            url=given.value(redis_name, None),
            pool_size=given.value("REDIS_POOL_SIZE"),
            pool_timeout=given.value("REDIS_POOL_TIMEOUT"),
            reject_writes=file.reject_writes,
            seal_keys=encrypt_keys(given, file.privacy.encrypt, name),
        ),
        edge=file.edge,
        limits=file.limits,
        listen=given.value("LISTEN"),
        admin=given.value("ADMIN_LISTEN"),
        admin_token=given.value("ADMIN_TOKEN", None),
        tls=_tls(given),
        drain_delay=given.value("DRAIN_DELAY"),
        memory_entries=given.value("MEMORY_CACHE_ENTRIES"),
        resource_memory=file.resource_memory,
        workers=given.value("WORKERS") or cores,
        mode=given.value("MODE", file.rollout.mode),
        holdback=file.rollout.holdback,
        truth=file.rollout.truth,
        log_level=given.value("LOG_LEVEL"),
        log_format=given.value("LOG_FORMAT", "text" if terminal else "json"),
        observing=observing(given),
        fast_path=given.value("FAST_PATH"),
        routes_file=name,
    )
    _check_together(given, settings)
    mistakes = (*((unread,) if unread else reader.mistakes), *given.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return settings


@dataclass(frozen=True, slots=True)
class _File:
    """What the routes file says."""

    upstream: UpstreamSettings
    user: UserModel
    views: dict[str, View]
    tokens: tuple[TokenBlock, ...]
    routes: tuple[Route, ...]
    rollout: RolloutBlock
    reject_writes: bool
    privacy: PrivacyBlock
    resource_memory: int
    credential_headers: tuple[str, ...]
    readable: bool
    edge: EdgeSettings
    limits: LimitSettings
    token_from: TokenPlace
    revoking: RevokingSettings

    @classmethod
    def read(cls, reader: Reader, data: bytes | None, read_file: ReadFile) -> _File:
        root = None if data is None else reader.compose(data)
        if root is None:
            return cls(
                *(UpstreamSettings(), UserModel(), {}, (), ()),
                *(RolloutBlock(), False, PrivacyBlock(), MEMORY, ()),
                readable=False,
                edge=EdgeSettings(),
                limits=LimitSettings(),
                token_from=HEADER,
                revoking=RevokingSettings(),
            )
        reader.table(root, BLOCKS)
        reader.required(root, "version", _version, 1, "1")
        upstream, user = read_upstream(reader, root), read_user(reader, root)
        views, tokens = read_views(reader, root), read_tokens(reader, root, read_file)
        place = read_token_place(reader, root)
        blocks = Blocks(user, tuple(views), has_tokens=bool(tokens), token_from=place)
        routes = read_routes(reader, root, blocks)
        reject = reader.value(root, "on_redis_loss", _on_redis_loss, False)
        rollout, privacy = read_rollout(reader, root), read_privacy(reader, root)
        memory, headers = read_resource_memory(reader, root), read_credential_headers(reader, root)
        edge, limits = read_edge(reader, root), read_limits(reader, root)
        return cls(
            *(upstream, user, views, tokens, routes, rollout, reject, privacy, memory, headers),
            readable=True,
            edge=edge,
            limits=limits,
            token_from=place,
            revoking=read_revoking(reader, root),
        )


def _version(text: str) -> int:
    if text != "1":
        raise ValueError(f"version {values.quoted(text)} is not known; this program reads version 1")
    return 1


def _on_redis_loss(text: str) -> bool:
    if text not in ("forward", "reject"):
        raise ValueError(f"{values.quoted(text)} is not known; give forward or reject")
    return text == "reject"


def _views(given: Given, file: _File, name: str) -> dict[str, View]:
    ttl = given.value("USER_CACHE_TTL", None)
    if ttl is None or not file.readable:
        return file.views
    users = file.views.get("users")
    if users is None:
        given.wrong("USER_CACHE_TTL", f"there is no view 'users' in {name}; add it or unset the variable")
        return file.views
    return {**file.views, "users": msgspec.structs.replace(users, ttl=ttl)}


def _tls(given: Given) -> TlsSettings | None:
    certificate = given.value("LISTEN_TLS_CERT", None)
    key = given.value("LISTEN_TLS_KEY", None)
    if certificate is None and key is not None:
        given.wrong("LISTEN_TLS_KEY", "is the key of no certificate; set LISTEN_TLS_CERT too")
    return None if certificate is None else TlsSettings(certificate=certificate, key=key or certificate)


def _check_together(given: Given, settings: Settings) -> None:
    if settings.workers > 1 and not (given.text("REDIS_URL") or given.text("REDIS_PRIVATE_URL")):
        given.wrong("WORKERS", f"{settings.workers} workers need Redis to agree; set REDIS_URL, or give 1")
    if not values.is_loopback(settings.admin) and given.text("ADMIN_TOKEN") is None:
        sentence = f"{settings.admin} can be reached from outside; set ADMIN_TOKEN, or listen on 127.0.0.1"
        given.wrong("ADMIN_LISTEN", sentence)
    same_port = settings.listen.port == settings.admin.port != 0
    hosts = {settings.listen.host, settings.admin.host}
    overlap = len(hosts) == 1 or hosts & {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    if same_port and overlap and not given.failed & {"LISTEN", "ADMIN_LISTEN"}:
        sentence = f"{settings.admin} is also what {given.label('LISTEN')} asks for; give another port"
        given.wrong("ADMIN_LISTEN", sentence)
