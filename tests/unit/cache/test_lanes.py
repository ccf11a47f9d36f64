"""How many lanes of one fill begin before the upstream has heard of any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.cache.demand import Demand
from proxy.cache.flights import Flight, Source
from proxy.cache.lanes import Lanes
from proxy.cache.pump import Pump
from proxy.cache.sources import Reader
from proxy.cache.spool import Spool
from proxy.cache.stretches import Kind, Stretches
from proxy.cache.supplies import Origin, Supply
from proxy.cache.width import Width
from proxy.errors import EntrepotError, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, Body
from tests.support.memory_upstream import MemoryUpstream

DIGEST = Digest.of(b"")
SIZE = 1_000_000
SPARE = 6


class Broken:
    """A supply that can't be reached."""

    origin: Origin = "upstream"
    name = "lab"
    repository = "app"

    @asynccontextmanager
    async def open(
        self, _digest: Digest, *, start: int, end: int | None
    ) -> AsyncIterator[Body | None]:
        raise UpstreamUnavailable(f"no bytes {start}-{end}")
        yield


class Undecided:
    """Supplies that are yet to find one, as when another replica is asked first."""

    async def choose(self) -> Supply:
        await asyncio.Event().wait()
        raise AssertionError

    def refused(self, supply: Supply, error: EntrepotError | None) -> None: ...

    def failed(self, supply: Supply, error: UpstreamUnavailable) -> None: ...

    def hopeless(self) -> bool:
        return False

    def retry_in_s(self) -> float:
        return 0.0


class Failing(Undecided):
    """Supplies that broke, and are tried again in a moment."""

    async def choose(self) -> Supply:
        return Broken()


async def allocate() -> None: ...


@pytest.fixture
async def stretches(tmp_path: Path):
    spool = Spool(tmp_path / "spool", DIGEST, SIZE)
    spool.create_blocking(whole=False)
    source = Source(MemoryUpstream("lab"), Repository.parse("app"))
    with ThreadPoolExecutor(1) as disk:
        yield Stretches(
            Flight(BlobKey(PUBLIC, DIGEST), source, whole=False), spool, Pump(spool, disk)
        )
    spool.close()


async def turns() -> None:
    """So many that nothing is left to be done."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("supplies", [Undecided, Failing])
async def test_windows_that_have_yet_to_ask_take_the_connections_that_they_will(
    stretches: Stretches, supplies: type[Undecided]
) -> None:
    def open_reader(_kind: Kind, start: int, end: int | None) -> Reader:
        return Reader(
            DIGEST, supplies(), observe=lambda _event: None, start=start, end=end, size=SIZE
        )

    lanes = Lanes(
        stretches,
        open_reader=open_reader,
        allocate=allocate,
        width=Width(1),
        spare_connections=lambda: SPARE,
    )
    running = asyncio.create_task(lanes.run("window", None))
    demands = stretches.flight.demands
    for start in (0, 50_000):
        await turns()
        demands.add(Demand(at, at + 9, is_open=False) for at in range(start, SIZE, 100_000))
    await turns()
    assert len(stretches.sides) == SPARE
    running.cancel()
    await asyncio.wait([running])
    assert stretches.sides == []
