"""Over all ways to run it: what Helm renders is what Kubernetes and Entrepot accept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config import load
from tests.helm.charts import CHART, NAME, Helm, Rendered
from tests.helm.kubernetes import VERSIONS, trouble
from tests.helm.matrix import FLEET, MATRIX

NOT_KUBERNETES = "monitoring.coreos.com/"
PEER_SECRET = "sixteen characters or more"


@pytest.fixture(scope="module", params=MATRIX.values(), ids=MATRIX)
def rendered(helm: Helm, request: pytest.FixtureRequest) -> Rendered:
    return helm.render(request.param)


@pytest.mark.parametrize("values", [*MATRIX.values(), {}], ids=[*MATRIX, "the defaults"])
def test_lint_finds_nothing(helm: Helm, values: dict):
    messages = helm.ask("lint", chart=str(CHART), values=values)["messages"]
    assert [one for one in messages if one["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(rendered: Rendered, version: str):
    ours = [one for one in rendered.documents if not one["apiVersion"].startswith(NOT_KUBERNETES)]
    assert {one["metadata"]["name"]: trouble(one, version) for one in ours} == {
        one["metadata"]["name"]: [] for one in ours
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_would_notice_a_typing_mistake(helm: Helm, version: str):
    workload = helm.render(FLEET).workload
    assert trouble(workload, version) == []
    workload["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    workload["spec"]["replicas"] = "two"
    assert [one.partition(":")[0] for one in sorted(trouble(workload, version))] == [
        "$.spec.replicas",
        "$.spec.template.spec.containers[0]",
    ]


def test_names_are_unique_and_in_the_namespace(rendered: Rendered):
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered.documents]
    assert len(set(names)) == len(names)
    assert {one["metadata"]["namespace"] for one in rendered.documents} == {"mirrors"}
    assert all(name.startswith(NAME) or kind == "ServiceAccount" for kind, name in names)


def test_entrepot_takes_the_configuration(rendered: Rendered, tmp_path: Path):
    """Every file that it names is mounted, and nothing is mounted in vain."""
    folder = "/run/secrets/entrepot"
    named = set(re.findall(rf"{folder}/\S+", rendered.config_text))
    assert named == rendered.secret_paths()
    for path in named:
        file = tmp_path / path.removeprefix(f"{folder}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        match file.suffix:
            case ".json":
                file.write_text("{}")
            case _:
                file.write_text("http://proxy:1" if file.name == "proxy" else PEER_SECRET)
    config = tmp_path / "entrepot.yaml"
    config.write_text(rendered.config_text.replace(folder, str(tmp_path)))
    variables = {
        one["name"]: one["value"].replace(
            "$(POD_IP)", "fd00::7" if "[" in one["value"] else "10.0.0.7"
        )
        for one in rendered.container.get("env", [])
        if "value" in one
    }
    settings = load(config, variables, {})
    ports = {one["name"]: one["containerPort"] for one in rendered.container["ports"]}
    assert settings.listen.endswith(f":{ports['registry']}")
    assert settings.admin_listen.endswith(f":{ports['admin']}")
    if "peers" in ports:
        assert settings.peer_listen is not None
        assert settings.peer_listen.endswith(f":{ports['peers']}")
        assert settings.advertise_url in {"http://10.0.0.7:5002", "http://[fd00::7]:5002"}


def test_no_secret_is_in_plain_sight(helm: Helm, rendered: Rendered):
    for secret in rendered.of("Secret"):
        assert secret["metadata"]["name"] == f"{NAME}-peers"
        (value,) = secret["data"].values()
        others = [one for one in rendered.documents if one is not secret]
        assert value not in str(others)


def test_all_pods_run_with_the_least_they_need(rendered: Rendered):
    templates = [one["spec"]["template"]["spec"] for one in rendered.of("DaemonSet")]
    templates += [rendered.pod["spec"], *(one["spec"] for one in rendered.of("Pod"))]
    assert len(templates) >= 1
    for pod in templates:
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounted = {one["name"] for one in container["volumeMounts"]}
            there = {one["name"] for one in pod.get("volumes", [])}
            assert mounted <= there | {"data"}
    assert rendered.pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_selectors_find_exactly_the_proxys_pods(rendered: Rendered):
    labels = rendered.pod["metadata"]["labels"].items()
    selectors = [one["spec"]["selector"] for one in rendered.of("Service")]
    selectors += [rendered.workload["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in rendered.of("PodMonitor")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in rendered.of("NetworkPolicy")]
    others = [one["metadata"]["labels"].items() for one in rendered.of("Pod")]
    others += [
        one["spec"]["template"]["metadata"]["labels"].items() for one in rendered.of("DaemonSet")
    ]
    for selector in selectors:
        assert selector.items() <= labels
        assert not any(selector.items() <= other for other in others)


def test_the_same_values_give_the_same_pods(helm: Helm):
    """A peer secret that is made anew without a cluster must not roll the replicas."""
    first, second = helm.render(FLEET), helm.render(FLEET)
    assert first.pod == second.pod
    assert first.one("Secret")["data"] != second.one("Secret")["data"]
