"""Values to render the chart with: each way to run it that the chart knows."""

from __future__ import annotations

from typing import Any

import yaml

from tests.helm.charts import CHART, NAME, Values

SINGLE: Values = {"mode": "single"}
FLEET: Values = {
    "config": {
        "storage": {"s3": {"endpoint": "http://s3.internal:8333", "bucket": "entrepot"}},
        "redis": {"url": "redis://redis.internal:6379/0"},
    }
}


def over(base: Values, **more: Any) -> Values:
    """`base` with `more` laid over it, dict by dict."""
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = over(merged[key], **value) if both else value
    return merged


CORPORATE_CA = {"existingConfigMap": "company-ca"}
EXAMPLES: dict[str, Values] = {
    path.stem: yaml.safe_load(path.read_text()) for path in (CHART / "examples").glob("*.yaml")
}
MATRIX: dict[str, Values] = {
    **EXAMPLES,
    "single": SINGLE,
    "single, kept on a volume": over(SINGLE, persistence={"enabled": True, "size": "200Gi"}),
    "single, content in S3": over(
        SINGLE, config={"storage": {"s3": {"bucket": "entrepot", "region": "eu-central-1"}}}
    ),
    "fleet": FLEET,
    "fleet, kept on volumes": over(
        FLEET,
        replicas=3,
        persistence={
            "enabled": True,
            "storageClass": "fast",
            "annotations": {"backup": "no"},
            "whenDeleted": "Delete",
        },
    ),
    "fleet, scaled by load": over(
        FLEET,
        autoscaling={
            "enabled": True,
            "minReplicas": 3,
            "maxReplicas": 9,
            "memoryPercent": 80,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "entrepot_followers"},
                        "target": {"type": "AverageValue", "averageValue": "500"},
                    },
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    ),
    "every credential": over(
        FLEET,
        config={
            "upstreams": {"lab": {"url": "https://registry.lan", "expose": ["team/*"]}},
            "redis": {"url": "rediss://redis.internal:6380/0"},
        },
        credentials={
            "upstreams": {
                "docker.io": {"existingSecret": "hub"},
                "lab": {
                    "existingSecret": "lab",
                    "usernameKey": "user",
                    "passwordKey": "token",
                    "proxyKey": "proxy",
                },
            },
            "s3": {"existingSecret": "s3", "sessionTokenKey": "token"},
            "redis": {
                "existingSecret": "redis",
                "usernameKey": "user",
                "certificateSecret": "redis-client",
            },
            "peers": {"existingSecret": "peers", "key": "word"},
            "dockerConfig": {"existingSecret": "docker-config"},
        },
        trust={
            "upstreams": {"lab": CORPORATE_CA, "ghcr.io": {"existingSecret": "ca", "key": "x.pem"}},
            "s3": CORPORATE_CA,
            "redis": CORPORATE_CA,
        },
        tls={"existingSecret": "cert", "clientCa": {"existingSecret": "clients"}},
    ),
    "web identity": over(
        FLEET,
        serviceAccount={
            "name": "cache",
            "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cache"},
            "labels": {"azure.workload.identity/use": "true"},
        },
    ),
    "node port": over(SINGLE, service={"type": "NodePort", "nodePort": 30500}),
    "load balancer": over(
        FLEET,
        service={
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "annotations": {"internal": "true"},
        },
    ),
    "host port": over(FLEET, hostPort={"enabled": True, "port": 5000, "hostIP": "127.0.0.1"}),
    "ingress": over(
        FLEET,
        ingress={
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
            "hosts": ["cache.example", "*.mirror.example"],
            "tls": [{"secretName": "cert", "hosts": ["cache.example"]}],
        },
    ),
    "closed network": over(
        FLEET,
        networkPolicy={
            "pullFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "adminFrom": [],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    ),
    "open network": over(FLEET, networkPolicy={"enabled": False}, pdb={"enabled": False}),
    "watched": over(
        FLEET,
        metrics={
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        },
    ),
    "watched by pod": over(SINGLE, metrics={"podMonitor": {"enabled": True, "interval": "1m"}}),
    "IPv6": over(FLEET, ipv6=True, service={"type": "NodePort", "nodePort": 30500}),
    "every knob of the pod": over(
        SINGLE,
        image={"repository": "registry.example/entrepot", "digest": "sha256:" + "0" * 64},
        imagePullSecrets=[{"name": "pull"}],
        fullnameOverride=NAME,
        commonLabels={"team": "platform"},
        config={"tag_fresh_s": "30s", "manifest_bytes_max": 16777216, "default_upstream": None},
        topologySpreadConstraints=[
            {
                "maxSkew": 2,
                "topologyKey": "rack",
                "whenUnsatisfiable": "DoNotSchedule",
            }
        ],
        affinity={"nodeAffinity": {}},
        nodeSelector={"disk": "fast"},
        tolerations=[{"key": "cache", "operator": "Exists"}],
        priorityClassName="system-cluster-critical",
        podAnnotations={"note": "x"},
        podLabels={"tier": "infra"},
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        extraEnvFrom=[{"secretRef": {"name": "more"}}],
        extraVolumes=[{"name": "more", "emptyDir": {}}],
        extraVolumeMounts=[{"name": "more", "mountPath": "/more"}],
    ),
    "containerd nodes": over(
        SINGLE,
        service={"type": "NodePort", "nodePort": 30500},
        nodeConfigurator={"enabled": True, "runtimeVersion": "2.1"},
    ),
    "CRI-O nodes": over(
        FLEET,
        nodeConfigurator={
            "enabled": True,
            "runtime": "crio",
            "server": "https://cache.example",
            "ca": CORPORATE_CA,
            "image": "quay.io/team/tiny:1",
            "nodeSelector": {"role": "worker"},
        },
    ),
}
