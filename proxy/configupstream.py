"""The block of `routes.yaml` that says where the service is and how it is talked to."""

from __future__ import annotations

from pathlib import PurePath

from proxy.configfile import Node, Reader
from proxy.configvalues import choice, text_value, timeout, upstream_url, whole
from proxy.core.settings import HostLine, Settings, UpstreamSettings


def read_upstream(reader: Reader, root: Node) -> UpstreamSettings:
    """The `upstream` block. Paths start at the routes file; the files themselves are not looked at."""
    default = UpstreamSettings()
    if "upstream" not in root:
        return default
    block = reader.table(root.members["upstream"], UpstreamSettings.__struct_fields__)

    def path(text: str) -> str:
        return str(PurePath(reader.name).parent / text_value(text))

    found = UpstreamSettings(
        url=reader.value(block, "url", upstream_url, default.url),
        connect_timeout=reader.value(block, "connect_timeout", timeout, default.connect_timeout),
        timeout=reader.value(block, "timeout", timeout, default.timeout),
        head_timeout=reader.value(block, "head_timeout", timeout, None),
        idle_timeout=reader.value(block, "idle_timeout", timeout, None),
        max_connections=reader.value(
            block, "max_connections", whole(1, 100_000, 100), default.max_connections
        ),
        host=reader.value(block, "host", lambda text: HostLine(choice(*HostLine)(text)), default.host),
        ca_file=reader.value(block, "ca_file", path, None),
        verify=reader.flag(block, "verify", default=default.verify),
        certificate_file=reader.value(block, "certificate_file", path, None),
        key_file=reader.value(block, "key_file", path, None),
    )
    if "key_file" in block and "certificate_file" not in block:
        reader.wrong(block.members["key_file"], "is the key of no certificate; give certificate_file too")
    if "ca_file" in block and not found.verify:
        reader.wrong(block.members["ca_file"], "is not looked at with verify: false; remove one of them")
    return found


def unmeant(settings: Settings) -> tuple[str, ...]:
    """What is allowed, but suspicious."""
    upstream = settings.upstream
    if not upstream.url.startswith("https:"):
        names = [name for name in ("ca_file", "certificate_file") if getattr(upstream, name) is not None]
        return tuple(f"upstream.{name}: is not used, as upstream's URL is not https" for name in names)
    if not upstream.verify:
        return ("upstream.verify: upstream's certificate is not checked; use ca_file for one of your own",)
    return ()
