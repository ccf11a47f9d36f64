"""The port's suite on real Redis: one server, a Sentinel group, a Cluster."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.coordination.redis import RedisConfig, RedisCoordination
from tests.support.coordination_suite import CoordinationSuite, Replicas
from tests.support.redis_server import MASTER, RedisCluster, RedisServer, SentinelGroup, running

pytestmark = pytest.mark.e2e

_prefixes = itertools.count()


def _single(folder: Path) -> Iterator[RedisConfig]:
    server = RedisServer(folder / "single")
    with running(server):
        yield RedisConfig(url=server.url)


def _sentinel(folder: Path) -> Iterator[RedisConfig]:
    group = SentinelGroup(folder / "sentinel", password="guards")
    with group.running():
        yield RedisConfig(
            url="redis://",
            sentinels=tuple(one.address for one in group.sentinels),
            sentinel_master=MASTER,
            sentinel_password="guards",
        )


def _cluster(folder: Path) -> Iterator[RedisConfig]:
    cluster = RedisCluster(folder / "cluster")
    with cluster.running():
        yield RedisConfig(url=cluster.url, cluster=True)


@pytest.fixture(scope="module", params=[_single, _sentinel, _cluster], ids=lambda one: one.__name__)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    yield from request.param(tmp_path_factory.mktemp("redis"))


@pytest.fixture
async def replicas(config: RedisConfig) -> AsyncIterator[Replicas]:
    own = {name: getattr(config, name) for name in config.__slots__}
    own["prefix"] = f"test-{next(_prefixes)}"
    failures: list[object] = []
    async with (
        RedisCoordination(
            RedisConfig(**own), advertise_url="http://one.test", observe=failures.append
        ) as one,
        RedisCoordination(
            RedisConfig(**own), advertise_url="http://other.test", observe=failures.append
        ) as other,
    ):
        assert one.up, failures
        assert other.up, failures
        yield one, other


class TestRedisCoordination(CoordinationSuite):
    """All of it."""
