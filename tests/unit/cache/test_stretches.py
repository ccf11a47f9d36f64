"""What is there or on its way, as lanes begin, get on and end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.cache.demand import Demand
from proxy.cache.flights import Flight, Source
from proxy.cache.pump import Pump
from proxy.cache.spool import Spool
from proxy.cache.stretches import SideLane, Stretches
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey
from tests.support.memory_upstream import MemoryUpstream

DIGEST = Digest.of(b"")


@pytest.fixture
async def stretches(tmp_path: Path):
    spool = Spool(tmp_path / "spool", DIGEST, 10_000)
    spool.create_blocking(whole=False)
    spool.find(0, 100)
    source = Source(MemoryUpstream("lab"), Repository.parse("app"))
    with ThreadPoolExecutor(1) as disk:
        pump = Pump(spool, disk)
        yield Stretches(Flight(BlobKey(PUBLIC, DIGEST), source, whole=False), spool, pump)
        await pump.settle()
    spool.close()


async def bring(stretches: Stretches, lane: SideLane, count: int) -> None:
    await stretches.take(lane.position, b"x" * count, urgent=False)
    lane.position += count


async def test_what_a_lane_does_not_bring_is_lacking_again(stretches: Stretches) -> None:
    demand = Demand(1000, 2000, is_open=False)
    demands = stretches.flight.demands
    demands.add([demand])
    lane, other = SideLane("window", 1000, 2000), SideLane("window", 5000, 6000)
    stretches.begin(lane)
    stretches.begin(other)
    assert list(stretches.coming) == [(0, 100), (1000, 2000), (5000, 6000)]
    assert list(demands.gaps(stretches.coming)) == []
    await bring(stretches, lane, 300)
    await bring(stretches, other, 200)
    stretches.end(lane)
    assert list(stretches.coming) == [(0, 100), (1000, 1300), (5000, 6000)]
    assert list(demands.gaps(stretches.coming)) == [(demand, 1300, 2000)]
    assert list(stretches.have) == [(0, 100), (1000, 1300), (5000, 5200)]


async def test_what_a_lane_brought_is_there_when_it_ends(stretches: Stretches) -> None:
    lane = SideLane("window", 1000, 2000)
    stretches.begin(lane)
    await bring(stretches, lane, 1000)
    stretches.end(lane)
    assert stretches.sides == []
    assert list(stretches.have) == list(stretches.coming) == [(0, 100), (1000, 2000)]


async def test_what_came_without_a_lane_is_there_too(stretches: Stretches) -> None:
    await stretches.take(100, b"x" * 50, urgent=False)
    assert list(stretches.have) == list(stretches.coming) == [(0, 150)]


async def test_a_window_is_unneeded_once_all_who_were_to_read_of_it_are_gone(
    stretches: Stretches,
) -> None:
    demands = stretches.flight.demands
    first, second = Demand(1000, 2000, is_open=False), Demand(2010, 3000, is_open=False)
    demands.add([first, second])
    window, piece = SideLane("window", 1000, 3000), SideLane("piece", 1000, 3000)
    stretches.begin(window)
    stretches.begin(piece)
    assert stretches.unneeded() == []
    demands.remove([second])
    assert stretches.unneeded() == []
    window.position = 2000
    demands.done(first)
    assert stretches.unneeded() == [window]


async def test_a_window_for_who_is_yet_to_come_is_not_unneeded(stretches: Stretches) -> None:
    """Nobody has said yet that he reads of it; somebody left who did not."""
    window, done = SideLane("window", 1000, 3000), SideLane("window", 5000, 5000)
    stretches.begin(window)
    stretches.begin(done)
    elsewhere = Demand(3000, 6000, is_open=False)
    stretches.flight.demands.add([elsewhere])
    stretches.flight.demands.remove([elsewhere])
    # Nor is one that has brought everything.
    assert stretches.unneeded() == []
