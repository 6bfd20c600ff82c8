"""Flags beat environment, environment beats the file, and all mistakes come together."""

# A mistake stands here as one line, as it is told.
# ruff: noqa: E501

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy import config
from proxy.config import PACKAGED, SETTINGS, load, parse, warnings
from proxy.core.errors import ConfigError
from proxy.core.rolloutsettings import Mode
from proxy.core.routing import Router
from proxy.core.settings import (
    Access,
    Address,
    Lookup,
    RedisSettings,
    SecretsRule,
    Settings,
    Target,
    UpstreamSettings,
    UserKey,
    UserModel,
    View,
    Write,
)

SECRET = "s" * 64
MINIMAL = b"version: 1\n"
USERS = b"version: 1\nviews: {users: {ttl: 300s}}\n"


def read(
    data: bytes = MINIMAL,
    environ: dict[str, str] | None = None,
    flags: dict[str, str | int | None] | None = None,
    cores: int = 1,
    terminal: bool = False,
) -> Settings:
    """The settings of a file called routes.yaml."""
    return parse(data, "routes.yaml", environ or {}, flags or {}, cores=cores, terminal=terminal)


def mistakes(
    data: bytes = MINIMAL,
    environ: dict[str, str] | None = None,
    flags: dict[str, str | int | None] | None = None,
    cores: int = 1,
) -> list[str]:
    """What is wrong, one line each."""
    with pytest.raises(ConfigError) as caught:
        read(data, environ, flags, cores)
    assert all("\n" not in line for line in caught.value.mistakes)
    assert "\n".join(caught.value.mistakes) == str(caught.value)
    return list(caught.value.mistakes)


def test_the_packaged_file_loads() -> None:
    """A newcomer with a secret gets a working proxy, without a warning."""
    settings = load({"JWT_SECRET": SECRET})
    assert () == warnings(settings)
    assert ["users", "introspection", "user_profile"] == list(settings.views)
    assert View(name="users", ttl=300.0, negative_ttl=10.0) == settings.views["users"]
    assert ("email", "username", "phone") == tuple(key.name for key in settings.user.keys)
    assert ("is_active",) == settings.user.active
    assert settings.tokens is not None
    assert (SECRET, ("HS256",), ("sub",)) == (
        settings.tokens.secret,
        settings.tokens.algorithms,
        settings.tokens.subject,
    )


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", "/users/42", "GET /users/{id:int}"),
        ("GET", "/users/by-email/a@b", "GET /users/by-email/{email}"),
        ("GET", "/users?phone=1", "GET /users?phone={phone}"),
        ("GET", "/users?ids=1,2", "GET /users?ids={ids:list}"),
        ("GET", "/users/ann", "GET /users/{username}"),
        ("GET", "/profiles/ann", "GET /profiles/{username}"),
        ("GET", "/auth/me", "GET /auth/me"),
        ("GET", "/auth/introspect", "GET /auth/introspect"),
        ("PUT", "/profile", "PUT /profile"),
        ("POST", "/auth/password", "POST /auth/password"),
        ("POST", "/admin/users/bulk", "POST /admin/users/bulk"),
        ("POST", "/auth/login", "POST /auth/login"),
        ("POST", "/auth/logout", "POST /auth/logout"),
        ("DELETE", "/users/42", "GET /users/{id:int}"),
        ("POST", "/users", "GET /users?phone={phone}"),
        ("GET", "/avatars/1.png", "GET /avatars/{file:path}"),
    ],
)
def test_the_packaged_file_serves_the_service_it_comes_with(
    method: str, target: str, name: str | None
) -> None:
    """Every request of the stub finds the route that is meant for it."""
    found = Router(load({"JWT_SECRET": SECRET}).routes).match(method, target)
    assert name == (found.route.name if found else None)


def test_the_packaged_file_starts_without_a_secret() -> None:
    """A newcomer gets a proxy that forwards what needs a token, and a warning that says why."""
    settings = load({"JWT_SECRET": ""})

    assert settings.tokens is None
    assert "JWT_SECRET is not set: tokens can't be proven here" in warnings(settings)[0]


def test_a_file_of_ones_own_needs_the_secret_it_names(tmp_path: Path) -> None:
    """Who names a tokens block means it; the mistake has its cure in the message."""
    own = tmp_path / "own.yaml"
    own.write_text(PACKAGED.read_text())
    line = PACKAGED.read_text().split("\n").index("tokens:") + 2
    with pytest.raises(ConfigError) as caught:
        load({"ROUTES_FILE": str(own)})
    expected = (
        f"JWT_SECRET: is not set, and the tokens block ({own}:{line}) needs it; "
        "set it, or delete the tokens block"
    )
    assert (expected,) == caught.value.mistakes


@pytest.mark.parametrize(("text", "expected"), [("forward", False), ("reject", True)])
def test_what_becomes_of_writes_while_redis_is_away(text: str, expected: bool) -> None:
    """on_redis_loss: forward or reject, nothing else."""
    packaged = PACKAGED.read_text()
    data = packaged.replace("on_redis_loss: forward", f"on_redis_loss: {text}").encode()
    assert expected == parse(data, "routes.yaml", {"JWT_SECRET": SECRET}).redis.reject_writes
    broken = packaged.replace("on_redis_loss: forward", "on_redis_loss: maybe").encode()
    with pytest.raises(ConfigError, match="on_redis_loss: 'maybe' is not known; give forward or reject"):
        parse(broken, "routes.yaml", {"JWT_SECRET": SECRET})


def test_defaults() -> None:
    """A file that says only its version has the defaults of the documented tables."""
    settings = read()
    assert settings == Settings(
        upstream=UpstreamSettings(
            url="http://127.0.0.1:8000", connect_timeout=1.0, timeout=10.0, max_connections=100
        ),
        user=UserModel(id=("id",), keys=(), active=None, secrets=(), max_size=262144),
        views={},
        tokens=None,
        routes=(),
        redis=RedisSettings(url=None, pool_size=10, pool_timeout=5.0),
        listen=Address(host="0.0.0.0", port=8080),
        admin=Address(host="127.0.0.1", port=9090),
        admin_token=None,
        memory_entries=10000,
        workers=1,
        mode=Mode.SERVE,
        log_level="info",
        log_format="json",
        routes_file="routes.yaml",
    )
    assert "text" == read(terminal=True).log_format


def test_every_setting_is_declared_once() -> None:
    """The table is what the command line and the documentation are made of."""
    names = [setting.env for setting in SETTINGS]
    flags = [setting.flag for setting in SETTINGS if setting.flag]
    assert len(set(names)) == len(names)
    assert ["--routes", "--upstream", "--listen", "--admin", "--redis", "--workers", "--mode"] == flags
    assert all(setting.default and setting.help for setting in SETTINGS)


def test_everything_in_the_environment_is_read() -> None:
    """Each variable ends up in its field, in its unit."""
    settings = read(
        USERS,
        {
            "UPSTREAM_URL": "https://users:8443/",
            "LISTEN": "[::1]:81",
            "ADMIN_LISTEN": "0.0.0.0:0",
            "ADMIN_TOKEN": "tok",
            "REDIS_URL": "rediss://u:p@r:6380/1",
            "REDIS_POOL_SIZE": "3",
            "REDIS_POOL_TIMEOUT": "250ms",
            "USER_CACHE_TTL": "5m",
            "MEMORY_CACHE_ENTRIES": "7",
            "WORKERS": "0",
            "MODE": "off",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "text",
        },
        cores=6,
    )
    assert "https://users:8443" == settings.upstream.url
    assert (Address(host="::1", port=81), Address(host="0.0.0.0", port=0)) == (
        settings.listen,
        settings.admin,
    )
    assert "[::1]:81" == str(settings.listen)
    assert RedisSettings(url="rediss://u:p@r:6380/1", pool_size=3, pool_timeout=0.25) == settings.redis
    assert (300.0, 7, 6) == (settings.views["users"].ttl, settings.memory_entries, settings.workers)
    assert ("tok", Mode.OFF, "debug", "text") == (
        settings.admin_token,
        settings.mode,
        settings.log_level,
        settings.log_format,
    )


def test_flags_beat_environment_beats_file() -> None:
    """The nearer to the person, the stronger; an empty variable and a flag left out say nothing."""
    data = b"version: 1\nupstream: {url: 'http://file:1'}\n"
    environ = {"UPSTREAM_URL": "http://env:1", "WORKERS": ""}
    assert "http://flag:1" == read(data, environ, {"--upstream": "http://flag:1"}).upstream.url
    assert "http://flag:1" == read(data, environ, {"upstream": "http://flag:1"}).upstream.url
    assert "http://env:1" == read(data, environ, {"upstream": None, "workers": 1}).upstream.url
    assert "http://file:1" == read(data, {"UPSTREAM_URL": ""}).upstream.url


def test_private_redis_wins_but_not_over_the_flag() -> None:
    """The private network's URL is taken where a platform sets both."""
    for url in (
        "redis+cluster://a:1,b:2",
        "redis+cluster://u:p@[::1]:6379",
        "redis+sentinel://a:1,b:2,c:3/users",
    ):
        assert url == read(environ={"REDIS_URL": url}).redis.url
    both = {"REDIS_URL": "redis://a", "REDIS_PRIVATE_URL": "redis://b"}
    assert "redis://b" == read(environ=both).redis.url
    assert "redis://c" == read(environ=both, flags={"redis": "redis://c"}).redis.url
    assert "redis://a" == read(environ={**both, "REDIS_PRIVATE_URL": ""}).redis.url
    assert [
        "REDIS_PRIVATE_URL: not a URL of Redis; give redis://host:6379/0, rediss://… or unix:///path"
    ] == (mistakes(environ={**both, "REDIS_PRIVATE_URL": "b:6379"}))


@pytest.mark.parametrize(
    ("environ", "flags", "expected"),
    [
        ({"REDIS_POOL_SIZE": "ten"}, {}, "REDIS_POOL_SIZE: 'ten' is not a whole number; give e.g. 10"),
        ({"REDIS_POOL_SIZE": "0"}, {}, "REDIS_POOL_SIZE: 0 is out of bounds; give 1 to 10000"),
        ({"REDIS_POOL_SIZE": "-3"}, {}, "REDIS_POOL_SIZE: -3 is out of bounds; give 1 to 10000"),
        ({"REDIS_POOL_TIMEOUT": "0"}, {}, "REDIS_POOL_TIMEOUT: '0' leaves no time at all; give e.g. 5s"),
        ({"REDIS_POOL_TIMEOUT": "nan"}, {}, "REDIS_POOL_TIMEOUT: 'nan' is not a duration; give e.g. 300s, 10ms or 5m"),
        ({"REDIS_POOL_TIMEOUT": "inf"}, {}, "REDIS_POOL_TIMEOUT: 'inf' is not a duration; give e.g. 300s, 10ms or 5m"),
        ({"USER_CACHE_TTL": "-1"}, {}, "USER_CACHE_TTL: '-1' is not a duration; give e.g. 300s, 10ms or 5m"),
        ({"USER_CACHE_TTL": "400d"}, {}, "USER_CACHE_TTL: '400d' is too long; give at most 366d"),
        ({"USER_CACHE_TTL": "5"}, {}, "USER_CACHE_TTL: there is no view 'users' in routes.yaml; add it or unset the variable"),
        ({"MEMORY_CACHE_ENTRIES": "0"}, {}, "MEMORY_CACHE_ENTRIES: 0 is out of bounds; give 1 to 100000000"),
        ({"MEMORY_CACHE_ENTRIES": "1e4"}, {}, "MEMORY_CACHE_ENTRIES: '1e4' is not a whole number; give e.g. 10000"),
        ({"LISTEN": "8080"}, {}, "LISTEN: '8080' is not an address; give host:port, e.g. 127.0.0.1:8080"),
        ({"LISTEN": ":8080"}, {}, "LISTEN: ':8080' is not an address; give host:port, e.g. 127.0.0.1:8080"),
        ({"LISTEN": "::1:8080"}, {}, "LISTEN: '::1:8080' is not an address; give host:port, e.g. 127.0.0.1:8080"),
        ({}, {"listen": "0.0.0.0:65536"}, "--listen: the port of '0.0.0.0:65536': 65536 is out of bounds; give 0 to 65535"),
        ({}, {"listen": "h:x"}, "--listen: the port of 'h:x': 'x' is not a whole number; give e.g. 8080"),
        ({}, {"admin": "[h]:1"}, "--admin: '[h]:1' is not an address; give host:port, e.g. 127.0.0.1:8080"),
        ({}, {"workers": 2}, "--workers: 2 workers need Redis to agree; set REDIS_URL, or give 1"),
        ({"WORKERS": "-1"}, {}, "WORKERS: -1 is out of bounds; give 0 to 1024"),
        ({"MODE": "on"}, {}, "MODE: 'on' is not one of serve, shadow, off"),
        ({"LOG_LEVEL": "loud"}, {}, "LOG_LEVEL: 'loud' is not one of debug, info, warning, error, critical"),
        ({"LOG_FORMAT": "xml"}, {}, "LOG_FORMAT: 'xml' is not one of json, text"),
        ({"ADMIN_TOKEN": "a b"}, {}, "ADMIN_TOKEN: holds blanks or characters that a header cannot; give letters and digits"),
        ({"ADMIN_LISTEN": "0.0.0.0:9090"}, {}, "ADMIN_LISTEN: 0.0.0.0:9090 can be reached from outside; set ADMIN_TOKEN, or listen on 127.0.0.1"),
        ({"ADMIN_LISTEN": "h:9090"}, {}, "ADMIN_LISTEN: h:9090 can be reached from outside; set ADMIN_TOKEN, or listen on 127.0.0.1"),
        ({"ADMIN_LISTEN": "localhost:8080"}, {}, "ADMIN_LISTEN: localhost:8080 is also what LISTEN asks for; give another port"),
        ({}, {"listen": "127.0.0.1:9090"}, "ADMIN_LISTEN: 127.0.0.1:9090 is also what --listen asks for; give another port"),
        ({"UPSTREAM_URL": "users:8000"}, {}, "UPSTREAM_URL: not a URL of an upstream; give http://host:port, https://host:port or unix:/path"),
        ({"UPSTREAM_URL": "ftp://u"}, {}, "UPSTREAM_URL: not a URL of an upstream; give http://host:port, https://host:port or unix:/path"),
        ({"UPSTREAM_URL": "http://u/api"}, {}, "UPSTREAM_URL: holds more than host and port; requests keep their own path, give http://host:port"),
        ({"UPSTREAM_URL": "http://u?"}, {}, "UPSTREAM_URL: holds more than host and port; requests keep their own path, give http://host:port"),
        ({"UPSTREAM_URL": "http://me:hush@u"}, {}, "UPSTREAM_URL: holds a user name; give http://host:port without it"),
        ({"UPSTREAM_URL": "http://u:99999"}, {}, "UPSTREAM_URL: not a URL: its host or port is not one; give a port of 1 to 65535"),
        ({"UPSTREAM_URL": "http://u:0"}, {}, "UPSTREAM_URL: not a URL: its host or port is not one; give a port of 1 to 65535"),
        ({"UPSTREAM_URL": "http://[u"}, {}, "UPSTREAM_URL: not a URL: its host or port is not one; give a port of 1 to 65535"),
        ({"UPSTREAM_URL": "http://u u"}, {}, "UPSTREAM_URL: not a URL: it holds blanks or control characters"),
        ({"UPSTREAM_URL": "unix:run/s"}, {}, "UPSTREAM_URL: not a socket's path; give unix:/path, e.g. unix:/run/users.sock"),
        ({"REDIS_URL": "redis+cluster://a:1,b"}, {}, "REDIS_URL: each server is host:port; give redis+cluster://host:6379,host:6379"),
        ({"REDIS_URL": "redis+cluster://a:1/0"}, {}, "REDIS_URL: a Cluster has one database; give redis+cluster://host:6379,host:6379"),
        ({}, {"redis": "redis+sentinel://a:1"}, "--redis: the master's name is missing; give redis+sentinel://host:26379,host:26379/name"),
        ({"REDIS_URL": "redis://h/zero"}, {}, "REDIS_URL: the database is not a number; give redis://host:6379/0"),
        ({"REDIS_URL": "redis://:hush@"}, {}, "REDIS_URL: not a URL of Redis; give redis://host:6379/0, rediss://… or unix:///path"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_setting(
    environ: dict[str, str], flags: dict[str, str | int | None], expected: str
) -> None:
    """Each names its flag or variable and says what to give; passwords are not repeated."""
    assert [expected] == mistakes(environ=environ, flags=flags)


@pytest.mark.parametrize("url", ["redis://h", "redis://:p@h:1/3?x=1", "rediss://h", "unix:///r.sock?db=1"])
def test_redis_urls(url: str) -> None:
    """A URL of Redis is handed on as it came."""
    assert url == read(environ={"REDIS_URL": url}).redis.url


@pytest.mark.parametrize("url", ["http://h", "https://h:1", "unix:/run/u.sock", "http://[::1]:8000"])
def test_upstream_urls(url: str) -> None:
    """An upstream has a host and a port, or a socket."""
    assert url == read(environ={"UPSTREAM_URL": url}).upstream.url


def test_workers_and_admin_in_company() -> None:
    """What is wrong alone is right together with what it needs."""
    environ = {"WORKERS": "0", "REDIS_URL": "redis://h", "ADMIN_LISTEN": "0.0.0.0:1", "ADMIN_TOKEN": "t"}
    assert 4 == read(environ=environ, cores=4).workers
    assert ["WORKERS: 4 workers need Redis to agree; set REDIS_URL, or give 1"] == mistakes(
        environ={"WORKERS": "0"}, cores=4
    )
    # One port on two addresses is no conflict.
    assert 9 == read(environ={"LISTEN": "127.0.0.1:9", "ADMIN_LISTEN": "127.0.0.2:9"}).admin.port
    assert 0 == read(environ={"LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0"}).admin.port


def test_all_mistakes_come_together() -> None:
    """The file's in the order of the file, then those of flags and environment."""
    data = b"version: 2\nviews:\n  users: {ttl: soon}\nuser: {idd: x}\n"
    assert [
        "routes.yaml:1: version: version '2' is not known; this program reads version 1",
        "routes.yaml:3: views.users.ttl: 'soon' is not a duration; give e.g. 300s, 10ms or 5m",
        "routes.yaml:4: user.idd: unknown key; did you mean 'id'?",
        "REDIS_POOL_SIZE: 'ten' is not a whole number; give e.g. 10",
        "--listen: 'x' is not an address; give host:port, e.g. 127.0.0.1:8080",
    ] == mistakes(data, {"REDIS_POOL_SIZE": "ten"}, {"listen": "x"})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The mistake names the file and where its name came from, and the others are still told."""
    missing = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load({"ROUTES_FILE": str(missing), "MODE": "on", "USER_CACHE_TTL": "1s"})
    assert (
        f"{missing}: cannot be read (No such file or directory); check ROUTES_FILE",
        "MODE: 'on' is not one of serve, shadow, off",
    ) == caught.value.mistakes
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\); check --routes"):
        load({}, {"routes": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"cannot be read \(not a path\); check --routes"):
        load({}, {"routes": "a\0b"})


def test_a_named_file_is_read_and_named(tmp_path: Path) -> None:
    """Mistakes carry the path as the person wrote it, so that it can be clicked."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(MINIMAL)
    assert str(file) == load({"ROUTES_FILE": str(file)}).routes_file
    file.write_bytes(b"version: 3")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}:1: version: "):
        load({}, {"--routes": str(file)})


TOKENS = b"version: 1\ntokens: {secret_env: KEY, algorithms: [HS256, HS512], audience: a}\n"


def test_the_secret_comes_from_the_named_variable() -> None:
    """The file names the variable and never holds the secret."""
    tokens = read(TOKENS, {"KEY": "k"}).tokens
    assert tokens is not None
    assert ("k", ("HS256", "HS512"), "a", None) == (
        tokens.secret,
        tokens.algorithms,
        tokens.audience,
        tokens.issuer,
    )
    assert [
        "KEY: is not set, and the tokens block (routes.yaml:2) needs it; set it, or delete the tokens block"
    ] == mistakes(TOKENS, {"JWT_SECRET": "x"})


@pytest.mark.parametrize(("length", "warned"), [(63, True), (64, False)])
def test_a_short_secret_is_a_warning(length: int, warned: bool) -> None:
    """RFC 7518 §3.2 wants a key as long as the hash; a shorter one works, and is told."""
    expected = ("tokens: the secret is shorter than 64 bytes and can be guessed; use a longer one",)
    assert (expected if warned else ()) == warnings(read(TOKENS, {"KEY": "k" * length}))


def test_fields_without_proof_are_a_warning() -> None:
    """A view that leaves out what proves whose it is, or that it is active, would never be a hit."""
    data = b"""version: 1
user: {id: meta.id, active: on, keys: {email: {path: email}}}
views: {thin: {ttl: 1s, fields: [name]}}
tokens: {}
routes:
  - {match: "GET /u/{email}", lookup: {by: email, view: thin}}
  - {match: "GET /me", introspect: {answer: view, view: thin}}
  - {match: "GET /told", introspect: {answer: rfc7662, view: thin, fields: [name, email]}}
  - {match: "POST /x", pass: true}
"""
    data = data.replace(b"active: on", b"active: is_active")
    nobody = "so nothing says whose a copy is and none is stored"
    assert (
        f"GET /u/{{email}}: view 'thin' has no field 'meta', {nobody}",
        "GET /u/{email}: view 'thin' has no field 'email', so a look-up by email is never answered from it",
        f"GET /me: view 'thin' has no field 'meta', {nobody}",
        "GET /me: view 'thin' has no field 'is_active', so an inactive user is not noticed",
        f"GET /told: view 'thin' has no field 'meta', {nobody}",
        "GET /told: view 'thin' has no field 'email', so email is never shown",
        "GET /told: view 'thin' has no field 'is_active', so an inactive user is not noticed",
    ) == warnings(read(data, {"JWT_SECRET": SECRET}))


def test_nothing_prints_a_secret() -> None:
    """Settings end up in tracebacks and reports; secrets must not."""
    environ = {
        "KEY": "hush-1",
        "ADMIN_TOKEN": "hush-2",
        "REDIS_URL": "redis://u:hush-3@r:1/0?password=hush-4",
    }
    settings = read(TOKENS, environ)
    shown = repr(settings) + str(settings) + repr(settings.__rich_repr__()) + repr(settings.redis)
    assert "hush" not in shown
    assert "redis://r:1/0" in shown
    assert "***" == dict(settings.__rich_repr__())["admin_token"]
    assert "hush" not in repr(RedisSettings(url="redis://h?password=a@hush"))
    assert "redis://u:p" not in repr(RedisSettings(url="redis://u:p?@h"))


def test_a_whole_file() -> None:
    """Every part of the documented file arrives in its field."""
    data = b"""version: 1
upstream: {url: "unix:/run/u.sock", connect_timeout: 100ms, timeout: 1m, max_connections: 5}
user:
  id: data.id
  keys: {email: {path: data.email, ignore_case: true}, phone: {path: phone}}
  secrets: [pin]
  max_size: 1MiB
views:
  users: {ttl: 1h, negative_ttl: 1.5, stale_while_revalidate: 2s, stale_if_error: 1d, fields: [data, phone]}
tokens: {issuer: null, leeway: 5s, subject: user.id}
routes:
  - {match: "GET /u/{address}", lookup: {by: email, view: users}, access: token, secrets: bypass}
  - {match: "GET /u?ids={ids:list}", lookup: {by: id, many: ids, view: users}, access: anyone}
  - match: "PUT,PATCH /p/{n}?q={m}"
    write: {evict: [{id: token}, {email: path.n}, {phone: query.m}, {id: request.a.b}, {id: response.id}]}
"""
    settings = read(data, {"JWT_SECRET": SECRET, "USER_CACHE_TTL": "9"})
    assert settings.upstream == UpstreamSettings(
        url="unix:/run/u.sock", connect_timeout=0.1, timeout=60.0, max_connections=5
    )
    keys = (
        UserKey(name="email", path=("data", "email"), ignore_case=True),
        UserKey(name="phone", path=("phone",)),
    )
    assert UserModel(id=("data", "id"), keys=keys, secrets=("pin",), max_size=2**20) == settings.user
    assert settings.views["users"] == View(
        name="users",
        ttl=9.0,
        negative_ttl=1.5,
        stale_while_revalidate=2.0,
        stale_if_error=86400.0,
        fields=frozenset({"data", "phone"}),
    )
    one, many, write = settings.routes
    assert (Lookup(by="email", var="address", view="users"), Access.TOKEN, SecretsRule.BYPASS) == (
        one.action,
        one.access,
        one.secrets,
    )
    assert Lookup(by="id", var="ids", view="users", many=True) == many.action
    assert write.action == Write(
        targets=(
            Target(key="id", place="token"),
            Target(key="email", place="path", path=("n",)),
            Target(key="phone", place="query", path=("m",)),
            Target(key="id", place="request", path=("a", "b")),
            Target(key="id", place="response", path=("id",)),
        )
    )


def test_the_settings_are_reachable_from_one_module() -> None:
    """Callers need no other module of the configuration."""
    assert {"SETTINGS", "Setting", "load", "parse", "warnings"} == set(config.__all__)
