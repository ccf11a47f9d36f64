"""A link that breaks all the time, a process that is killed: a blob goes on from the bytes
that are there, and comes to its end without the client doing anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from proxy.cache.flights import Source
from proxy.cache.traffic import Urgency, working_as
from proxy.events import FlightEnded
from proxy.ports import BlobKey
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, file_of, path_of, pull_layer, until_landed
from tests.flows.test_crash import Process
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.flaky_link import FlakyLink
from tests.support.waiting import until

SIZE = 48 * MIB


@pytest.fixture
async def link(upstream: FakeRegistry) -> AsyncIterator[FlakyLink]:
    """In front of the upstream; whole, for now."""
    async with FlakyLink(int(upstream.url.rpartition(":")[2])) as link:
        yield link


def over(link: FlakyLink) -> dict[str, object]:
    return {"url": f"http://127.0.0.1:{link.port}", "connect_s": 20, "head_s": 20}


@pytest.mark.parametrize("connections", [1, 4])
async def test_a_link_that_breaks_every_two_megabytes_delivers_each_byte_once(
    world: World, upstream: FakeRegistry, connections: int
) -> None:
    blob = add_layer(upstream, SIZE)
    port = int(upstream.url.rpartition(":")[2])
    async with FlakyLink(port, cut_bytes=2 * MIB) as link:
        proxy = await world.start({"lab": over(link)}, blob_connections_max=connections)
        # One request of one client; whatever happens behind is none of its business.
        await pull_layer(proxy, blob)
        assert link.cuts >= 20
        assert link.delivered <= 1.02 * SIZE


async def test_kills_and_breaks_together_cost_next_to_nothing(
    tmp_path: Path, upstream: FakeRegistry, link: FlakyLink
) -> None:
    blob = add_layer(upstream, SIZE)
    process = Process(tmp_path / "replica", upstream, **over(link))
    try:
        await process.up()
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            proxy = Running(process, client)
            # Early, on a boundary of the journal and off them.
            for at in (1_500_000, 8 * MIB, 33_333_333):
                link.release(hold_at=at)
                pull = asyncio.create_task(proxy.ask(path_of(blob)))
                async with asyncio.timeout(60):
                    await link.held()
                durable = link.delivered - 400_000
                # It comes slowly, so all that came is made durable soon.
                await until(
                    lambda durable=durable: process.journaled() >= durable, "nearly all is durable"
                )
                await process.crash()
                link.cut()
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    assert (await pull).cut
                await process.up()
            link.release()
            await pull_layer(proxy, blob)
            assert link.delivered <= 1.1 * SIZE
    finally:
        await process.crash()


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cache.sources._DELAYS_WITHIN_S", (0.01, 0.01))
    monkeypatch.setattr("proxy.cache.sources._DELAY_LATER_S", 0.05)


async def outage(link: FlakyLink, tries_end: Callable[[], bool]) -> None:
    """Down until the ordinary tries are certainly used up."""
    link.down()
    await until(tries_end, "the ordinary tries are used up")


async def test_a_client_that_waits_is_waited_with_until_the_link_is_back(
    world: World, upstream: FakeRegistry, link: FlakyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": over(link)})
    link.hold_at = SIZE // 2
    pull = asyncio.create_task(pull_layer(proxy, blob))
    await link.held()
    assert proxy.entrepot.status is not None
    lab = proxy.entrepot.status._upstreams["lab"]
    # Three refusals in a row, and the upstream is left alone for a while.
    await outage(link, lambda: lab.health().state == "failing")
    assert not pull.done()
    link.release()
    link.up()
    proxy.let_time_pass("lab", 60)
    await pull
    assert link.delivered <= 1.02 * SIZE


async def test_a_warm_up_is_as_patient_as_a_client(
    world: World, upstream: FakeRegistry, link: FlakyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": over(link)})
    assert proxy.entrepot.status is not None
    status = proxy.entrepot.status
    lab = status._upstreams["lab"]
    link.hold_at = SIZE // 2
    with working_as(Urgency.WARM, "warm"):
        status._cache.flights.join(BlobKey("public", blob.digest), Source(lab, "app"))
    await link.held()
    await outage(link, lambda: lab.health().state == "failing")
    assert len(status._cache.flights) == 1
    link.release()
    link.up()
    proxy.let_time_pass("lab", 60)
    await until_landed(proxy)
    assert file_of(world, blob).stat().st_size == SIZE
    assert link.delivered <= 1.02 * SIZE


async def test_what_nobody_waits_for_is_given_up_and_gone_on_with_later(
    world: World, upstream: FakeRegistry, link: FlakyLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": over(link)})
    ended: list[FlightEnded] = []
    proxy.entrepot.telemetry.tell(
        lambda event: ended.append(event) if isinstance(event, FlightEnded) else None
    )
    link.hold_at = SIZE // 2
    pull = asyncio.create_task(proxy.ask(path_of(blob)))
    await link.held()
    pull.cancel()
    await asyncio.gather(pull, return_exceptions=True)
    assert proxy.entrepot.status is not None
    flights = proxy.entrepot.status._cache.flights
    await until(lambda: not any(one.followers for one in flights.all()), "its client has left")
    await outage(link, lambda: len(flights) == 0)
    assert [one.outcome for one in ended] == ["failed"]
    link.release()
    link.up()
    proxy.let_time_pass("lab", 60)
    await pull_layer(proxy, blob)
    assert link.delivered <= 1.02 * SIZE


async def test_a_page_of_a_portal_in_place_of_the_blob_does_not_make_it_start_over(
    world: World, upstream: FakeRegistry, link: FlakyLink
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": over(link)})
    link.hold_at = SIZE // 2
    pull = asyncio.create_task(proxy.ask(path_of(blob)))
    await link.held()
    # All that came is kept when it stops.
    await proxy.entrepot.__aexit__(None, None, None)
    link.cut()
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        assert (await pull).cut
    link.release()
    upstream.inject(Fault(html=True), kind="blob", method="GET", times=3)
    again = await world.start({"lab": over(link)})
    # Three tries are what the fill has; the client, or its user, comes again.
    assert (await again.ask(path_of(blob))).status >= 500
    await pull_layer(again, blob)
    assert link.delivered <= 1.02 * SIZE
