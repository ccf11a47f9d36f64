"""A tag never moves back: not by a replica that slept over the news, not by a wrong clock."""

from __future__ import annotations

import asyncio
import json

from proxy.cache.keys import tag as tag_key
from proxy.config.storage import S3Settings
from proxy.oci.names import Repository, Tag
from proxy.storage.s3.store import S3Storage
from tests.cluster.conftest import Cluster, Got, right
from tests.cluster.relay import relay_to
from tests.support.images import Image, image
from tests.support.waiting import until

TAG = "/v2/lab/app/manifests/v1"
FRESH_S = 1


async def recorded(cluster: Cluster) -> str:
    """The digest that the record of the tag names in S3; empty if there is none."""
    settings = S3Settings(**cluster.s3.settings(prefix=cluster.folder.name))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        record = await s3.records.get(tag_key("lab", Repository.parse("app"), Tag.parse("v1")))
    return "" if record is None else str(json.loads(record.value)["current"]["digest"])


def versions(cluster: Cluster, seed: str) -> Image:
    """Another image under the tag."""
    return cluster.upstream.add("app", image(4_000, seed=seed), "v1")


async def seen(cluster: Cluster, made: Image, *numbers: int) -> None:
    """Until these replicas answer with that image."""

    async def all_see() -> bool:
        gots = await asyncio.gather(*cluster.pulls(TAG, *numbers))
        return {got.sha256 for got in gots} == {str(made.digest)}

    await until(all_see, "the image is seen", deadline_s=40)


async def test_a_replica_that_slept_with_an_old_answer_neither_records_nor_serves_it(
    cluster: Cluster,
) -> None:
    first = versions(cluster, "first")
    async with relay_to(cluster.s3.port) as relay:
        through = cluster.s3.settings(prefix=cluster.folder.name, endpoint=relay.url)
        await cluster.start(1, lab={"tag_fresh_s": FRESH_S}, storage={"s3": through})
        await cluster.start(2, lab={"tag_fresh_s": FRESH_S})
        await seen(cluster, first, 0, 1, 2)
        second = versions(cluster, "second")
        # The answer of the upstream is here, and what comes of it is on its way to S3.
        relay.writes.clear()
        relay.take()
        slept: list[asyncio.Task[Got]] = []

        def moving() -> bool:
            if not slept or slept[-1].done():  # it was fresh still
                slept.extend(cluster.pulls(TAG, 0))
            return any("_tags/v1" in one and one.startswith("PUT ") for one in relay.seen)

        await until(moving, "the second image is being recorded")
        cluster.replicas[0].pause()
        try:
            third = versions(cluster, "third")
            await seen(cluster, third, 1, 2)
            for blob in third.blobs:  # or it would be an image that nobody can finish
                right(blob, await cluster.pull(1, f"/v2/lab/app/blobs/{blob.digest}"))

            async def known() -> bool:
                return await recorded(cluster) == str(third.digest)

            await until(known, "the third image is recorded")
        finally:
            cluster.replicas[0].resume()
        relay.writes.set()
        # Who asked before may hear what was true then.
        got = await slept[-1]
        assert got.sha256 in {str(second.digest), str(third.digest)}
        await seen(cluster, third, 0)
        assert await recorded(cluster) == str(third.digest)
        # Nor does it come back when nobody can be asked any more.
        await cluster.stored()
        await cluster.upstream.stop()
        for _ in range(2):
            await asyncio.sleep(FRESH_S)
            for got in await asyncio.gather(*cluster.pulls(TAG, 0, 1, 2)):
                assert got.sha256 == str(third.digest)
        assert await recorded(cluster) == str(third.digest)
        await cluster.each(*(replica.kill for replica in cluster.replicas))


async def test_a_stale_answer_is_the_latest_that_any_replica_has_recorded(
    cluster: Cluster,
) -> None:
    first = versions(cluster, "first")
    await cluster.start(2, lab={"tag_fresh_s": FRESH_S})
    await seen(cluster, first, 0, 1)
    second = versions(cluster, "second")
    await seen(cluster, second, 1)
    for blob in second.blobs:
        right(blob, await cluster.pull(1, f"/v2/lab/app/blobs/{blob.digest}"))
    await cluster.stored()

    async def known() -> bool:
        return await recorded(cluster) == str(second.digest)

    await until(known, "the second image is recorded")
    await cluster.upstream.stop()
    cluster.redis.command("FLUSHALL")
    await asyncio.sleep(FRESH_S)
    for number in (0, 1):
        right(second.manifest, await cluster.pull(number, TAG))
