"""Several connections for one large blob, where that is faster; else one."""

from __future__ import annotations

import asyncio

from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, path_of, pull_layer, until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content

SIZE = 96 * MIB
CAPPED = Fault(rate_bytes_s=40_000_000)


async def pull(proxy: Running, blob: Content) -> None:
    """As a client does: the manifest first."""
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await pull_layer(proxy, blob)


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


async def test_without_its_manifest_a_blob_comes_in_one_go(
    world: World, upstream: FakeRegistry
) -> None:
    """Its size is not known when it is asked for, and nothing that runs is cut."""
    blob = add_layer(upstream, 40 * MIB)
    upstream.inject(CAPPED, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull_layer(proxy, blob)
    assert upstream.count(kind="blob", method="GET") == 1


async def test_an_upstream_that_fills_the_link_sends_no_byte_twice(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    await pull(proxy, blob)
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE


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
