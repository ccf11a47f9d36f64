"""Redis, S3 and the upstream away, in any mix: what is cached is served, nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.conftest import Cluster, layer, right
from tests.cluster.relay import relay_to
from tests.support.fake_registry import Fault
from tests.support.images import Content, Image, image
from tests.support.waiting import until

SIZE = 24_000_000
RATE_BYTES_S = 12_000_000


def slow(cluster: Cluster, seed: str) -> tuple[Image, Content]:
    made = cluster.upstream.add("app", image(SIZE, seed=seed), seed)
    cluster.upstream.heal()
    fault = Fault(rate_bytes_s=RATE_BYTES_S)
    cluster.upstream.inject(fault, kind="blob", method="GET", times=None)
    return made, made.layers[0]


async def pull_all(
    cluster: Cluster, number: int, made: Image, tag: str, *, tries: int = 12
) -> None:
    """The whole image, by tag, as a client does."""
    for reference in (tag, str(made.digest)):
        got = await cluster.pull(number, f"/v2/lab/app/manifests/{reference}", tries=tries)
        right(made.manifest, got)
    for blob in made.blobs:
        got = await cluster.pull(number, f"/v2/lab/app/blobs/{blob.digest}", tries=tries)
        right(blob, got)


async def up(cluster: Cluster, *numbers: int) -> None:
    async def all_up() -> bool:
        states = [await cluster.metric(n, "entrepot_coordination_up ") for n in numbers]
        return all(states)

    await until(all_up, "Redis is used again")


@pytest.mark.parametrize("how", ["killed", "flushed", "frozen"])
async def test_a_stampede_survives_the_loss_of_redis(cluster: Cluster, how: str) -> None:
    await cluster.start()
    made, blob = slow(cluster, "before")
    pulls = cluster.pulls(layer(0, made), *(n % 3 for n in range(9)))
    await cluster.following(9, 0, 1, 2)
    match how:
        case "killed":
            await asyncio.to_thread(cluster.redis.stop)
        case "flushed":
            cluster.redis.command("FLUSHALL")
        case _:
            cluster.redis.pause()
    late, late_blob = slow(cluster, "during")
    late_pulls = cluster.pulls(layer(0, late), *(n % 3 for n in range(9)))
    gots = await asyncio.gather(*pulls)
    right(blob, *gots)
    assert {got.resumes for got in gots} == {0}
    gots = await asyncio.gather(*late_pulls)
    right(late_blob, *gots)
    assert {got.resumes for got in gots} == {0}
    # One flight for each replica at worst; who followed already goes on following.
    during = 1 if how == "flushed" else 3
    assert cluster.fetched() <= SIZE * (1 + during)
    if how == "killed":
        await asyncio.to_thread(cluster.redis.start)
    if how == "frozen":
        cluster.redis.resume()
    await up(cluster, 0, 1, 2)
    before = cluster.fetched()
    after, after_blob = slow(cluster, "after")
    right(after_blob, *await asyncio.gather(*cluster.pulls(layer(0, after), *range(3))))
    assert cluster.fetched() == before + SIZE


async def test_without_s3_all_is_served_and_stored_when_it_is_back(cluster: Cluster) -> None:
    await cluster.start(2)
    known = cluster.upstream.add("app", image(3_000_000, 5_000, seed="known"), "known")
    await pull_all(cluster, 0, known, "known")
    await cluster.stored()
    await asyncio.to_thread(cluster.s3.kill)
    before = cluster.upstream.count(kind="blob")
    await pull_all(cluster, 0, known, "known")
    assert cluster.upstream.count(kind="blob") == before
    fresh = cluster.upstream.add("app", image(20_000_000, 6_000, seed="fresh"), "fresh")
    await pull_all(cluster, 0, fresh, "fresh")

    async def all_owed() -> bool:
        # Manifest, config and layers: clients have bytes before they are kept.
        return await cluster.metric(0, "entrepot_pending_uploads ") >= 4

    await until(all_owed, "everything is kept and owed to S3")
    cluster.replicas[0].kill()
    await asyncio.to_thread(cluster.replicas[0].start)
    await asyncio.to_thread(cluster.s3.start)
    await cluster.stored(0)
    pending = cluster.replicas[0].data_dir / "pending"
    await until(
        lambda: not any(path.is_file() for path in pending.rglob("*")),
        "nothing is owed to S3",
        deadline_s=40,
    )
    await cluster.upstream.stop()
    cluster.replicas[0].kill()
    await cluster.start(1)
    await pull_all(cluster, 2, fresh, "fresh")
    await pull_all(cluster, 2, known, "known")


async def test_without_s3_and_upstream_a_replica_serves_what_it_holds_also_after_a_restart(
    cluster: Cluster,
) -> None:
    async with relay_to(cluster.s3.port) as relay:
        through = cluster.s3.settings(prefix=cluster.folder.name, endpoint=relay.url)
        await cluster.start(2, storage={"s3": through})
        made = cluster.upstream.add("app", image(3_000_000, 5_000), "v1")
        for number in range(2):
            await pull_all(cluster, number, made, "v1")
        await cluster.stored()
        await cluster.upstream.stop()
        await relay.cut()
        for number in range(2):
            await pull_all(cluster, number, made, "v1")
        await asyncio.to_thread(cluster.redis.stop)
        await cluster.each(*(replica.restart for replica in cluster.replicas))
        for number in range(2):
            await pull_all(cluster, number, made, "v1")
        got = await cluster.pull(0, "/v2/lab/app/manifests/unknown", tries=1)
        assert got.status == 503


async def test_without_the_upstream_a_new_replica_serves_all_that_is_stored(
    cluster: Cluster,
) -> None:
    await cluster.start(1)
    made = cluster.upstream.add("app", image(20_000_000, 3_000_000, 5_000), "v1")
    await pull_all(cluster, 0, made, "v1")
    await cluster.stored()
    await cluster.upstream.stop()
    cluster.replicas[0].kill()
    await cluster.start(1)
    await pull_all(cluster, 1, made, "v1")
