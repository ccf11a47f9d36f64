"""Asked once: what the fleet costs its upstream, its quota and its store."""

from __future__ import annotations

import asyncio

from tests.cluster.conftest import Cluster, layer
from tests.cluster.relay import relay_to
from tests.support.fake_registry import Fault
from tests.support.images import image
from tests.support.waiting import until

CLIENTS = [number % 3 for number in range(24)]
TAG = "/v2/lab/app/manifests/v1"


async def test_a_cold_image_pulled_by_24_clients_at_once_is_fetched_once(
    cluster: Cluster,
) -> None:
    made = cluster.upstream.add("app", image(9_000_000, 600_000, 4_000), "v1")
    await cluster.start()

    async def one(number: int) -> None:
        got = await cluster.pull(number, TAG)
        assert (got.sha256, got.resumes) == (str(made.digest), 0), got
        paths = [f"/v2/lab/app/blobs/{blob.digest}" for blob in made.blobs]
        for blob, got in zip(
            made.blobs,
            await asyncio.gather(*(cluster.pull(number, path) for path in paths)),
            strict=True,
        ):
            assert (got.sha256, got.resumes) == (str(blob.digest), 0), got

    await asyncio.gather(*(one(number) for number in CLIENTS))
    assert cluster.upstream.count(kind="manifest", method="GET") == 1
    assert cluster.upstream.count(kind="manifest", method="HEAD") == 0
    assert cluster.upstream.count(kind="blob", method="GET") == len(made.blobs)
    assert cluster.fetched() == sum(blob.size for blob in made.blobs)


async def test_a_stale_tag_is_asked_once_for_all_and_moves_once_for_all(cluster: Cluster) -> None:
    old = cluster.upstream.add("app", image(4_000, seed="old"), "v1")
    await cluster.start(lab={"tag_fresh_s": 2})
    for got in await asyncio.gather(*cluster.pulls(TAG, 0, 1, 2)):
        assert got.sha256 == str(old.digest)
    new = cluster.upstream.add("app", image(4_000, seed="new"), "v1")

    async def moved() -> bool:
        gots = await asyncio.gather(*cluster.pulls(TAG, *CLIENTS))
        assert {got.sha256 for got in gots} <= {str(old.digest), str(new.digest)}
        return {got.sha256 for got in gots} == {str(new.digest)}

    await until(moved, "all see the new image")
    gets = cluster.upstream.requests(kind="manifest", method="GET")
    assert len(gets) == 2, gets
    # One question for each window of two seconds since, whoever asks.
    loop = asyncio.get_running_loop()
    before, began = cluster.upstream.count(kind="manifest", method="HEAD"), loop.time()

    async def asked_twice() -> bool:
        await asyncio.gather(*cluster.pulls(TAG, *CLIENTS))
        return cluster.upstream.count(kind="manifest", method="HEAD") >= before + 2

    await until(asked_twice, "two more questions")
    heads = cluster.upstream.count(kind="manifest", method="HEAD") - before
    assert heads <= (loop.time() - began) / 2 + 1


async def test_a_no_is_shared_by_all_replicas(cluster: Cluster) -> None:
    cluster.upstream.add("app", image(4_000), "v1")
    await cluster.start()
    absent = image(4_000, seed="absent").layers[0].digest
    for path in ("/v2/lab/app/manifests/absent", f"/v2/lab/app/blobs/{absent}"):
        before = len(cluster.upstream.seen)
        assert (await cluster.pull(0, path, tries=1)).status == 404
        # At once: it is remembered for some seconds only.
        gots = await asyncio.gather(*(cluster.pull(n, path, tries=1) for n in CLIENTS))
        assert {got.status for got in gots} == {404}
        assert len(cluster.upstream.seen) - before <= 2, cluster.upstream.seen[before:]


async def test_a_stored_blob_costs_a_new_replica_few_s3_requests_and_no_upstream_ones(
    cluster: Cluster,
) -> None:
    made = cluster.upstream.add("app", image(9_000_000, 300_000), "v1")
    await cluster.start(1)
    for path in (TAG, layer(0, made), layer(1, made)):
        await cluster.pull(0, path)
    await cluster.stored()
    cluster.upstream.inject(Fault(status=500), times=None, early=True)
    before = len(cluster.upstream.seen)
    async with relay_to(cluster.s3.port) as relay:
        through = cluster.s3.settings(prefix=cluster.folder.name, endpoint=relay.url)
        await cluster.start(1, storage={"s3": through})
        await cluster.pull(1, TAG)
        relay.take()
        for number, blob in enumerate(made.layers):
            pulls = cluster.pulls(layer(number, made), *([1] * 100))
            for got in await asyncio.gather(*pulls):
                assert (got.sha256, got.resumes) == (str(blob.digest), 0), got
            seen = relay.take()
            # Its bytes, and that this repository may show them.
            assert len([one for one in seen if one.startswith("GET ")]) <= 2, seen
            assert len(seen) <= 2, seen
            assert (await cluster.pull(1, layer(number, made))).sha256 == str(blob.digest)
            assert relay.take() == []
        assert (await cluster.pull(1, TAG)).sha256 == str(made.digest)
        assert relay.take() == []
        await asyncio.to_thread(cluster.replicas[1].kill)
    assert len(cluster.upstream.seen) == before
