"""The image as it is meant to run: not root, nothing writable, no rights, little memory (`make image-test`).

Built and run by podman with a storage of its own in build/image, or by docker. Where no registry has the base
image, one is made of Debian's packages (debootstrap) under its name, so that the Dockerfile stays as it is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, SECRET, Stub, ask, poll
from tests.valkey import Valkey

PLACE = ROOT / "build/image"
NAME = "localhost/user-cache-proxy:test"
BASE = re.findall(r"(?m)^FROM (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"))[-1]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN = ("trixie", "python3,python3-venv,python3-pip,ca-certificates")
# The limit of the example for Kubernetes.
MEMORY = "128m"
CONF = """[containers]
default_ulimits=["nofile=1024:1024","nproc=1024:1024"]
[engine]
cgroup_manager="cgroupfs"
events_logger="file"
runtime="{runtime}"
"""


class Tool:
    """podman with a storage of its own, or docker."""

    def __init__(self) -> None:
        name = next((one for one in ("podman", "docker") if shutil.which(one)), None)
        assert name is not None, "needs podman or docker"
        self.podman = name == "podman"
        self._words = [name]
        self._env = dict(os.environ)
        if self.podman:
            PLACE.mkdir(parents=True, exist_ok=True)
            conf = PLACE / "containers.conf"
            conf.write_text(CONF.format(runtime="runc" if shutil.which("runc") else "crun"), "utf-8")
            self._env["CONTAINERS_CONF"] = str(conf)
            self._words += ["--root", str(PLACE / "storage"), "--runroot", str(PLACE / "run")]

    def __call__(self, *words: str | Path, check: bool = True, timeout: float = 600) -> str:
        """What a command of it prints."""
        command = [*self._words, *(str(word) for word in words)]
        done = subprocess.run(
            command, env=self._env, capture_output=True, text=True, check=False, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()


def base(tool: Tool) -> None:
    """Makes sure that the base image is there: pulled, or made of Debian's packages."""
    with suppress(AssertionError):
        tool("image", "inspect", BASE)
        return
    with suppress(AssertionError, subprocess.TimeoutExpired):
        tool("pull", "--quiet", BASE, timeout=60)
        return
    assert shutil.which("debootstrap"), (
        f"no registry has {BASE} for us, and there is no debootstrap to make it"
    )
    release, packages = DEBIAN
    tree = PLACE / "debian"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", release, tree],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    packed = PLACE / "debian.tar"
    subprocess.run(["tar", "-C", tree, "-cf", packed, "."], check=True)
    shutil.rmtree(tree)
    tool("import", "--change", "CMD python3", packed, BASE)
    packed.unlink()


@pytest.fixture(name="tool", scope="module")
def _tool() -> Tool:
    return Tool()


@pytest.fixture(name="image", scope="module")
def _image(tool: Tool) -> dict[str, Any]:
    """The image out of the unchanged Dockerfile."""
    base(tool)
    more: list[str] = []
    if tool.podman:
        more = ["--isolation", "chroot", "--pull-never", "--format", "docker"]
        if CERTIFICATES.exists():
            more += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    tool("build", *more, "--quiet", "--tag", NAME, ROOT)
    (found,) = json.loads(tool("image", "inspect", NAME))
    return dict(found)


def check_of(image: dict[str, Any]) -> list[str]:
    """The health check as podman or docker tells it."""
    found = image.get("Healthcheck") or image["Config"]["Healthcheck"]
    return list(found["Test"])


@contextmanager
def running(tool: Tool, stub: Stub, valkey: Valkey, *more: str) -> Iterator[str]:
    """A container of it on the host's network, with everything taken away that it must not need."""
    admin, listen = 19090, 18080
    env = {
        "UPSTREAM_URL": stub.url,
        "REDIS_URL": "unix:///valkey/s",
        "JWT_SECRET": SECRET,
        "LISTEN": f"127.0.0.1:{listen}",
        "ADMIN_LISTEN": f"127.0.0.1:{admin}",
    }
    folder = Path(valkey.url.removeprefix("unix://")).parent
    words = ["run", "--detach", "--network", "host", "--read-only", "--cap-drop", "all"]
    words += ["--security-opt", "no-new-privileges", "--memory", MEMORY, "--volume", f"{folder}:/valkey"]
    words += [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    if tool.podman:
        # No tmpfs behind the back of --read-only.
        words += ["--pull", "never", "--read-only-tmpfs=false"]
    name = tool(*words, *more, NAME)
    try:
        yield name
    finally:
        tool("rm", "--force", name)


def test_what_the_image_says_of_itself(image: dict[str, Any], tool: Tool) -> None:
    """A user by number, a health check, and no shell around what runs; its size is told."""
    config = image["Config"]
    (of_base,) = json.loads(tool("image", "inspect", BASE))
    print(f"\nimage: {image['Size'] / 1e6:.0f} MB, of which the base {of_base['Size'] / 1e6:.0f} MB")  # noqa: T201 - make shows it

    assert "65532:65532" == config["User"]
    assert ["user-cache-proxy"] == config["Entrypoint"]
    assert "healthz" in " ".join(check_of(image))
    assert image["Size"] - of_base["Size"] < 90e6
    assert platform.machine().replace("x86_64", "amd64").replace("aarch64", "arm64") == image["Architecture"]


def test_it_runs_with_nothing_to_write_on(image: dict[str, Any], tool: Tool) -> None:
    """Ready in seconds in little memory, answers and hits, is healthy, and ends well when it is told to."""
    assert image
    with Valkey() as valkey, Stub.start() as stub:
        socket = Path(valkey.url.removeprefix("unix://"))
        # The container's user is another one.
        socket.chmod(0o777)
        socket.parent.chmod(0o755)
        with running(tool, stub, valkey) as name:
            began = time.monotonic()

            def ready() -> bool:
                with suppress(OSError):
                    return ask("http://127.0.0.1:19090", "GET", "/readyz").status == 200
                return False

            poll(ready, "ready", 30)
            took = time.monotonic() - began
            seen = [ask("http://127.0.0.1:18080", "GET", "/users/1") for _ in range(3)]
            assert [(200, "MISS"), (200, "HIT"), (200, "HIT")] == [(one.status, one.x_cache) for one in seen]
            assert "redis" == ask("http://127.0.0.1:19090", "GET", "/health").json()["backend"]
            who = tool("exec", name, "python", "-c", "import os; print(os.getuid(), os.getgid())")
            assert "65532 65532" == who
            for place in ("/", "/tmp", "/venv"):
                attempt = f"open({place + '/x'!r}, 'w')"
                assert "" == tool("exec", name, "python", "-c", attempt + "; print('written')", check=False)
            if tool.podman:
                tool("healthcheck", "run", name)
            tool("stop", "--time", "20", name)
            assert "0" == tool("inspect", "--format", "{{.State.ExitCode}}", name)
            print(f"\nimage: ready after {took:.1f} s with {MEMORY} of memory")  # noqa: T201 - make shows it


def test_it_says_what_is_wrong(image: dict[str, Any], tool: Tool) -> None:
    """The image's own check fails where nobody answers; a mistake in the settings is named."""
    check = check_of(image)
    asked = ["run", "--rm", "--network", "host", "--read-only", "--env", "ADMIN_LISTEN=127.0.0.1:1"]
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        tool(*asked, "--entrypoint", check[1], NAME, *check[2:])
    with pytest.raises(AssertionError, match="WORKERS"):
        tool("run", "--rm", "--network", "host", "--read-only", "--env", "WORKERS=many", NAME)


def test_the_line_of_the_readme_runs(image: dict[str, Any], tool: Tool) -> None:
    """As it is written, but for the ports, which stay those of the host, and the service's address."""
    assert image
    (line,) = re.findall(r"(?m)^docker (run .*) user-cache-proxy$", (ROOT / "README.md").read_text("utf-8"))
    with Stub.start() as stub:
        words = line.replace("-p 8080:8080", "--network host").replace("http://users:8000", stub.url)
        words = words.replace("-e JWT_SECRET ", f"-e JWT_SECRET={SECRET} ").replace(
            "run ", "run --detach ", 1
        )
        own = ["-e", "LISTEN=127.0.0.1:18081", "-e", "ADMIN_LISTEN=127.0.0.1:19091"]
        name = tool(*words.split(), *own, NAME)
        try:

            def answered() -> bool:
                with suppress(OSError):
                    return ask("http://127.0.0.1:18081", "GET", "/users/1").status == 200
                return False

            poll(answered, "an answer", 30)
        finally:
            tool("rm", "--force", "--time", "5", name)
