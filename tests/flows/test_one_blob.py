"""One blob under everything at once: ranges, wholes, clients that leave, faults of the
upstream and restarts, drawn by a seeded machine, on a blob that is large for the
sizes it is cut into here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import aiohttp
import pytest

from proxy.cache import bringing, demand, journal, lanes, main_lane, pump, sources, stretches
from proxy.cache.fetching import SMALL_BYTES_MAX
from proxy.cache.spool import WITHHELD_BYTES
from tests.flows.conftest import Running, World
from tests.flows.layers import add_layer, file_of, path_of, pull_layer, until_landed
from tests.flows.test_lazy_trouble import room_of
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content

SIZE = 1_500_007
KIB = 1024
STEPS = 60
assert SIZE > 4 * WITHHELD_BYTES > SMALL_BYTES_MAX


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is measured in MiB is measured in KiB."""
    for module, name, value in (
        (bringing, "COMPLETE_BYTES_MAX", 8 * KIB),
        (bringing, "WINDOW_BYTES_MIN", 8 * KIB),
        (demand, "WINDOW_BYTES_MIN", 8 * KIB),
        (demand, "WINDOW_BYTES_MAX", 64 * KIB),
        (journal, "EXTENT_BYTES", 64 * KIB),
        (lanes, "AHEAD_BYTES_MAX", 64 * KIB),
        (lanes, "PIECE_BYTES", 64 * KIB),
        (lanes, "SKIP_BYTES_MIN", 8 * KIB),
        (lanes, "_LINGER_S", 0.01),
        (main_lane, "PIECE_BYTES", 64 * KIB),
        (main_lane, "CUT_BYTES_MIN", 128 * KIB),
        (pump, "BATCH_BYTES", 32 * KIB),
        (pump, "PENDING_BYTES_MAX", 128 * KIB),
        (stretches, "SKIP_BYTES_MIN", 8 * KIB),
        (sources, "_DELAYS_BEFORE_S", (0.001, 0.001)),
        (sources, "_DELAYS_WITHIN_S", (0.001, 0.001, 0.001)),
        (sources, "_PATIENCE_S", 0),
    ):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)


class Storm:
    """Asks, and looks at each answer."""

    def __init__(self, seed: int, world: World, upstream: FakeRegistry, blob: Content) -> None:
        self.dice = random.Random(seed)
        self.world = world
        self.upstream = upstream
        self.blob = blob
        self.wholes = 0

    def fault(self) -> Fault:
        at = self.dice.randrange(1, 60_000)
        return self.dice.choice(
            [
                Fault(reset_at=at),
                Fault(reset_at=0),
                Fault(end_at=at),
                Fault(status=500),
                Fault(status=416),
                Fault(hang_up=True),
                Fault(ignore_range=True),
                Fault(chunked=True),
                Fault(flip_at=0),
                Fault(rate_bytes_s=4_000_000),
            ]
        )

    async def whole(self, proxy: Running) -> None:
        answer = await proxy.ask(path_of(self.blob))
        if answer.status != 200:
            assert answer.status in {502, 503, 504}
        elif answer.cut:
            assert len(answer.body) <= SIZE - WITHHELD_BYTES
        else:
            # A whole body that was ended in good order is right, whatever happened.
            assert answer.body == self.blob.body
            self.wholes += 1

    async def ranges(self, proxy: Running) -> None:
        spans = []
        for _ in range(self.dice.choice([1, 1, 1, 5])):
            start = self.dice.randrange(SIZE)
            spans.append((start, min(SIZE, start + self.dice.randrange(1, 90_000))))
        header = "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in spans)
        if len(spans) == 1 and self.dice.random() < 0.3:
            header = f"bytes={spans[0][0]}-"
        answer = await proxy.ask(path_of(self.blob), Range=header)
        assert answer.status in {206, 502, 503, 504}
        if answer.status == 206 and not answer.cut:
            assert len(answer.body) == int(answer.headers["Content-Length"])

    async def leaving(self, proxy: Running) -> None:
        headers = (
            {"Range": f"bytes={self.dice.randrange(SIZE)}-"} if self.dice.random() < 0.7 else {}
        )
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with proxy.client.get(proxy.url + path_of(self.blob), headers=headers) as got:
                await got.content.readany()
                got.close()

    async def blow(self, proxy: Running) -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(STEPS):
            if self.dice.random() < 0.4:
                self.upstream.inject(self.fault(), kind="blob", method="GET")
            step = self.dice.choices([self.ranges, self.leaving, self.whole], [8, 3, 1])[0]
            tasks.append(asyncio.create_task(step(proxy)))
            if self.dice.random() < 0.5:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("connections", [1, 4])
async def test_whatever_happens_nothing_hangs_leaks_or_is_wrong(
    world: World, upstream: FakeRegistry, seed: int, connections: int
) -> None:
    blob = add_layer(upstream, SIZE)
    storm = Storm(seed, world, upstream, blob)
    for _ in range(2):
        proxy = await world.start({"lab": upstream}, blob_connections_max=connections)
        await storm.blow(proxy)
        # A stop in the middle: what it left is gone on from.
        asked = asyncio.create_task(storm.ranges(proxy))
        await asyncio.sleep(0)
        asked.cancel()
        await world.stack.aclose()
    upstream.heal()
    proxy = await world.start({"lab": upstream}, blob_connections_max=connections)
    proxy.let_time_pass("lab", 1000)
    # What lies were left are found out by the first whole pull at the latest.
    await storm.whole(proxy)
    await until_landed(proxy)
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    assert file_of(world, blob).read_bytes() == blob.body
    assert list((world.root / "data/spool").iterdir()) == []
    room = room_of(proxy)
    assert (room.reserved, room.left) == (0, 0)
