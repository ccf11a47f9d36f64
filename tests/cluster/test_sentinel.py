"""A fleet on a Sentinel group: its master dies while clients follow a fill."""

from __future__ import annotations

import asyncio

from tests.cluster.conftest import Cluster, layer, right
from tests.support.fake_registry import Fault
from tests.support.images import image
from tests.support.redis_server import MASTER, SentinelGroup
from tests.support.waiting import until

SIZE = 24_000_000


async def test_clients_notice_nothing_when_redis_fails_over_and_claims_are_shared_again(
    cluster: Cluster,
) -> None:
    # Sentinels that ask who one is, as a server would.
    group = SentinelGroup(cluster.folder / "group", password="guards")
    with group.running():
        redis = {
            "sentinel": [one.address for one in group.sentinels],
            "sentinel_master": MASTER,
            "sentinel_password": "guards",
        }
        await cluster.start(redis=redis)
        cluster.redis = group.master()
        first = cluster.upstream.add("app", image(SIZE, seed="first"), "v1")
        # It goes on all the time: silence would be another test.
        slow = Fault(rate_bytes_s=SIZE / 6)
        cluster.upstream.inject(slow, kind="blob", method="GET")
        pulls = cluster.pulls(layer(0, first), 0, 0, 1, 1, 2, 2)
        await cluster.owned(first.layers[0])
        await cluster.following(6, 0, 1, 2)
        cluster.redis = await asyncio.to_thread(group.fail_over)
        gots = await asyncio.gather(*pulls)
        right(first.layers[0], *gots)
        assert {got.resumes for got in gots} == {0}
        # Who follows goes on following; what it was told is not asked again.
        assert cluster.fetched() == SIZE

        async def up() -> bool:
            states = [await cluster.metric(n, "entrepot_coordination_up ") for n in range(3)]
            return all(states)

        await until(up, "the new master is used", deadline_s=40)
        second = cluster.upstream.add("app", image(SIZE, seed="second"), "v2")
        right(second.layers[0], *await asyncio.gather(*cluster.pulls(layer(0, second), 0, 1, 2)))
        assert cluster.fetched() == 2 * SIZE
        await cluster.each(*(replica.kill for replica in cluster.replicas))
