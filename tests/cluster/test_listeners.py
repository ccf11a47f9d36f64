"""Listeners of several replicas: one port for two processes, an address for others."""

from __future__ import annotations

import aiohttp

from tests.cluster.conftest import Cluster
from tests.support.entrepot import Entrepot
from tests.support.processes import free_port
from tests.support.waiting import until


async def test_two_processes_share_one_port_and_both_get_requests(cluster: Cluster) -> None:
    await cluster.start(1, reuse_port=True)
    address, port = cluster.replicas[0].address, cluster.replicas[0].port
    cluster.peers.append(f"http://127.0.0.1:{free_port()}")
    second = Entrepot(
        cluster.folder / "second",
        upstreams={"lab": {"url": cluster.upstream.url}},
        **cluster.settings(1, reuse_port=True, listen=address),
    )
    second.port = port
    cluster.replicas.append(second)
    await cluster.each(second.start)
    # The first answers at the shared port already, whatever the second does.
    await until(lambda: "serves pulls at" in second.log_text(), "the second is up")

    async def both() -> bool:
        for _ in range(20):
            async with (
                aiohttp.ClientSession() as client,
                client.get(f"http://{address}/v2/") as response,
            ):
                assert response.status == 200
        counts = [await cluster.metric(n, "entrepot_requests_total") for n in range(2)]
        return all(counts)

    await until(both, "both answered")


async def test_the_log_says_whether_others_reach_this_replica(cluster: Cluster) -> None:
    await cluster.start(1)
    await cluster.start(1, advertise_url=f"http://127.0.0.1:{free_port()}")
    said = ["other replicas reach this one", "does not lead to"]
    for replica, words in zip(cluster.replicas, said, strict=True):
        await until(lambda replica=replica, words=words: words in replica.log_text(), words)
