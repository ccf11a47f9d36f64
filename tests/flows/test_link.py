"""The link manager in the running proxy: caps, classes, places; and that a transfer that is
held back is not taken for one that stalls.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from proxy.cache.flights import Flight, Source
from proxy.cache.traffic import Urgency, working_as
from proxy.ports import BlobKey
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, add_layers, pull_layer, until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content
from tests.support.waiting import until

RATE = 8_000_000
# What a bucket holds, and a piece or two of each transfer.
HEADROOM = 2_500_000


def warm_up(proxy: Running, blob: Content) -> Flight:
    """Fetch it although nobody waits."""
    assert proxy.entrepot.status is not None
    status = proxy.entrepot.status
    source = Source(status._upstreams["lab"], "app")
    with working_as(Urgency.WARM, "warm"):
        flight, _ = status._cache.flights.join(BlobKey("public", blob.digest), source)
    return flight


async def until_fetched(flight: Flight, at_least: int) -> None:
    await until(lambda: flight.fetched >= at_least, f"{at_least} bytes are fetched")


@pytest.mark.parametrize("where", ["all", "one"])
async def test_a_cap_is_kept_by_large_and_small_blobs_together(
    world: World, upstream: FakeRegistry, where: str
) -> None:
    cap = {"rate": f"{RATE}B/s"}
    large, small = add_layers(upstream, 2, 5_000_000), add_layers(upstream, 3, 1_500_000)
    own = {"url": upstream.url, "link": cap if where == "one" else {}}
    proxy = await world.start({"lab": own}, link=cap if where == "all" else {})
    began = time.monotonic()
    await asyncio.gather(*(pull_layer(proxy, blob) for blob in (*large, *small)))
    # Slower is always possible on a busy machine; faster never.
    total = sum(len(blob.body) for blob in (*large, *small))
    assert time.monotonic() - began >= (total - HEADROOM) / RATE
    await proxy.settled()
    proxy.entrepot.telemetry.render()
    count = await proxy.metric("entrepot_link_bytes_total", upstream="lab", **{"class": "waiting"})
    assert count == upstream.bytes_sent(kind="blob")
    assert await proxy.metric("entrepot_link_paused_seconds_total", upstream="lab") > 0
    name = "" if where == "all" else "lab"
    assert await proxy.metric("entrepot_link_rate_bytes", upstream=name) == RATE


async def test_manifests_are_counted_and_never_wait(world: World, upstream: FakeRegistry) -> None:
    blob = add_layer(upstream, 4 * MIB)
    proxy = await world.start({"lab": upstream}, link={"rate": "1MB/s"})
    pull = asyncio.create_task(pull_layer(proxy, blob))
    await upstream.wait_requests(1, kind="blob")
    for _ in range(5):
        assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    assert not pull.done()
    await pull


async def test_without_a_cap_a_warm_up_makes_way_for_who_waits(
    world: World, upstream: FakeRegistry
) -> None:
    warm, urgent = add_layers(upstream, 2, 12 * MIB)
    upstream.inject(Fault(rate_bytes_s=30_000_000), kind="blob", method="GET", times=1)
    upstream.inject(Fault(rate_bytes_s=4_000_000), kind="blob", method="GET", times=1)
    proxy = await world.start({"lab": upstream})
    flight = warm_up(proxy, warm)
    await until_fetched(flight, 1 * MIB)
    pull = asyncio.create_task(pull_layer(proxy, urgent))
    await upstream.wait_requests(2, kind="blob")
    had = flight.fetched

    async def paused() -> int:
        count = (await proxy.status())["link"]["transfers"]["warm"]["paused"]
        assert count or not pull.done()
        return int(count)

    await until(paused, "the warm-up is paused")
    await pull
    # It had three seconds for what it otherwise gets in half of one.
    assert flight.fetched - had < 4 * MIB
    await until_landed(proxy)
    # It was not ended for that, and asked for anew.
    assert upstream.count(kind="blob", method="GET") == 2
    assert upstream.bytes_sent(kind="blob") == 24 * MIB
    await upstream.stop()
    await pull_layer(proxy, warm)


async def test_a_client_that_wants_what_is_being_warmed_up_gets_it_now(
    world: World, upstream: FakeRegistry
) -> None:
    warm, urgent = add_layers(upstream, 2, 8 * MIB)
    held = asyncio.Event()
    slow = Fault(stall_at=7 * MIB, stall=held, rate_bytes_s=2_000_000)
    upstream.inject(slow, kind="blob", match=lambda seen: seen.reference == str(urgent.digest))
    proxy = await world.start({"lab": upstream}, link={"rate": "200Mbit/s"})
    other = asyncio.create_task(pull_layer(proxy, urgent))
    await upstream.wait_requests(1, kind="blob")
    flight = warm_up(proxy, warm)
    await upstream.wait_requests(2, kind="blob")
    # While the other one is at it, at its 2 MB/s.
    await pull_layer(proxy, warm)
    assert flight.traffic.urgency is Urgency.WAITING
    assert not other.done()
    held.set()
    await other
    assert upstream.count(kind="blob", method="GET") == 2


async def test_nobody_waits_for_a_place_that_a_warm_up_has(
    world: World, upstream: FakeRegistry
) -> None:
    warm, next_warm, urgent = add_layers(upstream, 3, 6 * MIB)
    held = asyncio.Event()
    stalled = Fault(stall_at=3 * MIB, stall=held)
    upstream.inject(stalled, kind="blob", match=lambda seen: seen.reference == str(warm.digest))
    proxy = await world.start({"lab": upstream}, link={"fetches_max": 1})
    flight = warm_up(proxy, warm)
    await until_fetched(flight, 2 * MIB)
    warm_up(proxy, next_warm)
    await pull_layer(proxy, urgent)
    asked = [seen.reference for seen in upstream.requests(kind="blob", method="GET")]
    assert asked == [str(warm.digest), str(urgent.digest)]
    transfers = (await proxy.status())["link"]["transfers"]["warm"]
    assert transfers["not_begun"] == 1
    assert await proxy.metric("entrepot_link_waiting_transfers", **{"class": "warm"}) >= 1
    held.set()
    await until_landed(proxy)
    assert upstream.count(kind="blob", method="GET") == 3


async def test_the_rate_follows_the_clock(world: World, upstream: FakeRegistry) -> None:
    now = datetime(2026, 11, 23, 17, 59, 59, tzinfo=UTC).timestamp()
    world.clock = lambda: now
    hours = [{"days": "mon-fri", "from": "08:00", "to": "18:00", "rate": "8Mbit/s"}]
    proxy = await world.start({"lab": upstream}, link={"time_zone": "UTC", "hours": hours})
    link = (await proxy.status())["link"]
    assert (link["rate_bytes_s"], link["rate_changes_in_s"]) == (1_000_000, 1.0)
    blob = add_layer(upstream, 30 * MIB)
    pull = asyncio.create_task(pull_layer(proxy, blob))
    await upstream.wait_requests(1, kind="blob")
    now += 1
    # At 1 MB/s it would take half a minute.
    async with asyncio.timeout(25):
        await pull
    link = (await proxy.status())["link"]
    assert link["rate_bytes_s"] is None
    assert link["rate_changes_in_s"] == 14 * 3600.0
