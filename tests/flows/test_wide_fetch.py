"""Several connections for one large blob, where that is faster; else one."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache import width
from proxy.cache.main_lane import PIECE_BYTES
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, add_layers, path_of, pull_layer, until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import Content
from tests.support.waiting import until

SIZE = 96 * MIB
CAPPED = Fault(rate_bytes_s=40_000_000)
# So slow that there is time to try several connections, however busy the machine.
TIGHT = Fault(rate_bytes_s=15_000_000)


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections pay, whatever this machine's noise makes of their rates.

    Which rates are worth it is for `Width`'s own tests.
    """
    monkeypatch.setattr(width, "_GAIN_MIN", 0.0)


async def pull(proxy: Running, blob: Content) -> None:
    """As a client does: the manifest first."""
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await pull_layer(proxy, blob)


def span(asked: str) -> tuple[int, int]:
    """`[start, end)` of a Range header, of a blob that is no larger than `SIZE`."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(first or 0), int(last) + 1 if last else SIZE


def first_not_in(spans: list[tuple[int, int]]) -> int:
    """The first byte that none of them has."""
    at = 0
    for start, end in sorted(spans):
        if start > at:
            break
        at = max(at, end)
    return at


async def test_where_each_connection_is_capped_several_are_used(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    await until_landed(proxy)
    asked = upstream.requests(kind="blob", method="GET")
    assert len(asked) > 2
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE
    await upstream.stop()
    await pull_layer(proxy, blob)


async def test_one_connection_only_where_that_is_the_setting(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, 40 * MIB)
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=1)
    await pull(proxy, blob)
    assert upstream.count(kind="blob", method="GET") == 1


@pytest.mark.parametrize(("size", "several"), [(32 * MIB, True), (32 * MIB - 1, False)])
async def test_blobs_from_32_mib_on_are_worth_several(
    world: World, upstream: FakeRegistry, size: int, several: bool
) -> None:
    blob = add_layer(upstream, size)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    assert (upstream.bodies_at_once > 1) is several
    assert (upstream.count(kind="blob", method="GET") > 1) is several
    assert upstream.bytes_sent(kind="blob", method="GET") == size


@pytest.mark.usefixtures("worth_it")
async def test_pieces_are_fetched_in_the_order_of_need(
    world: World, upstream: FakeRegistry
) -> None:
    """Whoever follows waits for the first byte that is missing."""
    blob = add_layer(upstream, 72 * MIB)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    requests = upstream.requests(kind="blob", method="GET")
    asked = [span(seen.headers.get("Range", "")) for seen in requests]
    assert len(asked) > 5
    for number, (start, _) in enumerate(asked):
        # Those sent together arrive in any order: of four, three may do so too early.
        assert start - first_not_in(asked[:number]) <= 3 * PIECE_BYTES, asked


@pytest.mark.usefixtures("worth_it")
async def test_one_blob_takes_no_more_than_half_of_an_upstreams_connections(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, 72 * MIB)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    limited = {"url": upstream.url, "connections_max": 8}
    proxy = await world.start({"lab": limited}, blob_connections_max=8)
    await pull(proxy, blob)
    assert upstream.bodies_at_once == 4


@pytest.mark.usefixtures("worth_it")
async def test_several_blobs_together_never_pass_an_upstreams_connections(
    world: World, upstream: FakeRegistry
) -> None:
    blobs = add_layers(upstream, 3, 33 * MIB)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    limited = {"url": upstream.url, "connections_max": 8}
    proxy = await world.start({"lab": limited}, blob_connections_max=8)
    for number in range(3):
        assert (await proxy.ask(f"/v2/lab/app/manifests/v{number}")).status == 200
    await asyncio.gather(*(pull_layer(proxy, blob) for blob in blobs))
    assert 3 < upstream.bodies_at_once <= 8


async def test_sizes_are_known_again_after_a_restart(world: World, upstream: FakeRegistry) -> None:
    blob = add_layer(upstream, 40 * MIB)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600, blob_connections_max=4)
    await pull(proxy, blob)
    assert upstream.count(kind="manifest") == 1
    assert upstream.bodies_at_once > 1


async def test_sizes_are_known_from_a_manifest_that_another_replica_fetched(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, 40 * MIB)
    upstream.inject(TIGHT, kind="blob", method="GET", times=None)
    async with FakeS3() as store, world.stack:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        shared = {"storage": {"s3": s3}, "tag_fresh_s": 3600, "blob_connections_max": 4}
        one = await world.start({"lab": upstream}, data_dir=str(world.root / "one"), **shared)
        assert (await one.ask("/v2/lab/app/manifests/v1")).status == 200
        await until(lambda: any("/_tags/" in key for key in store.objects), "the tag is shared")
        other = await world.start({"lab": upstream}, data_dir=str(world.root / "other"), **shared)
        await pull(other, blob)
        assert upstream.count(kind="manifest") == 1
        assert upstream.bodies_at_once > 1


async def test_without_its_manifest_a_blob_comes_in_one_go(
    world: World, upstream: FakeRegistry
) -> None:
    """Its size is not known when it is asked for, and nothing that runs is cut."""
    blob = add_layer(upstream, 40 * MIB)
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull_layer(proxy, blob)
    assert upstream.count(kind="blob", method="GET") == 1


@pytest.mark.parametrize("size", [32 * MIB, SIZE])
async def test_an_upstream_that_fills_the_link_sends_no_byte_twice(
    world: World, upstream: FakeRegistry, size: int
) -> None:
    blob = add_layer(upstream, size)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    assert upstream.bytes_sent(kind="blob", method="GET") == size


async def test_an_upstream_without_ranges_is_left_to_one_connection(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    fault = Fault(rate_bytes_s=40_000_000, ignore_range=True)
    upstream.inject(fault, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    whole = [seen for seen in upstream.requests(kind="blob", method="GET") if seen.sent == SIZE]
    assert len(whole) == 1


async def test_pieces_that_break_are_fetched_on_and_followers_notice_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(CAPPED, kind="blob", method="GET")
    for _ in range(4):
        upstream.inject(Fault(rate_bytes_s=40_000_000, reset_at=3 * MIB), kind="blob", method="GET")
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await asyncio.gather(*(pull(proxy, blob) for _ in range(3)))


async def test_wrong_bytes_in_a_piece_are_never_completed_nor_kept(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(CAPPED, kind="blob", method="GET")
    upstream.inject(Fault(rate_bytes_s=40_000_000, flip_at=500), kind="blob", method="GET")
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    answer = await proxy.ask(path_of(blob))
    assert answer.cut
    assert len(answer.body) <= SIZE - 256 * 1024
    await until_landed(proxy)
    upstream.heal()
    await pull_layer(proxy, blob)


@pytest.mark.parametrize("connections", [1, 4])
async def test_of_what_the_store_has_no_part_is_asked_of_the_upstream(
    world: World, upstream: FakeRegistry, connections: int
) -> None:
    """However often the fill of another replica goes on somewhere else."""
    blob = add_layer(upstream, 64 * MIB)
    async with FakeS3() as store, world.stack:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        shared = {"storage": {"s3": s3}, "tag_fresh_s": 3600, "blob_connections_max": connections}
        one = await world.start({"lab": upstream}, data_dir=str(world.root / "one"), **shared)
        await pull(one, blob)
        kept = f"blobs/public/sha256/{blob.digest.hex[:2]}/{blob.digest.hex}"
        await until(lambda: kept in store.objects, "it is stored")
        sent = upstream.bytes_sent(kind="blob", method="GET")
        other = await world.start({"lab": upstream}, data_dir=str(world.root / "other"), **shared)
        assert (await other.ask("/v2/lab/app/manifests/v1")).status == 200
        for at in (20 * MIB, 30 * MIB, 40 * MIB):
            wanted = {"Range": f"bytes={at}-{at + 2 * MIB - 1}"}
            assert (await other.ask(path_of(blob), **wanted)).body == blob.body[at : at + 2 * MIB]
        url, tail = other.url + path_of(blob), {"Range": f"bytes={50 * MIB}-"}
        async with other.client.get(url, headers=tail) as ahead:
            # It does not read on.
            assert await ahead.content.readexactly(1) == blob.body[50 * MIB : 50 * MIB + 1]
            await pull_layer(other, blob)
        assert upstream.bytes_sent(kind="blob", method="GET") == sent
