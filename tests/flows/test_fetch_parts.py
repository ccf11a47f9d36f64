"""Which parts of blobs upstreams are asked for, as an operator sees it."""

from __future__ import annotations

from typing import get_args

from proxy.events import Part
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, path_of, pull_layer, until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image


async def parts(proxy: Running) -> dict[str, float]:
    return {
        part: await proxy.metric("entrepot_fetch_parts_total", upstream="lab", part=part)
        for part in get_args(Part)
    }


async def test_ranges_are_windows_and_what_is_whole_is_the_main_part(
    world: World, upstream: FakeRegistry
) -> None:
    large = add_layer(upstream, 40 * MIB)
    small = upstream.add("small", image(1000), "v1").layers[0]
    proxy = await world.start({"lab": upstream})
    for _ in range(2):
        for at in (30, 2, 17):
            answer = await proxy.ask(path_of(large), Range=f"bytes={at * MIB}-{at * MIB + 99}")
            assert answer.status == 206
    assert await parts(proxy) == {"main": 0, "piece": 0, "window": 3}
    assert upstream.count(kind="blob", method="GET") == 3
    await pull_layer(proxy, small, "small")
    assert await parts(proxy) == {"main": 1, "piece": 0, "window": 3}


async def test_pieces_are_counted_where_several_connections_are_worth_it(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, 96 * MIB)
    fault = Fault(rate_bytes_s=40_000_000)
    upstream.inject(fault, kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, blob_connections_max=4)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    counted = await parts(proxy)
    assert counted["piece"] > 0
    assert counted["window"] == 0
    assert sum(counted.values()) == upstream.count(kind="blob", method="GET")
