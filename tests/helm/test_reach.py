"""Who reaches what: Services, Ingress, NetworkPolicy, Prometheus and `helm test`."""

from __future__ import annotations

import pytest
import yaml

from tests.helm.charts import CHART, NAME, Helm
from tests.helm.matrix import FLEET, MATRIX, SINGLE, over


def test_the_admin_and_peer_ports_are_for_few(helm: Helm):
    rules = {
        rule["ports"][0]["port"]: rule.get("from")
        for rule in helm.render(FLEET).one("NetworkPolicy")["spec"]["ingress"]
    }
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    assert rules["registry"] is None
    assert rules["admin"] == [{"namespaceSelector": monitoring}]
    (peers,) = rules["peers"]
    assert peers["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "proxy"


def test_a_closed_network_is_closed(helm: Helm):
    """No names for the admin port means nobody, and `helm test` still gets through."""
    spec = helm.render(MATRIX["closed network"]).one("NetworkPolicy")["spec"]
    rules = {rule["ports"][0]["port"]: rule["from"] for rule in spec["ingress"]}
    assert set(rules) == {"registry", "peers"}
    assert rules["registry"][0] == {"ipBlock": {"cidr": "10.0.0.0/8"}}
    assert rules["registry"][1]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/instance": "cache",
        "app.kubernetes.io/component": "test",
    }
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_only_pulls_are_offered_to_the_outside(helm: Helm):
    rendered = helm.render(MATRIX["node port"])
    service = rendered.one("Service", NAME)["spec"]
    assert service["ports"] == [
        {"name": "registry", "port": 5000, "targetPort": "registry", "nodePort": 30500}
    ]
    assert service["type"] == "NodePort"
    pods = rendered.one("Service", f"{NAME}-pods")["spec"]
    assert pods["clusterIP"] == "None"


def test_further_listeners_are_reached_as_the_first_one_is(helm: Helm):
    rendered = helm.render(MATRIX["island"])
    assert {"name": "pulls-5010", "containerPort": 5010} in rendered.container["ports"]
    further = rendered.one("Service", NAME)["spec"]["ports"][1]
    assert further == {"name": "pulls-5010", "port": 5010, "targetPort": "pulls-5010"}
    first_rule = rendered.one("NetworkPolicy")["spec"]["ingress"][0]
    assert first_rule == {"ports": [{"port": "registry"}, {"port": "pulls-5010"}]}


def test_a_host_port_lets_the_old_replica_go_first(helm: Helm):
    rendered = helm.render(MATRIX["host port"])
    assert rendered.container["ports"][0] == {
        "name": "registry",
        "containerPort": 5000,
        "hostPort": 5000,
        "hostIP": "127.0.0.1",
    }
    assert rendered.workload["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }


def test_the_ingress_leads_to_the_pull_port(helm: Helm):
    spec = helm.render(MATRIX["ingress"]).one("Ingress")["spec"]
    assert [one["host"] for one in spec["rules"]] == ["cache.example", "*.mirror.example"]
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        assert path["backend"] == {"service": {"name": NAME, "port": {"name": "registry"}}}
    assert spec["ingressClassName"] == "nginx"


@pytest.mark.parametrize(
    ("values", "kind"), [("watched", "ServiceMonitor"), ("watched by pod", "PodMonitor")]
)
def test_prometheus_scrapes_the_admin_port(helm: Helm, values: str, kind: str):
    rendered = helm.render(MATRIX[values])
    spec = rendered.one(kind)["spec"]
    (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    # The alerts find Entrepot by its job.
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "entrepot"}]
    if kind == "ServiceMonitor":
        wanted = spec["selector"]["matchLabels"].items()
        found = [
            one for one in rendered.of("Service") if wanted <= one["metadata"]["labels"].items()
        ]
        assert [one["metadata"]["name"] for one in found] == [f"{NAME}-pods"]
        assert found[0]["spec"]["ports"][0]["name"] == "admin"


def test_the_alerts_come_through_unchanged(helm: Helm):
    """Prometheus's own {{ templates }} in them are not Helm's."""
    rule = helm.render(MATRIX["watched"]).one("PrometheusRule")
    file = yaml.safe_load((CHART / "files" / "entrepot.rules.yaml").read_text())
    assert rule["spec"] == file
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_the_test_pod_pulls_through_the_service(helm: Helm):
    (container,) = helm.render(SINGLE).one("Pod")["spec"]["containers"]
    assert container["command"] == ["python3", "/scripts/pull.py"]
    assert container["args"] == [
        f"http://{NAME}.mirrors.svc:5000",
        "docker.io/library/busybox:latest",
    ]
    secure = helm.render(over(SINGLE, tls={"existingSecret": "cert"}))
    (container,) = secure.one("Pod")["spec"]["containers"]
    assert container["args"][0].startswith("https://")
    assert container["args"][2:] == ["--insecure"]


def test_nothing_is_tested_where_clients_need_certificates(helm: Helm):
    assert helm.render(MATRIX["every credential"]).of("Pod") == []
