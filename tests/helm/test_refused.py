"""Values that can't be meant are refused, with words that say what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.charts import Helm, HelmRefusedError
from tests.helm.matrix import FLEET, SINGLE, over

AGAINST_THE_SCHEMA: dict[str, dict[str, Any]] = {
    "a typing mistake": {"replica": 3},
    "a typing mistake further down": {"service": {"typ": "NodePort"}},
    "no such mode": {"mode": "cluster"},
    "no replicas": {"replicas": 0},
    "text for a number": {"replicas": "3"},
    "an unknown setting": {"config": {"tag_fresh": "10s"}},
    "a setting of the chart": {"config": {"listen": "0.0.0.0:1"}},
    "a password in the ConfigMap": {
        "config": {"upstreams": {"docker.io": {"username": "me", "password": "secret"}}}
    },
    "S3 keys in the ConfigMap": {
        "config": {"storage": {"s3": {"bucket": "b", "access_key": "a", "secret_key": "s"}}}
    },
    "a peer secret in the ConfigMap": {"config": {"peer_secret": "x" * 16}},
    "S3 without a bucket": {"config": {"storage": {"s3": {"endpoint": "http://s3"}}}},
    "credentials without a Secret": {"credentials": {"upstreams": {"docker.io": {}}}},
    "trust from two places": {
        "trust": {"s3": {"existingSecret": "a", "existingConfigMap": "b"}},
    },
    "trust from nowhere": {"trust": {"upstreams": {"lab": {"key": "ca.crt"}}}},
    "keys of bundles from nowhere": {"trust": {"bundles": [{"key": "bundle.pub"}]}},
    "a listener without an address": {"config": {"listeners": [{"as_of": "2026-10-01"}]}},
    "a typing mistake in a section": {"config": {"link": {"rat": "20Mbit/s"}}},
    "a typing mistake in a list": {"config": {"warm": {"schedule": [{"crn": "0 4 * * *"}]}}},
    "an upstream with a port": {"config": {"upstreams": {"lab:5000": {"url": "http://lab"}}}},
    "a size without a unit": {"persistence": {"size": "50"}},
    "a decimal size": {"ephemeral": {"size": "20G"}},
    "a volume for many": {"persistence": {"accessModes": ["ReadWriteMany"]}},
    "no such port": {"service": {"port": 70000}},
    "a negative drain": {"drain": {"seconds": -1}},
    "not a digest": {"image": {"digest": "sha256:abc"}},
    "a runtime that it can't configure": {"nodeConfigurator": {"runtime": "docker"}},
    "a server with a path": {"nodeConfigurator": {"server": "http://mirror/v2"}},
    "nothing to mirror": {"nodeConfigurator": {"upstreams": []}},
    "an image of no registry": {"tests": {"image": "busybox"}},
    "a volume in place of ours": {"extraVolumes": [{"name": "secrets", "emptyDir": {}}]},
    "a variable in place of ours": {"extraEnv": [{"name": "POD_IP", "value": "10.0.0.1"}]},
    "labels that are no text": {"commonLabels": {"a": 1}},
}
SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "the defaults": ({}, "config.redis is missing"),
    "a fleet without S3": (
        {"config": {"redis": {"url": "redis://redis"}}},
        "config.storage.s3 with a bucket is missing",
    ),
    "scaling what shares nothing": (
        over(SINGLE, autoscaling={"enabled": True}),
        "autoscaling needs mode=fleet",
    ),
    "scaling upside down": (
        over(FLEET, autoscaling={"enabled": True, "minReplicas": 9}),
        "minReplicas is above",
    ),
    "scraped twice": (
        over(
            SINGLE, metrics={"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}
        ),
        "enable one",
    ),
    "client certificates without TLS": (
        over(SINGLE, tls={"clientCa": {"existingSecret": "a"}}),
        "tls.clientCa needs",
    ),
    "nodes that can't reach it": (
        over(SINGLE, nodeConfigurator={"enabled": True}),
        "nodeConfigurator.server is missing",
    ),
    "nodes that would need certificates": (
        over(
            SINGLE,
            tls={"existingSecret": "a", "clientCa": {"existingSecret": "a"}},
            nodeConfigurator={"enabled": True, "server": "https://mirror"},
        ),
        "nodeConfigurator can't be together with tls.clientCa",
    ),
    "a port that is taken": (
        over(SINGLE, config={"listeners": [{"listen": "0.0.0.0:5001", "as_of": "2026-10-01"}]}),
        "config.listeners needs ports other than",
    ),
    "an ingress for no host": (over(SINGLE, ingress={"enabled": True}), "ingress.hosts is empty"),
}


@pytest.mark.parametrize("values", AGAINST_THE_SCHEMA.values(), ids=AGAINST_THE_SCHEMA)
def test_the_schema_refuses(helm: Helm, values: dict[str, Any]):
    (key,) = values
    with pytest.raises(HelmRefusedError, match=rf"^entrepot:\n- at '[^\n]*({key}|propertyName)"):
        helm.render(over(SINGLE, **values))


@pytest.mark.parametrize(("values", "words"), SENTENCES.values(), ids=SENTENCES)
def test_the_chart_refuses(helm: Helm, values: dict[str, Any], words: str):
    with pytest.raises(HelmRefusedError, match=words):
        helm.render(values)
