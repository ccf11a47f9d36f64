"""Installed, upgraded and uninstalled by Helm itself, against a stand-in for a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helm.charts import CHART, NAME, NAMESPACE, Helm, Values
from tests.helm.fake_cluster import FakeCluster
from tests.helm.matrix import FLEET, SINGLE, over

PEERS = f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}-peers"
Do = Callable[..., Awaitable[Any]]


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
async def do(helm: Helm, cluster: FakeCluster, tmp_path: Path) -> Do:
    """Have Helm do something in the cluster, which answers meanwhile."""

    async def do(what: str, values: Values | None = None, **more: Any) -> Any:
        if values is not None:
            more |= {"values": values, "chart": str(CHART), "name": "cache"}
        return await asyncio.to_thread(helm.ask, what, **more)

    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig)
    await do("open", kubeconfig=str(kubeconfig), namespace=NAMESPACE)
    return do


async def test_the_peer_secret_survives_upgrades_and_reinstallation(cluster: FakeCluster, do: Do):
    await do("install", FLEET)
    made = cluster.objects[PEERS]["data"]
    await do("upgrade", over(FLEET, replicas=5))
    assert cluster.objects[PEERS]["data"] == made
    assert "cache-entrepot-peers" in (await do("uninstall", name="cache"))["info"]
    assert list(cluster.objects) == [PEERS]
    await do("install", FLEET)
    assert cluster.objects[PEERS]["data"] == made


async def test_each_release_makes_its_own_peer_secret(cluster: FakeCluster, do: Do):
    await do("install", FLEET)
    first = cluster.objects.pop(PEERS)
    await do("uninstall", name="cache")
    await do("install", FLEET)
    assert cluster.objects[PEERS]["data"] != first["data"]


async def test_an_upgrade_takes_away_what_is_no_longer_wanted(cluster: FakeCluster, do: Do):
    await do("install", over(FLEET, ingress={"enabled": True, "hosts": ["cache.example"]}))
    assert cluster.names("ingresses") == [NAME]
    await do("upgrade", over(FLEET, autoscaling={"enabled": True}))
    assert cluster.names("ingresses") == []
    assert cluster.names("horizontalpodautoscalers") == [NAME]


async def test_going_persistent_replaces_the_deployment(cluster: FakeCluster, do: Do):
    await do("install", SINGLE)
    assert (cluster.names("deployments"), cluster.names("statefulsets")) == ([NAME], [])
    await do("upgrade", over(SINGLE, persistence={"enabled": True}))
    assert (cluster.names("deployments"), cluster.names("statefulsets")) == ([], [NAME])


async def test_nothing_stays_of_a_single_one(cluster: FakeCluster, do: Do):
    node = {"enabled": True, "server": "http://cache.example"}
    await do("install", over(SINGLE, nodeConfigurator=node))
    assert cluster.names("daemonsets") == [f"{NAME}-node-configurator"]
    # The test's pod comes with `helm test` only.
    assert cluster.names("pods") == []
    await do("uninstall", name="cache")
    assert cluster.objects == {}
