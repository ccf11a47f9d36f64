"""S3 slow, frozen or refusing writes while blobs are on their way to it.

Clients notice nothing, what could not be stored is owed until it can, and nothing
half-done is left in the bucket.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.config.storage import S3Settings
from proxy.ports import PUBLIC, BlobKey
from proxy.storage.s3.janitor import sweep
from proxy.storage.s3.store import S3Storage
from tests.cluster.conftest import Cluster, layer, right
from tests.cluster.relay import Relay, relay_to
from tests.support.fake_registry import Fault
from tests.support.images import Content, image
from tests.support.waiting import until

# More than one part of an upload; in one go; before all trouble.
LARGE, SMALL, WARM = 24_000_000, 700_000, 5_000
WEEK_S = 7 * 86400.0


@asynccontextmanager
async def bucket(cluster: Cluster) -> AsyncIterator[S3Storage]:
    """The store, past all replicas and relays."""
    settings = S3Settings(**cluster.s3.settings(prefix=cluster.folder.name))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        yield s3


async def half_done(s3: S3Storage) -> list[str]:
    """Keys of multipart uploads that were begun and neither completed nor aborted."""
    page = await s3.client.call("list_multipart_uploads", {"Prefix": s3.client.full("blobs/")})
    return [upload["Key"] for upload in page.get("Uploads", ())]


async def holds(s3: S3Storage, blob: Content) -> bool:
    """Whether the store has a blob; what it has must be right."""
    async with s3.blobs.open(BlobKey(PUBLIC, blob.digest)) as body:
        if body is None:
            return False
        found = hashlib.sha256()
        async for chunk in body.chunks:
            found.update(chunk)
    assert found.hexdigest() == blob.digest.hex
    return True


async def tidy(s3: S3Storage) -> None:
    """The janitor, as it would come by in a week, leaves nothing half-done."""
    await sweep(s3.client, lambda: time.time() + WEEK_S)
    assert await half_done(s3) == []


def owed_by(cluster: Cluster, number: int) -> set[str]:
    """The digests (hex) of the blobs that a replica has promised to store."""
    folder = cluster.replicas[number].data_dir / "pending"
    return {path.name.rpartition("~")[2] for path in folder.iterdir() if path.is_file()}


async def begin(cluster: Cluster, relay: Relay) -> None:
    """Two replicas whose way to S3 leads through the relay, in good order so far."""
    through = cluster.s3.settings(prefix=cluster.folder.name, endpoint=relay.url)
    await cluster.start(2, storage={"s3": through})
    warm = cluster.upstream.add("app", image(WARM, seed="warm"), "warm")
    for number in range(2):
        right(warm.manifest, await cluster.pull(number, "/v2/lab/app/manifests/warm"))
        right(warm.layers[0], await cluster.pull(number, layer(0, warm)))
    await cluster.stored()


@pytest.mark.parametrize("how", ["frozen", "403"])
async def test_a_store_that_takes_nothing_fails_no_pull_and_gets_all_of_it_later(
    cluster: Cluster, how: str
) -> None:
    async with relay_to(cluster.s3.port) as relay, bucket(cluster) as s3:
        await begin(cluster, relay)
        before = cluster.fetched()
        made = cluster.upstream.add("app", image(LARGE, SMALL), "v1")
        more = asyncio.Event()
        held = Fault(stall_at=LARGE // 2, stall=more)
        cluster.upstream.inject(held, kind="blob", method="GET")
        first = cluster.pulls(layer(0, made), 0, 1)
        await cluster.following(2, 0, 1)
        if how == "frozen":
            cluster.s3.pause()
        else:
            relay.refusing = int(how)
        try:
            more.set()
            right(made.layers[0], *await asyncio.gather(*first))
            for number in range(2):
                for path, content in [
                    ("manifests/v1", made.manifest),
                    *((f"blobs/{blob.digest}", blob) for blob in made.blobs),
                ]:
                    right(content, await cluster.pull(number, f"/v2/lab/app/{path}", tries=1))
            contents = (made.manifest, *made.blobs)
            wanted = {one.digest.hex for one in contents}
            await until(
                lambda: wanted <= owed_by(cluster, 0) | owed_by(cluster, 1),
                "all is kept, and owed to S3",
            )
            # Each replica once at worst, as if there were neither.
            assert cluster.fetched() - before <= 2 * sum(blob.size for blob in made.blobs)
        finally:
            if how == "frozen":
                cluster.s3.resume()
            relay.refusing = None
        await cluster.stored()
        await until(
            lambda: not owed_by(cluster, 0) | owed_by(cluster, 1), "nothing is owed", deadline_s=60
        )
        assert all([await holds(s3, one) for one in contents])
        await tidy(s3)
        await cluster.each(*(replica.kill for replica in cluster.replicas))


async def test_a_store_that_falls_silent_fails_not_even_the_first_request(
    cluster: Cluster,
) -> None:
    old = cluster.upstream.add("app", image(4_000, seed="old"), "v1")
    await cluster.start(1, lab={"tag_fresh_s": 1})
    right(old.manifest, await cluster.pull(0, "/v2/lab/app/manifests/v1"))
    await cluster.stored()
    new = cluster.upstream.add("app", image(4_000, seed="new"), "v1")
    await asyncio.sleep(1)
    cluster.s3.pause()
    try:
        # A tag that has moved is the longest way: links, the manifest, then the record.
        right(new.manifest, await cluster.pull(0, "/v2/lab/app/manifests/v1", tries=1))
        for number in range(len(new.layers)):
            right(new.layers[number], await cluster.pull(0, layer(number, new), tries=1))
    finally:
        cluster.s3.resume()
    await cluster.stored()


async def test_a_slow_store_slows_no_pull_and_an_upload_that_was_killed_leaves_nothing(
    cluster: Cluster,
) -> None:
    async with relay_to(cluster.s3.port) as relay, bucket(cluster) as s3:
        await begin(cluster, relay)
        relay.rate_bytes_s = LARGE / 60
        made = cluster.upstream.add("app", image(LARGE), "v1")
        blob = made.layers[0]
        gots = await asyncio.gather(*cluster.pulls(layer(0, made), 0, 1))
        right(blob, *gots)
        assert not await holds(s3, blob), "clients had it before the store"
        await until(lambda: half_done(s3), "it is being uploaded")
        owners = [number for number in range(2) if blob.digest.hex in owed_by(cluster, number)]
        before = cluster.fetched()
        await cluster.each(*(cluster.replicas[owner].kill for owner in owners))
        relay.rate_bytes_s = None
        assert await half_done(s3), "killed in the middle of it"
        await cluster.each(*(cluster.replicas[owner].start for owner in owners))
        await cluster.stored()
        assert await holds(s3, blob)
        assert cluster.fetched() == before
        # What the killed one had begun is nobody's, until the janitor comes by.
        assert await half_done(s3)
        await tidy(s3)
        assert await holds(s3, blob)
        await cluster.each(*(replica.kill for replica in cluster.replicas))
