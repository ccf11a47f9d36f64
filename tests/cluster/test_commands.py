"""`entrepot scrub` and `entrepot evict` against running replicas and a real store."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from proxy.config.storage import S3Settings
from proxy.ports import PUBLIC, BlobKey
from proxy.storage.s3.store import S3Storage
from tests.cluster.clocks import clock_off
from tests.cluster.conftest import Cluster, layer, right
from tests.support.images import Content, image


async def command(cluster: Cluster, *words: str, number: int = 0) -> dict[str, Any]:
    """What it prints as JSON, asked of one replica."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *words),
        *("--admin", cluster.replicas[number].admin, "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return dict(json.loads(said))


def file_of(cluster: Cluster, blob: Content) -> Path:
    hexed = blob.digest.hex
    base = cluster.replicas[0].data_dir / "blobs" / PUBLIC
    return base / blob.digest.algorithm / hexed[:2] / hexed


async def test_a_scrub_finds_damage_here_and_in_the_store_and_pulls_are_right_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    made = cluster.upstream.add("app", image(3_000_000, 2_000_000), "v1")
    await cluster.start(1)
    for number in range(2):
        assert (await cluster.pull(0, layer(number, made))).status == 200
    await cluster.stored(0)
    here, there = made.layers
    file_of(cluster, here).write_bytes(b"damaged" + here.body[7:])
    wrong = tmp_path / "wrong"
    wrong.write_bytes(there.body[:-1] + b"?")
    key = BlobKey(PUBLIC, there.digest)
    settings = S3Settings(**cluster.s3.settings(prefix=cluster.folder.name))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        await s3.blobs.put(key, wrong)
        done = await command(cluster, "scrub")
        assert (done["bad"], done["unread"], done["elsewhere"]) == (2, 0, False)
        assert not file_of(cluster, here).exists()
        await cluster.stored(0)
        async with s3.blobs.open(key) as body:
            assert body is not None
            assert b"".join([chunk async for chunk in body.chunks]) == there.body
    for number, blob in enumerate(made.layers):
        got = await cluster.pull(0, layer(number, made))
        assert (got.status, got.sha256) == (200, str(blob.digest))
    assert (await command(cluster, "scrub"))["bad"] == 0


async def test_a_dry_run_of_evict_says_and_does_nothing(cluster: Cluster) -> None:
    made = cluster.upstream.add("app", image(3_000_000), "v1")
    s3 = cluster.s3.settings(prefix=cluster.folder.name, bytes_max="1MiB")
    await cluster.start(1, storage={"s3": s3})
    await cluster.pull(0, layer(0, made))
    await cluster.stored(0)
    for words in (("evict", "--dry-run"), ("evict",)):
        done = await command(cluster, *words)
        # Stored a moment ago, so it stays, although it is more than fits.
        assert (done["dropped"], done["kept_bytes"] >= 3_000_000) == (0, True)


async def test_evict_drops_from_the_store_what_was_used_longest_ago(cluster: Cluster) -> None:
    made = cluster.upstream.add("app", image(*(3_000_000 + n for n in range(4))), "v1")
    bytes_max = 10 * 1024 * 1024
    s3 = cluster.s3.settings(prefix=cluster.folder.name, bytes_max=bytes_max)
    await cluster.start(1, storage={"s3": s3})
    # To this one all that is a moment old has been there for a while; less than the
    # quarter of an hour by which a clock may be wrong for S3.
    await cluster.start(1, storage={"s3": s3}, env=clock_off(12 * 60))
    for number in range(4):
        assert (await cluster.pull(0, layer(number, made))).status == 200
    await cluster.stored()
    used = made.layers[2]
    right(used, await cluster.pull(1, layer(2, made)))
    settings = S3Settings(**s3)
    async with S3Storage(settings, observe=lambda _event: None) as store:

        async def kept() -> dict[str, int]:
            return {str(one.key.digest): one.size async for one in store.blobs.inventory(PUBLIC)}

        before = await kept()
        planned = await command(cluster, "evict", "--dry-run", number=1)
        assert planned["dropped_bytes"] >= sum(before.values()) - bytes_max
        assert await kept() == before
        done = await command(cluster, "evict", number=1)
        # Which of them may differ: what a replica served is known to others seconds later.
        assert [done[key] for key in ("dropped", "kept")] == [
            planned[key] for key in ("dropped", "kept")
        ]
        assert (planned["dry_run"], done["dry_run"]) == (True, False)
        after = await kept()
        assert sum(after.values()) == done["kept_bytes"] <= bytes_max
        assert len(before) - len(after) == done["dropped"] >= 1
        assert str(used.digest) in after
        assert (await command(cluster, "evict", number=1))["dropped"] == 0
    # What is gone from the store is had from the upstream again by who has it not.
    for number, blob in enumerate(made.layers):
        right(blob, await cluster.pull(1, layer(number, made)))
