"""The replica that fetches for all dies, freezes or leaves, in the middle of it.

Clients of the other replicas see nothing; its own resume elsewhere and have all.
"""

from __future__ import annotations

import asyncio

from tests.cluster.conftest import Cluster, Got, layer
from tests.support.fake_registry import Fault
from tests.support.images import Content, Image, image
from tests.support.waiting import until

SIZE = 60_000_000
RATE_BYTES_S = 60_000_000
# What may be on its way from the upstream to an owner, and lost with it: what the kernel
# and the owner take in before the disk and the others have it, on a busy machine.
LOST_BYTES_MAX = 9_000_000


def cold(cluster: Cluster, seed: str, *, rate: float = RATE_BYTES_S) -> tuple[Image, Content]:
    """An image nobody has, from an upstream that takes its time."""
    made = cluster.upstream.add("app", image(SIZE, seed=seed), seed)
    cluster.upstream.heal()
    slow = Fault(rate_bytes_s=rate)
    cluster.upstream.inject(slow, kind="blob", method="GET", times=None)
    return made, made.layers[0]


def right(blob: Content, *gots: Got) -> None:
    """All bytes, and none but those."""
    for got in gots:
        assert (got.error, got.size, got.sha256) == ("", blob.size, str(blob.digest)), got


def others(cluster: Cluster, owner: int) -> list[int]:
    return [n for n in range(len(cluster.replicas)) if n != owner]


async def until_fetched(cluster: Cluster, count: int) -> None:
    await until(lambda: cluster.fetched() >= count, f"{count} bytes were fetched")


async def test_an_owner_killed_at_any_tenth_of_a_blob_costs_other_clients_nothing(
    cluster: Cluster,
) -> None:
    await cluster.start()
    for tenth in range(1, 10):
        before = cluster.fetched()
        made, blob = cold(cluster, f"tenth-{tenth}")
        path = layer(0, made)
        every = [cluster.pulls(path, n, n, failover=True) for n in range(3)]
        owner = await cluster.owned(blob)
        await cluster.following(6, 0, 1, 2)
        await until_fetched(cluster, before + SIZE * tenth // 10)
        await asyncio.to_thread(cluster.replicas[owner].kill)
        for number, pulls in enumerate(every):
            gots = await asyncio.gather(*pulls)
            right(blob, *gots)
            if number != owner:
                assert [got.resumes for got in gots] == [0, 0], (tenth, gots)
        assert cluster.fetched() - before <= SIZE + LOST_BYTES_MAX, tenth
        await asyncio.to_thread(cluster.replicas[owner].start)


async def test_a_frozen_owner_is_replaced_and_does_no_harm_when_it_wakes(
    cluster: Cluster,
) -> None:
    await cluster.start()
    made, blob = cold(cluster, "frozen")
    path = layer(0, made)
    first = cluster.pulls(path, 0)
    owner = await cluster.owned(blob)
    elsewhere = cluster.pulls(path, *others(cluster, owner))
    await cluster.following(3, 0, 1, 2)
    await until_fetched(cluster, SIZE * 3 // 10)
    frozen = cluster.replicas[owner]
    frozen.pause()
    try:
        gots = await asyncio.gather(*elsewhere)
    finally:
        frozen.resume()
    right(blob, *gots)
    assert [got.resumes for got in gots] == [0, 0]
    right(blob, *await asyncio.gather(*first))
    assert cluster.fetched() <= 2 * SIZE
    await cluster.stored()
    cluster.upstream.heal()
    await cluster.upstream.stop()
    right(blob, *await asyncio.gather(*cluster.pulls(path, 0, 1, 2)))


async def test_replicas_restarted_one_after_another_lose_no_client_of_the_others(
    cluster: Cluster,
) -> None:
    await cluster.start(drain_s=0.2)
    made, blob = cold(cluster, "rolling", rate=4_000_000)
    path = layer(0, made)
    stays = cluster.pulls(path, 0, 0, 1, 1, 2, 2, failover=True)
    await cluster.owned(blob)
    await cluster.following(6, 0, 1, 2)
    within = 0
    for replica in cluster.replicas:
        within += cluster.fetched() < SIZE
        await asyncio.to_thread(replica.restart)
    assert within >= 2
    gots = await asyncio.gather(*stays)
    right(blob, *gots)
    # Cut once for each time that the replica it is at is restarted, and no more: who
    # is at another one sees nothing.
    assert all(got.resumes <= 3 for got in gots), gots
    # What clients came back for, far ahead of a replica that had just begun anew, was
    # fetched for them and kept: the more the longer a busy machine takes to restart one.
    assert cluster.fetched() <= 1.5 * SIZE
