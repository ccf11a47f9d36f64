"""Value by value: what it does to the objects."""

from __future__ import annotations

import base64

from tests.helm.charts import NAME, Helm
from tests.helm.matrix import FLEET, MATRIX, SINGLE, over


def test_a_fleet_is_a_deployment_of_two(helm: Helm):
    rendered = helm.render(FLEET)
    assert rendered.workload["kind"] == "Deployment"
    assert rendered.workload["spec"]["replicas"] == 2
    assert rendered.workload["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    volumes = {one["name"]: one for one in rendered.pod["spec"]["volumes"]}
    assert volumes["data"]["emptyDir"] == {"sizeLimit": "20Gi"}
    assert rendered.config["disk_bytes_max"] == "18432MiB"


def test_a_single_one_has_nothing_of_a_fleet(helm: Helm):
    rendered = helm.render(over(SINGLE, replicas=5))
    assert rendered.workload["spec"]["replicas"] == 1
    assert rendered.of("Secret") == rendered.of("PodDisruptionBudget") == []
    assert rendered.config.keys().isdisjoint({"peer_listen", "peer_secret_file", "redis"})
    assert [one["name"] for one in rendered.container["ports"]] == ["registry", "admin"]
    assert "env" not in rendered.container


def test_a_persistent_local_tier_makes_a_stateful_set(helm: Helm):
    rendered = helm.render(MATRIX["fleet, kept on volumes"])
    spec = rendered.workload["spec"]
    assert rendered.workload["kind"] == "StatefulSet"
    assert spec["serviceName"] == rendered.one("Service", f"{NAME}-pods")["metadata"]["name"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Delete",
        "whenScaled": "Delete",
    }
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"] == {"name": "data", "annotations": {"backup": "no"}}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "50Gi"}},
    }
    assert rendered.config["disk_bytes_max"] == "46080MiB"
    assert "data" not in {one["name"] for one in rendered.pod["spec"]["volumes"]}


def test_ones_own_bound_of_the_disk_wins(helm: Helm):
    rendered = helm.render(over(SINGLE, config={"disk_bytes_max": "5GiB"}))
    assert rendered.config["disk_bytes_max"] == "5GiB"


def test_probes_ask_the_admin_port(helm: Helm):
    container = helm.render(SINGLE).container
    paths = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


def test_the_grace_period_covers_the_drain(helm: Helm):
    rendered = helm.render(over(SINGLE, drain={"delaySeconds": 10, "seconds": 300}))
    assert rendered.config["drain_delay_s"] == 10
    assert rendered.config["drain_s"] == 300
    assert rendered.pod["spec"]["terminationGracePeriodSeconds"] == 325


def test_replicas_advertise_their_pods_addresses(helm: Helm):
    env = {one["name"]: one for one in helm.render(FLEET).container["env"]}
    assert env["POD_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert env["ENTREPOT_ADVERTISE_URL"]["value"] == "http://$(POD_IP):5002"
    # Kubernetes expands a variable only after it was defined.
    assert list(env) == ["POD_IP", "ENTREPOT_ADVERTISE_URL"]


def test_only_a_changed_configuration_rolls_the_pods(helm: Helm):
    def checksum(**more: object) -> str:
        annotations = helm.render(over(FLEET, **more)).pod["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum() == checksum(service={"port": 80}, replicas=7)
    assert checksum() != checksum(config={"tag_fresh_s": "10s"})
    assert checksum() != checksum(drain={"seconds": 61})


def test_the_load_decides_how_many(helm: Helm):
    rendered = helm.render(MATRIX["fleet, scaled by load"])
    assert "replicas" not in rendered.workload["spec"]
    spec = rendered.one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    resources = [one["resource"] for one in spec["metrics"] if one["type"] == "Resource"]
    assert {one["name"]: one["target"]["averageUtilization"] for one in resources} == {
        "cpu": 70,
        "memory": 80,
    }
    assert spec["metrics"][-1]["pods"]["metric"] == {"name": "entrepot_followers"}


def test_replicas_are_spread(helm: Helm):
    default = helm.render(FLEET).pod["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in default] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    (own,) = helm.render(MATRIX["every knob of the pod"]).pod["spec"]["topologySpreadConstraints"]
    assert own["topologyKey"] == "rack"
    for one in (*default, own):
        assert one["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "proxy"


def test_web_identity_is_on_the_service_account(helm: Helm):
    rendered = helm.render(MATRIX["web identity"])
    account = rendered.one("ServiceAccount")
    assert account["metadata"]["name"] == rendered.pod["spec"]["serviceAccountName"] == "cache"
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cache"
    }
    assert account["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert "access_key_file" not in rendered.config["storage"]["s3"]


def test_a_service_account_of_ones_own_is_only_named(helm: Helm):
    rendered = helm.render(over(SINGLE, serviceAccount={"create": False, "name": "mine"}))
    assert rendered.of("ServiceAccount") == []
    assert rendered.pod["spec"]["serviceAccountName"] == "mine"


def test_the_peer_secret_is_made_and_kept(helm: Helm):
    secret = helm.render(FLEET).one("Secret")
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert len(base64.b64decode(secret["data"]["peer-secret"])) >= 32


def test_a_peer_secret_of_ones_own_is_only_named(helm: Helm):
    rendered = helm.render(over(FLEET, credentials={"peers": {"existingSecret": "mine"}}))
    assert rendered.of("Secret") == []
    (secrets,) = (one for one in rendered.pod["spec"]["volumes"] if one["name"] == "secrets")
    assert secrets["projected"]["sources"] == [
        {"secret": {"name": "mine", "items": [{"key": "peer-secret", "path": "peers"}]}}
    ]


def test_every_knob_of_the_pod_turns(helm: Helm):
    rendered = helm.render(MATRIX["every knob of the pod"])
    pod, container = rendered.pod, rendered.container
    assert container["image"] == "registry.example/entrepot@sha256:" + "0" * 64
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["metadata"]["labels"]["tier"] == "infra"
    assert pod["metadata"]["annotations"]["note"] == "x"
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert pod["spec"]["tolerations"][0]["key"] == "cache"
    assert pod["spec"]["affinity"] == {"nodeAffinity": {}}
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
    assert {"name": "more", "emptyDir": {}} in pod["spec"]["volumes"]
    # Numbers stay what they were, and null is a value.
    assert rendered.config["manifest_bytes_max"] == 16777216
    assert rendered.config["default_upstream"] is None


def test_what_is_there_without_asking(helm: Helm):
    kinds = {one["kind"] for one in helm.render(SINGLE).documents}
    assert kinds == {
        *("Deployment", "Service", "ConfigMap", "ServiceAccount", "NetworkPolicy", "Pod"),
    }


def test_the_notes_say_how_to_test_it(helm: Helm):
    notes = helm.render(SINGLE).notes
    assert f"http://{NAME}.mirrors.svc:5000" in notes
    assert "helm test cache --namespace mirrors" in notes
