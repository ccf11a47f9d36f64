"""The fleet as one cache: fetched once, followed live everywhere."""

from __future__ import annotations

import asyncio

from tests.cluster.conftest import Cluster
from tests.support.fake_registry import Fault
from tests.support.images import image

SIZE = 30_000_000


async def test_clients_of_all_replicas_cause_one_fetch_and_all_get_bytes_live(
    cluster: Cluster,
) -> None:
    blob = cluster.upstream.add("app", image(SIZE), "v1").layers[0]
    await cluster.start()
    held = asyncio.Event()
    cluster.upstream.inject(Fault(stall_at=10_000_000, stall=held), kind="blob", method="GET")
    pulls = [
        asyncio.create_task(cluster.pull(number % 3, f"/v2/lab/app/blobs/{blob.digest}"))
        for number in range(12)
    ]
    await cluster.following(12, 0, 1, 2)
    held.set()
    for got in await asyncio.gather(*pulls):
        assert (got.sha256, got.resumes) == (str(blob.digest), 0)
    assert cluster.upstream.bytes_sent(kind="blob") == SIZE
