"""The manifests fit the Kubernetes API, each other, and what the compose file and the Procfile say."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from producers.local.processes import procfile
from shared.settings import Settings
from workers.watch import LAST_SECONDS

FOLDER = Path(__file__).resolve().parents[2] / "ops" / "kubernetes"
#: The newest the schemas know; the manifests use nothing younger than 1.25.
VERSIONS = ("1.37", "1.30")
OURS = set(procfile())


def read(name: str) -> list[dict[str, Any]]:
    """The manifests of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def kustomization() -> dict[str, Any]:
    """What `kubectl apply -k` reads first."""
    return read("kustomization.yaml")[0]


@pytest.fixture(scope="module")
def manifests(kustomization: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that is applied."""
    return [manifest for name in kustomization["resources"] for manifest in read(name)]


@pytest.fixture(scope="module")
def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod of each workload, by the workload's name."""
    kinds = {"Deployment", "StatefulSet"}
    return {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in manifests if m["kind"] in kinds}


def container(pods: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The one container of a pod."""
    (found,) = pods[name]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_the_api(manifests: list[dict[str, Any]], version: str) -> None:
    """Strictly: a field the API does not know is a mistake, too; and that would be noticed."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests[1] | {"dta": {}}, version, strict=True)


def test_every_file_is_applied(kustomization: dict[str, Any]) -> None:
    """Beside the list itself and the values for another program, each file of the folder is on the list."""
    files = {path.name for path in FOLDER.glob("*.yaml")}

    assert files - set(kustomization["resources"]) == {"kustomization.yaml", "prometheus-adapter.yaml"}


def test_the_workloads_are_the_processes_of_the_procfile(pods: dict[str, dict[str, Any]]) -> None:
    """Every process is a workload of the same name and command, beside Redis."""
    assert {name: container(pods, name)["command"] for name in OURS} == procfile()
    assert set(pods) - OURS == {"redis"}
    assert {container(pods, name)["image"] for name in OURS} == {"conveyor"}


def test_redis_is_the_one_of_the_compose_file(pods: dict[str, dict[str, Any]]) -> None:
    """The same server with the same options; only where its password is differs."""
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())["services"]["redis"]

    ours = container(pods, "redis")

    assert ours["image"] == compose["image"]
    expected = compose["command"][-1].replace("$$", "$").replace("/run/secrets", "/etc/conveyor/secrets")
    assert ours["command"][-1] == expected


def test_every_pod_is_shut_in(pods: dict[str, dict[str, Any]]) -> None:
    """No root, nothing writable but a bounded /tmp, no token of the cluster's, bounded memory."""
    for name, pod in pods.items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        inside = container(pods, name)
        assert inside["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert "memory" in inside["resources"]["limits"], name
        if name in OURS:
            assert pod["securityContext"]["runAsUser"] == 10001


def test_the_cluster_adds_no_variables_of_its_own(pods: dict[str, dict[str, Any]]) -> None:
    """A Service called flower would set FLOWER_PORT=tcp://…, which is a setting of ours."""
    assert all(pod["enableServiceLinks"] is False for pod in pods.values())


def test_every_pod_has_time_to_stop_and_says_how_it_is(pods: dict[str, dict[str, Any]]) -> None:
    """More than twice what a worker needs; a worker is asked whether it takes messages."""
    for name in OURS:
        assert pods[name]["terminationGracePeriodSeconds"] >= 2 * LAST_SECONDS
        assert {"startupProbe", "livenessProbe"} <= set(container(pods, name))
    for probe in ("startupProbe", "livenessProbe"):
        assert container(pods, "worker")[probe]["exec"]["command"] == ["python", "-m", "workers.health"]


def test_every_secret_file_is_mounted_and_none_without_need(
    manifests: list[dict[str, Any]], pods: dict[str, dict[str, Any]]
) -> None:
    """Each `…_FILE` is a setting of ours and names a key that its pod mounts, and no other key is."""
    (settings,) = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    for name in OURS:
        inside = container(pods, name)
        environment = settings | {variable["name"]: variable["value"] for variable in inside["env"]}
        named = {key: value for key, value in environment.items() if key.endswith("_FILE")}
        assert {key.removesuffix("_FILE") for key in named} <= Settings.secrets() | {"FLOWER_BASIC_AUTH"}
        (secret,) = [volume["secret"] for volume in pods[name]["volumes"] if volume["name"] == "secrets"]
        mount = next(m["mountPath"] for m in inside["volumeMounts"] if m["name"] == "secrets")
        assert {f"{mount}/{item['path']}" for item in secret["items"]} == set(named.values())
        assert {key for key in environment if key.startswith("CONVEYOR_")} - {
            f"{key}_FILE" for key in Settings.secrets()
        } <= Settings.names()


def test_selectors_find_their_pods(manifests: list[dict[str, Any]], pods: dict[str, dict[str, Any]]) -> None:
    """Services, budgets of disruptions and the workloads themselves name labels that some pod has."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            selector = manifest["spec"]["selector"]["matchLabels"]
            assert manifest["spec"]["template"]["metadata"]["labels"].items() >= selector.items()
        elif manifest["kind"] in {"Service", "PodDisruptionBudget"}:
            selector = manifest["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
        else:
            continue
        assert selector == {"app.kubernetes.io/name": manifest["metadata"]["name"]}
        assert manifest["metadata"]["name"] in pods


def test_workers_are_scaled_by_a_metric_we_export(manifests: list[dict[str, Any]]) -> None:
    """The autoscaler asks for what the adapter makes of a gauge of ours, and owns the number of workers."""
    (scaler,) = [m["spec"] for m in manifests if m["kind"] == "HorizontalPodAutoscaler"]
    (worker,) = [m["spec"] for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == "worker"]
    (rule,) = read("prometheus-adapter.yaml")[0]["rules"]["external"]

    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}
    assert "replicas" not in worker
    assert scaler["metrics"][0]["external"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"] in rule["metricsQuery"]
    documented = (FOLDER.parents[1] / "docs/reference/metrics.md").read_text()
    assert f"| `{rule['seriesQuery']}` |" in documented
